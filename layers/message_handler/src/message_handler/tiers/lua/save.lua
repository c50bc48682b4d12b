-- Compare and set one line (see Save in ../port.py, which says what is compared and written).
--
-- KEYS[1]  hash: the line's fields          KEYS[2]  hash: what is remembered of messages, by their ids
-- KEYS[3]  sorted set of the shard: conversation -> Unix seconds at which the sweep should look at it
-- KEYS[4]  sorted set of the shard: a job whose end Postgres lacks and its conversation -> Unix seconds at which it ended
-- KEYS[5…] a string for each name that is looked up, then for each job that is written: its end, or '>' + the line's name
-- ARGV[1…] as below ('-' for none), then as many as `counts` says: ids, wanted, then what is set, gone, remembered, forgotten, and
--          jobs (each its text, for how many seconds, and how that index names it, '-' if it has not to)
-- Returns  'saved', or {'saved', the wanted fields}; or {'met', time, structure, what is remembered, which names are taken}

local member, seen, head, counts = unpack(ARGV, 1, 4)
local compared, version, heartbeat_at, now, clock, due_at, ttl, remembered_ttl, margin, most =
  string.match(head, '(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)')
local ids, unknown_ids, names, unknown_names, wanted, set, gone, remembered, forgotten, jobs, erases =
  string.match(counts, '(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)')
local at = 4

-- Call a command with the next `count` words, in pieces that fit onto Lua's stack; all that it returned.
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

local is = redis.call('HMGET', KEYS[1], compared, 'heartbeat_at', 'version')
local repeated = is[3] == version
local allowed = (is[1] or '') == seen and (heartbeat_at == '*' or (is[2] or '-') == heartbeat_at)
local time = clock
if clock == '-' then
  local told = redis.call('TIME')
  time = told[1] .. string.format('.%06d', told[2])
end
allowed = allowed and math.abs(time - now) <= tonumber(margin)
local found = each('HMGET', KEYS[2], ids)
for index = 1, unknown_ids do
  allowed = allowed and not found[index]
end
local taken = {}
for index = 1, names do
  local job = redis.call('GET', KEYS[4 + index])
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
  for index = 1, jobs do
    redis.call('ZREM', KEYS[4], ARGV[at + 3 * index])
  end
  for index, key in ipairs(KEYS) do
    if index ~= 3 and index ~= 4 then
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
-- A caller may want a text that goes with this save.
local after_set = at
at = first_wanted
local brought = each('HMGET', KEYS[1], wanted)
at = after_set
if not repeated then
  each('HDEL', KEYS[1], gone)
  if set ~= '0' and ttl ~= '-' then
    redis.call('EXPIRE', KEYS[1], ttl)
  end
  if due_at == '-' then
    redis.call('ZREM', KEYS[3], member)
  elseif due_at ~= '=' then
    redis.call('ZADD', KEYS[3], due_at, member)
  end
  if remembered ~= '0' then
    -- It is a cache: past its bound it starts anew.
    local held = redis.call('HLEN', KEYS[2])
    if held + remembered / 2 > tonumber(most) then
      redis.call('DEL', KEYS[2])
      held = 0
    end
    each('HSET', KEYS[2], remembered)
    if held == 0 or redis.call('TTL', KEYS[2]) < tonumber(remembered_ttl) then
      redis.call('EXPIRE', KEYS[2], remembered_ttl)
    end
  end
  each('HDEL', KEYS[2], forgotten)
  for index = 1, jobs do
    local text, seconds, entry = unpack(ARGV, at + 3 * index - 2, at + 3 * index)
    redis.call('SET', KEYS[4 + names + index], text, 'EX', seconds)
    if entry ~= '-' then
      redis.call('ZADD', KEYS[4], time, entry)
    end
  end
end
if wanted == '0' then
  return 'saved'
end
return {'saved', brought}
