-- Forget a conversation: its line, its duplicates' entries, its place in the sweep's index, and its jobs.
-- KEYS[4..]  the keys of the jobs that the caller knows
-- ARGV[1]  + known (their ids, in the same order)
-- Returns  JSON object: found (whether there was anything), or missing: further jobs of the conversation, whose keys must
--          be named too; nothing has been changed then
local line = load_line()
local known, missing = set_of(input.known), {}
local function name(job_id)
  if job_id and not known[job_id] then
    known[job_id] = true
    missing[#missing + 1] = job_id
  end
end
for _, job in ipairs({line.current or false, line.next or false, line.last or false, line.interrupted or false}) do
  name(job and job.job_id)
end
for _, entry in ipairs(redis.call('HVALS', KEYS[2])) do
  name(cjson.decode(entry)[1])
end
if #missing > 0 then
  return cjson.encode({missing = missing})
end
local found = redis.call('DEL', KEYS[1]) + redis.call('DEL', KEYS[2])
redis.call('ZREM', KEYS[3], input.member)
for index = 4, #KEYS do
  found = found + redis.call('DEL', KEYS[index])
end
return cjson.encode({found = found > 0})
