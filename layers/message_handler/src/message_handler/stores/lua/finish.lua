-- A job has ended: remember its messages, let the next one move up.
-- KEYS[4]  the job's key
-- ARGV[1]  + lock_id (absent: Postgres has decided, no owner is compared), job_id, ended (the end as JSON text),
--          last (absent for a cancelled job): its id, its messages' ids and digests
-- Returns  JSON object: done, waiting
local line = load_line()
local is_next = line.next ~= nil and line.next.job_id == input.job_id and not input.lock_id
local is_current = line.current ~= nil and line.current.job_id == input.job_id
  and (not input.lock_id or input.lock_id == line.lock_id)
if not is_next and not is_current then
  return cjson.encode({done = false, waiting = false})
end
local job = is_next and line.next or line.current
for _, message in ipairs(job.messages) do
  remember(message, job.job_id, #job.messages)
end
redis.call('SET', KEYS[4], input.ended, 'EX', settings.job_ttl)
if is_next then
  line.next = nil
  save_line(line, {'next'})
  return cjson.encode({done = true, waiting = false})
end
line.last = input.last or line.last
promote(line, line.next, now + settings.wake_after)
line.acquired_at = now
save_line(line, FIELDS)
return cjson.encode({done = true, waiting = line.current ~= nil})
