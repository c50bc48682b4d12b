-- Give one's own lock back: end its job as cancelled, with all of its messages, and let the next one move up.
-- KEYS[4]  the key of job_id
-- ARGV[1]  + lock_id, job_id (the job that the caller takes for the lock's)
-- Returns  'done', 'lost', or JSON object: missing (the lock's job, whose key must be named; nothing has been changed
--          then)
local line = load_line()
local job = line.current
if not job or line.lock_id ~= input.lock_id then
  return 'lost'
end
if job.job_id ~= input.job_id then
  return cjson.encode({missing = job.job_id})
end
local messages = {}
for index, message in ipairs(job.messages) do
  remember(message, job.job_id, #job.messages)
  messages[index] = {message_id = message.message_id, content = ''}
end
local ended = cjson.encode({job_id = job.job_id, platform_id = job.platform_id, conversation_id = job.conversation_id,
  status = 'cancelled', bot_id = job.bot_id, messages = messages, restarts = job.restarts, attempts = job.attempts,
  created_at = job.created_at, started_at = job.started_at, correlation_id = job.correlation_id})
redis.call('SET', KEYS[4], ended, 'EX', settings.job_ttl)
promote(line, line.next, now + settings.wake_after)
line.acquired_at = line.current and now
save_line(line, MOVED)
return 'done'
