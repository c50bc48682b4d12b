-- Take the head of the line, unless a live worker holds it, or the patient may still be typing.
-- ARGV[1]  + lock_id
-- Returns  JSON object: empty (nothing waits), wait (seconds until it can be claimed) with held, or job
local line = load_line()
local job = line.current
if not job then
  return '{}'
end
if line.heartbeat_at and line.heartbeat_at + settings.heartbeat_stale > now then
  local deadline = math.max(line.claimed_at + settings.run_seconds, line.heartbeat_at + settings.heartbeat_stale)
  return cjson.encode({wait = deadline - now, held = true})
end
if job.attempts == 0 and (job.ready_at or 0) > now and job.status ~= 'cancelling' then
  return cjson.encode({wait = job.ready_at - now, held = false})
end
if job.status ~= 'cancelling' then
  job.status, job.sealed, job.attempts = 'processing', false, job.attempts + 1
  job.started_at = job.started_at or now
  job.maybe_committed = job.maybe_committed or line.handed_off and true or nil
end
line.lock_id, line.claimed_at, line.heartbeat_at, line.progress = input.lock_id, now, now, nil
line.due_at = now + settings.heartbeat_stale
save_line(line, {'current', 'lock_id', 'claimed_at', 'heartbeat_at', 'progress', 'due_at'})
return cjson.encode({job = job})
