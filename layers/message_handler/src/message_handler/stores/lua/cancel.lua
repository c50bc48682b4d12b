-- Mark a job that is not sealed yet as cancelling.
-- ARGV[1]  + job_id
-- Returns  JSON object: empty or job
local line = load_line()
for _, name in ipairs({'current', 'next'}) do
  local job = line[name]
  if job and job.job_id == input.job_id and not job.sealed then
    if job.status ~= 'cancelling' then
      job.status, job.cancelled = 'cancelling', {}
      for index, message in ipairs(job.messages) do
        job.cancelled[index] = message.message_id
      end
    end
    save_line(line, {name})
    return cjson.encode({job = job})
  end
end
return '{}'
