-- Compares and sets one line. See Save in ports/line_store.py for what is compared and written.
--
-- Keys:
--   1     Hash: the line's fields.
--   2     Hash: what is remembered of messages, by their ids.
--   3     Sorted set of the shard. Members: conversations. Scores: when the sweep should look (Unix seconds).
--   4     Sorted set of the shard. Members: jobs whose ends Postgres lacks. Scores: when they ended (Unix seconds).
--   5     As key 3, for the tenant's conversations alone.
--   6…    Strings. First the jobs that are looked up by their names, then the jobs to write. Each has the end of its
--         job, or '>' and the conversation. An erasure deletes all keys but 3 to 5, and has one more: the line as an
--         earlier release kept it.
--
-- Arguments, with '-' for a value that is absent:
--   1     The conversation, as a member of key 3.
--   2     What the compared field must be.
--   3     Single values. `version` is this save's own. `heartbeat_at` is '*' if it is not compared. `clock` is a test's
--         time. `due_at` is '=' if it stays. Times are Unix seconds.
--   4     How many words of each kind follow. The unknown ids and unused names come first among their kind.
--   5…    These words: ids, wanted fields, fields to set, fields to remove, messages to remember, messages to forget, and
--         jobs. A job has three words: its text, its life in seconds, and its member of key 4.
--
-- Returns 'saved', or {'saved', the wanted fields}.
-- If something is not as expected: {'met', time, the line's structure, what is remembered, which names are taken}.

local member, expected, head, counts = unpack(ARGV, 1, 4)
local compared, version, heartbeat_at, now, clock, due_at, ttl, remembered_ttl, margin, most =
  string.match(head, '(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)')
local ids, unknown_ids, names, unknown_names, wanted, set, gone, remembered, forgotten, jobs, erases =
  string.match(counts, '(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)')
local at = 4

-- Calls a command with the next `count` words, in pieces that fit onto Lua's stack. Returns all answers.
local function each(command, key, count)
  local answers, last = {}, at + count
  while at < last do
    local upto = math.min(at + 4000, last)
    local answer = redis.call(command, key, unpack(ARGV, at + 1, upto))
    if upto - at == tonumber(count) then
      answers = answer
    elseif type(answer) == 'table' then
      for index = 1, #answer do
        answers[#answers + 1] = answer[index]
      end
    end
    at = upto
  end
  return answers
end

local stored = redis.call('HMGET', KEYS[1], compared, 'heartbeat_at', 'version')
local repeated = stored[3] == version
local allowed = (stored[1] or '') == expected and (heartbeat_at == '*' or (stored[2] or '-') == heartbeat_at)
local time = clock
if clock == '-' then
  local server_time = redis.call('TIME')
  time = server_time[1] .. string.format('.%06d', server_time[2])
end
allowed = allowed and math.abs(time - now) <= tonumber(margin)
local found = each('HMGET', KEYS[2], ids)
for index = 1, unknown_ids do
  allowed = allowed and not found[index]
end
local taken = {}
for index = 1, names do
  local job = redis.call('GET', KEYS[5 + index])
  taken[index] = job and string.sub(job, 1, 1) ~= '>' and 1 or 0
  allowed = allowed and (taken[index] == 0 or index > tonumber(unknown_names))
end

if not allowed and not repeated then
  local structure =
    redis.call('HMGET', KEYS[1], 'version', 'line', 'holder', 'heartbeat_at', 'acquired_at', 'progress')
  return {'met', time, structure, found, taken}
end
if erases == '1' then
  redis.call('ZREM', KEYS[3], member)
  redis.call('ZREM', KEYS[5], member)
  for index = 1, jobs do
    redis.call('ZREM', KEYS[4], ARGV[at + 3 * index])
  end
  for index, key in ipairs(KEYS) do
    if index < 3 or index > 5 then
      redis.call('DEL', key)
    end
  end
  return 'saved'
end
local first_wanted = at
at = at + wanted
if not repeated then
  each('HSET', KEYS[1], set)
end
-- A step's caller may want a text that this save removes. So it is read before the removal.
local after_set = at
at = first_wanted
local wanted_texts = each('HMGET', KEYS[1], wanted)
at = after_set
if not repeated then
  each('HDEL', KEYS[1], gone)
  if set ~= '0' and ttl ~= '-' then
    redis.call('EXPIRE', KEYS[1], ttl)
  end
  if due_at == '-' then
    redis.call('ZREM', KEYS[3], member)
    redis.call('ZREM', KEYS[5], member)
  elseif due_at ~= '=' then
    redis.call('ZADD', KEYS[3], due_at, member)
    redis.call('ZADD', KEYS[5], due_at, member)
  end
  if remembered ~= '0' then
    -- This hash is a cache. At its bound it is emptied.
    local size = redis.call('HLEN', KEYS[2])
    if size + remembered / 2 > tonumber(most) then
      redis.call('DEL', KEYS[2])
      size = 0
    end
    each('HSET', KEYS[2], remembered)
    if size == 0 or redis.call('TTL', KEYS[2]) < tonumber(remembered_ttl) then
      redis.call('EXPIRE', KEYS[2], remembered_ttl)
    end
  end
  each('HDEL', KEYS[2], forgotten)
  for index = 1, jobs do
    local text, seconds, entry = unpack(ARGV, at + 3 * index - 2, at + 3 * index)
    redis.call('SET', KEYS[5 + names + index], text, 'EX', seconds)
    if entry ~= '-' then
      redis.call('ZADD', KEYS[4], time, entry)
    end
  end
end
if wanted == '0' then
  return 'saved'
end
return {'saved', wanted_texts}
