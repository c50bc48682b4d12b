-- Empty the holder and put its job back; or, with older_than, do so only if the sweep finds it due.
-- ARGV[1]  + older_than (seconds; absent: an operator asks, release at once)
-- Returns  JSON object: empty or job
local line = load_line()
local job = line.current
if not job then
  redis.call('ZREM', KEYS[3], input.member)
  return '{}'
end
if input.older_than then
  if line.heartbeat_at then
    local over_age = line.acquired_at + input.older_than <= now
    if line.heartbeat_at + settings.heartbeat_stale > now and not over_age then
      line.due_at = line.heartbeat_at + settings.heartbeat_stale
      save_line(line, {'due_at'})
      return '{}'
    end
    line.wakes = 0
  elseif line.due_at > now then
    return '{}'
  end
  line.due_at = now + settings.wake_after * 2 ^ math.min(line.wakes, 6)
  line.wakes = line.wakes + 1
end
job.status = job.status == 'cancelling' and 'cancelling' or 'pending'
job.sealed = false
line.lock_id, line.claimed_at, line.heartbeat_at, line.progress = nil, nil, nil, nil
save_line(line, FIELDS)
return cjson.encode({job = job})
