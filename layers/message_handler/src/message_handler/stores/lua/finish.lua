-- A job has ended: remember the messages that its end names, let the next one move up.
-- KEYS[4]  the job's key; KEYS[5] the key of spare_id
-- ARGV[1]  + lock_id (absent: Postgres has decided, no owner is compared), job_id, ended (the end as JSON text),
--          ended_ttl (seconds), covered (ids of the messages that ended with it), cancelled,
--          held (what ends here waits in Postgres), spare_id
-- Returns  JSON object: done, waiting
local line = load_line()
local is_next = line.next ~= nil and line.next.job_id == input.job_id and not input.lock_id
local is_current = line.current ~= nil and line.current.job_id == input.job_id
  and (not input.lock_id or input.lock_id == line.lock_id)
if not is_next and not is_current then
  return cjson.encode({done = false, waiting = false})
end
local job = is_next and line.next or line.current
if is_next then
  line.next = nil
end
local names, covered, late, ids, digests = set_of(input.covered), {}, {}, {}, {}
for _, message in ipairs(job.messages) do
  local named = false
  for _, id in ipairs(ids_of(message)) do
    named = named or names[id] or false
  end
  local list = named and covered or late
  list[#list + 1] = message
end
for index, message in ipairs(covered) do
  if not input.held then
    remember(message, job.job_id, #covered, input.ended_ttl)
  end
  ids[index], digests[index] = message.message_id, message.digest
end
redis.call('SET', KEYS[4], input.ended, 'EX', input.ended_ttl)
if #late > 0 then
  postpone(line, job, late, input.spare_id, KEYS[5])
end
if is_next then
  save_line(line, {'next'})
  return cjson.encode({done = true, waiting = false})
end
if not input.cancelled then
  line.last = {job_id = job.job_id, ids = ids, digests = digests}
  MOVED[#MOVED + 1] = 'last'
end
promote(line, line.next, now + settings.wake_after)
line.acquired_at = line.current and now
save_line(line, MOVED)
return cjson.encode({done = true, waiting = line.current ~= nil})
