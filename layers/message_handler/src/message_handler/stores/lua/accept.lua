-- Take each message of a request in, once: suppress what is known, take or join the lock, create or extend the job.
-- KEYS[4]  the key of job_id; KEYS[5] (again only) the key of spare_id
-- ARGV[1]  + bot_id, context and resources (JSON that is passed on unread; resources absent: none), context_size,
--          messages, job_id, lock_id (absent: again), spare_id, policy, correlation_id, debounce and
--          debounce_max (seconds; both absent: none)
-- Returns  JSON object: other_bot (whose the conversation is, if not the request's), rejected_for (the job for which
--          the request is rejected), answered and waiting (of HandedOff), or the fields of Accepted; in place of these
--          'created': the lock was taken, for a job of all of the request's messages
local line = load_line()
local again = input.lock_id == nil
local incoming = input.messages
if line.bot_id and line.bot_id ~= input.bot_id and not again then
  return cjson.encode({other_bot = line.bot_id})
end
line.bot_id = line.bot_id or input.bot_id

-- waiting: every message of current and next, in order
local waiting = {}
local current_size = line.current and #line.current.messages or 0
for _, job in ipairs({line.current or false, line.next or false}) do
  if job then
    for _, message in ipairs(job.messages) do
      waiting[#waiting + 1] = message
    end
  end
end
if line.next and not line.current then
  return redis.error_reply('MHBROKEN a next job without a current one')
end

-- answered_before (consolidation.py)
local answered = 0
if not again and line.last then
  local last = line.last.digests
  local compared = math.min(#last, #incoming)
  local shorter = #incoming < #last
  if #last ~= #incoming and not (shorter and compared < 2) then
    answered = compared
    for index = 1, compared do
      local own = shorter and index == compared
      if last[index] ~= incoming[index].digest or (incoming[index].given and not own) then
        answered = 0
        break
      end
    end
  end
end

if line.handed_off and not again then
  local ids = {}
  for index, message in ipairs(waiting) do
    ids[index] = message.message_id
  end
  return cjson.encode({answered = answered, waiting = ids})
end

-- match (consolidation.py): found[i] is an index into waiting
local found = {}
if #waiting > 0 then
  local taken, by_id = {}, {}
  for index, message in ipairs(waiting) do
    for _, id in ipairs(ids_of(message)) do
      by_id[id] = index
    end
  end
  for index = answered + 1, #incoming do
    for _, id in ipairs(ids_of(incoming[index])) do
      found[index] = found[index] or by_id[id]
    end
    if found[index] then
      taken[found[index]] = true
    end
  end
  local same_content = {}
  for index, message in ipairs(waiting) do
    local list = same_content[message.digest] or {}
    list[#list + 1] = index
    same_content[message.digest] = list
  end
  for index = answered + 1, #incoming do
    if not found[index] then
      for _, candidate in ipairs(same_content[incoming[index].digest] or {}) do
        if not taken[candidate] and not (incoming[index].given and waiting[candidate].given) then
          found[index] = candidate
          taken[candidate] = true
          break
        end
      end
    end
  end
end

-- what is remembered of those that do not wait
local ended, new, any_new = {}, {}, false
for index, message in ipairs(incoming) do
  if not found[index] then
    for _, id in ipairs(index <= answered and {line.last.ids[index]} or ids_of(message)) do
      local entry = redis.call('HGET', KEYS[2], id)
      entry = entry and cjson.decode(entry)
      if entry and entry[3] > now - settings.job_ttl then
        ended[index] = ended[index] or entry
      end
    end
    if not ended[index] then
      new[index] = true
      any_new = true
    end
  end
end
local own = #incoming
if ended[own] then
  return cjson.encode({job_id = ended[own][1], message_id = ended[own][2], duplicate = true,
    consolidated_messages = ended[own][4]})
end

local policy = input.policy
if again and policy ~= 'enqueue' then
  policy = 'consolidate'
end
if policy == 'reject' and line.current then
  if new[own] then
    return cjson.encode({rejected_for = line.current.job_id})
  end
  new, any_new = {}, false
end

local target = 'current'
if line.current then
  local job = line.current
  local open = not job.sealed and not line.next
  local running = job.status == 'processing' and policy ~= 'enqueue'
  local restartable = running and job.restarts < settings.max_restarts
  if not (open and (job.status == 'pending' or restartable)) then
    target = 'next'
  end
end
if found[own] and (found[own] > current_size) ~= (target == 'next') then
  -- The record is deleted when its own message is settled: nothing may ride on it into another job.
  new, any_new = {}, false
end

local created, interrupted = line.current == nil, nil
local names = {'bot_id'}
if any_new and policy == 'interrupt' and target == 'current' and line.current
  and line.current.status == 'processing' and not line.current.maybe_committed then
  local job = line.current
  interrupted = cjson.decode(cjson.encode(job))
  interrupted.status, interrupted.finished_at, interrupted.superseded_by = 'cancelled', now, input.job_id
  -- Its readers must find it at once, and its own key is not known before the line is read.
  line.interrupted = cjson.decode(cjson.encode(interrupted))
  line.interrupted.context, line.interrupted.resources = nil, nil
  for _, message in ipairs(line.interrupted.messages) do
    message.content = ''
  end
  names[#names + 1] = 'interrupted'
  job.job_id, job.status, job.restarts, job.attempts = input.job_id, 'pending', job.restarts + 1, 0
  job.created_at, job.ready_at, job.started_at = now, 0, nil
  point_to_line(KEYS[4])
end
if any_new then
  local job = line[target]
  if not job then
    local name, key = input.job_id, KEYS[4]
    if again and is_taken(line, KEYS[4], input.job_id) then
      name, key = input.spare_id, KEYS[5]
    end
    local platform_id, conversation_id = string.match(input.member, '^([^/]*)/(.*)$')
    job = {job_id = name, platform_id = platform_id, conversation_id = conversation_id, status = 'pending',
      bot_id = line.bot_id, messages = {}, context = input.context, context_size = input.context_size,
      restarts = 0, attempts = 0, created_at = now, ready_at = 0, correlation_id = input.correlation_id}
    point_to_line(key)
  elseif input.context_size >= job.context_size then
    job.context, job.context_size = input.context, input.context_size
  end
  if not again and input.debounce then
    job.ready_at = math.min(now + input.debounce, job.created_at + input.debounce_max)
  end
  job.resources = input.resources or job.resources
  -- fold (consolidation.py)
  local offset = target == 'next' and current_size or 0
  local before, run = {}, {}
  for index, message in ipairs(incoming) do
    local at = found[index] and found[index] - offset
    if at and at >= 1 and at <= #job.messages then
      before[at] = before[at] or {}
      for _, waits in ipairs(run) do
        table.insert(before[at], waits)
      end
      run = {}
    elseif new[index] then
      message.posts = 0
      run[#run + 1] = message
    end
  end
  local folded = {}
  for index, message in ipairs(job.messages) do
    for _, waits in ipairs(before[index] or {}) do
      folded[#folded + 1] = waits
    end
    folded[#folded + 1] = message
  end
  for _, waits in ipairs(run) do
    folded[#folded + 1] = waits
  end
  job.messages = folded
  line[target] = job
end
local locked = created or interrupted ~= nil
if locked then
  line.lock_id, line.acquired_at = input.lock_id, now
  line.claimed_at, line.heartbeat_at, line.progress = nil, nil, nil
  line.due_at, line.wakes = now + settings.wake_after, 0
  for _, name in ipairs({'lock_id', 'acquired_at', 'claimed_at', 'heartbeat_at', 'progress', 'due_at', 'wakes'}) do
    names[#names + 1] = name
  end
end

-- Learn the other ids of known messages (not in a sealed job: its reply may be committed already) and count posts.
-- The messages of waiting are the same tables as those in the jobs.
local posted, canonical = {}, {}
for index, message in ipairs(incoming) do
  local known = found[index] and waiting[found[index]]
  if known then
    local job = found[index] <= current_size and line.current or line.next
    if (message.given or again) and not job.sealed then
      local ids = set_of(ids_of(known))
      for _, id in ipairs(ids_of(message)) do
        if not ids[id] then
          known.aliases = known.aliases or {}
          table.insert(known.aliases, id)
          ids[id] = true
        end
      end
      known.given = known.given or message.given
    end
  end
  canonical[index] = known and known.message_id or message.message_id
  if known or new[index] then
    local target_message = known or message
    target_message.posts = (target_message.posts or 0) + 1
    posted[#posted + 1] = canonical[index]
  end
end
names[#names + 1] = 'current'
if line.next then
  names[#names + 1] = 'next'
end
save_line(line, names)

local job, pending = line.current, line.current.messages
if created and not again and #pending == #incoming then
  return 'created'
end
if not index_of(job.messages, canonical[own]) then
  job = line.next
  pending = {}
  for _, messages in ipairs({line.current.messages, line.next.messages}) do
    for _, message in ipairs(messages) do
      pending[#pending + 1] = message
    end
  end
end
return cjson.encode({job_id = job.job_id, message_id = canonical[own], acquired = locked,
  duplicate = not new[own], consolidated_messages = #job.messages, pending = pending, posted = posted,
  interrupted = interrupted})
