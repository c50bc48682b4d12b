-- Drop what the fence found settled; the rest runs, under a successor's name if there is one.
-- KEYS[4]  the key of the job as it was; KEYS[5] of its successor (both only with successor_id)
-- ARGV[1]  + lock_id, settled_ids, successor_id and ended (the old job's end as JSON text), or neither
-- Returns  JSON object: empty (the lock was lost) or job
local line = load_line()
if not owns(line, input.lock_id) then
  return '{}'
end
local job, settled, kept = line.current, set_of(input.settled_ids), {}
for _, message in ipairs(job.messages) do
  if settled[message.message_id] then
    remember(message, job.job_id, #job.messages)
  else
    local aliases = {}
    for _, alias in ipairs(message.aliases or {}) do
      if not settled[alias] then
        aliases[#aliases + 1] = alias
      end
    end
    message.aliases = #aliases > 0 and aliases or nil
    kept[#kept + 1] = message
  end
end
job.messages, job.maybe_committed = kept, nil
if input.successor_id then
  redis.call('SET', KEYS[4], input.ended, 'EX', settings.job_ttl)
  job.job_id, job.created_at = input.successor_id, now
  point_to_line(KEYS[5])
end
save_line(line, {'current'})
return cjson.encode({job = job})
