-- What every step shares; put in front of each step's script. Before it stands the table `settings` (seconds), which is
-- the same in each call.
--
-- KEYS[1]  hash: the line of a conversation (bot_id, current, next, last, lock_id, acquired_at, claimed_at,
--          heartbeat_at, progress, due_at, wakes, handed_off, interrupted); current, next, progress and interrupted (how
--          the job ended that was interrupted last) are JSON documents
-- KEYS[2]  hash: message id -> JSON array [job id, message id, ended at, number of messages] of ended jobs
-- KEYS[3]  sorted set of the shard: conversation -> Unix seconds at which the sweep should look at it
-- ARGV[1]  JSON object: now (Unix seconds; absent: the server's clock), member (the conversation's name), and what the
--          step itself takes
--
-- The steps themselves are described in steps.py, which is the protocol to read; names are the same here.

local input = cjson.decode(ARGV[1])
local now = input.now
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end

local FIELDS = {'bot_id', 'current', 'next', 'last', 'lock_id', 'acquired_at', 'claimed_at', 'heartbeat_at',
  'progress', 'due_at', 'wakes', 'handed_off', 'interrupted'}
local DOCUMENTS = {current = true, next = true, last = true, progress = true, interrupted = true}
local NUMBERS = {acquired_at = true, claimed_at = true, heartbeat_at = true, due_at = true, wakes = true}

-- the fields that the line has
local stored = {}

local function load_line()
  local values, line = redis.call('HMGET', KEYS[1], unpack(FIELDS)), {}
  for index, name in ipairs(FIELDS) do
    local value = values[index]
    if value then
      stored[name] = true
      if DOCUMENTS[name] then
        value = cjson.decode(value)
      elseif NUMBERS[name] then
        value = tonumber(value)
      end
      line[name] = value
    end
  end
  return line
end

-- Write the named fields; an empty one is removed. A line with a job is in the sweep's index, one without expires.
local function save_line(line, names)
  local set, emptied = {}, {}
  for _, name in ipairs(names) do
    local value = line[name]
    if value ~= nil then
      set[#set + 1] = name
      set[#set + 1] = DOCUMENTS[name] and cjson.encode(value) or value
    elseif stored[name] then
      emptied[#emptied + 1] = name
    end
  end
  -- Each command costs as much as all the rest of a script: one for many fields.
  if #set > 0 then
    redis.call('HSET', KEYS[1], unpack(set))
  end
  if #emptied > 0 then
    redis.call('HDEL', KEYS[1], unpack(emptied))
  end
  if line.current then
    redis.call('ZADD', KEYS[3], line.due_at, input.member)
    redis.call('EXPIRE', KEYS[1], settings.live_ttl)
  else
    redis.call('ZREM', KEYS[3], input.member)
    redis.call('EXPIRE', KEYS[1], line.handed_off and settings.live_ttl or settings.job_ttl)
  end
end

local function owns(line, lock_id)
  return line.current ~= nil and line.heartbeat_at ~= nil and line.lock_id == lock_id
end

-- What a worker learns of its claim; reads no more than it needs, for it is called often.
local function look(lock_id, seen)
  local held = redis.call('HMGET', KEYS[1], 'lock_id', 'heartbeat_at', 'current')
  if held[1] ~= lock_id or not held[2] or not held[3] then
    return 'lost'
  end
  local job = cjson.decode(held[3])
  if job.status == 'cancelling' then
    return 'cancelling'
  end
  return seen and #job.messages > seen and 'newer' or 'held'
end

local function index_of(messages, message_id)
  for index, message in ipairs(messages) do
    if message.message_id == message_id then
      return index
    end
  end
end

local function set_of(list)
  local set = {}
  for _, value in ipairs(list) do
    set[value] = true
  end
  return set
end

local function ids_of(message)
  local ids = {message.message_id}
  for _, alias in ipairs(message.aliases or {}) do
    ids[#ids + 1] = alias
  end
  return ids
end

-- Remember a message of an ended job, for an hour or for `ttl` seconds. The hash is a cache: past its bound it starts
-- anew.
local function remember(message, job_id, count, ttl)
  ttl = ttl or settings.job_ttl
  local remembered = redis.call('HLEN', KEYS[2])
  if remembered >= settings.ended_max then
    redis.call('DEL', KEYS[2])
    remembered = 0
  end
  local entry = cjson.encode({job_id, message.message_id, now + ttl - settings.job_ttl, count})
  for _, id in ipairs(ids_of(message)) do
    redis.call('HSET', KEYS[2], id, entry)
  end
  if remembered == 0 or redis.call('TTL', KEYS[2]) < ttl then
    redis.call('EXPIRE', KEYS[2], ttl)
  end
end

-- What may change when the next job moves up.
local MOVED = {'current', 'next', 'lock_id', 'acquired_at', 'claimed_at', 'heartbeat_at', 'progress', 'due_at', 'wakes'}

local function promote(line, job, due_at)
  line.current, line.next = job, nil
  line.due_at, line.wakes, line.acquired_at = job and due_at, job and 0, job and line.acquired_at
  line.lock_id, line.claimed_at, line.heartbeat_at, line.progress = nil, nil, nil, nil
end

-- Whether a job of this name lives in the line or has ended. What points here without being here was undone.
local function is_taken(line, job_key, job_id)
  local held = redis.call('GET', job_key)
  return held and (string.sub(held, 1, 1) ~= '>' or line.current and line.current.job_id == job_id
    or line.next and line.next.job_id == job_id)
end

local function point_to_line(job_key)
  redis.call('SET', job_key, '>' .. input.member, 'EX', settings.live_ttl)
end

-- Put messages of `job` at the head of the next one, which is named and keyed so if there is none yet.
local function postpone(line, job, messages, job_id, job_key)
  if not line.next then
    line.next = {job_id = job_id, platform_id = job.platform_id, conversation_id = job.conversation_id,
      status = 'pending', bot_id = job.bot_id, messages = {}, context = job.context,
      context_size = job.context_size, resources = job.resources, restarts = 0, attempts = 0, created_at = now,
      ready_at = 0, correlation_id = job.correlation_id}
    point_to_line(job_key)
  end
  for _, message in ipairs(line.next.messages) do
    messages[#messages + 1] = message
  end
  line.next.messages = messages
end
