-- Take the head of the line, unless a live worker holds it.
-- ARGV[1]  + lock_id
-- Returns  JSON object: empty (nothing waits), wait (seconds until the holder's deadline) or job
local line = load_line()
local job = line.current
if not job then
  return '{}'
end
if line.heartbeat_at and line.heartbeat_at + settings.heartbeat_stale > now then
  local deadline = math.max(line.claimed_at + settings.run_seconds, line.heartbeat_at + settings.heartbeat_stale)
  return cjson.encode({wait = deadline - now})
end
if job.status ~= 'cancelling' then
  job.status, job.sealed, job.attempts = 'processing', false, job.attempts + 1
  job.started_at = job.started_at or now
  job.maybe_committed = job.maybe_committed or line.handed_off and true or nil
end
line.lock_id, line.claimed_at, line.heartbeat_at = input.lock_id, now, now
line.due_at = now + settings.heartbeat_stale
save_line(line, {'current', 'lock_id', 'claimed_at', 'heartbeat_at', 'due_at'})
return cjson.encode({job = job})
