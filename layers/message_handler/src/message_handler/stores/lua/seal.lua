-- The last look before the commit and the closing of the door, in one step: nothing fits in between.
-- KEYS[4]  the key of next_id
-- ARGV[1]  + lock_id, answered (ids that the run has seen), next_id, fenced, may_restart, may_seal
-- Returns  JSON object: verdict, and job unless the lock was lost
local line = load_line()
if not owns(line, input.lock_id) then
  return cjson.encode({verdict = 'lost'})
end
local job = line.current
if job.status == 'cancelling' then
  return cjson.encode({verdict = 'cancelling', job = job})
end
local seen, kept, newer = set_of(input.answered), {}, {}
for _, message in ipairs(job.messages) do
  local list = seen[message.message_id] and kept or newer
  list[#list + 1] = message
end
if #newer > 0 and input.may_restart and job.restarts < settings.max_restarts then
  job.restarts, line.progress = job.restarts + 1, nil
  save_line(line, {'current', 'progress'})
  return cjson.encode({verdict = 'again', job = job})
end
if not input.may_seal then
  return cjson.encode({verdict = 'again', job = job})
end
local names = {'current'}
if #newer > 0 then
  postpone(line, job, newer, input.next_id, KEYS[4])
  names[2] = 'next'
end
job.messages, job.sealed = kept, true
job.maybe_committed = job.maybe_committed or input.fenced or nil
save_line(line, names)
return cjson.encode({verdict = 'sealed', job = job})
