-- The same step for several conversations: each as if it were alone, none knows of the others.
-- KEYS     those of all steps, one step's after the other's
-- ARGV[1]  JSON array: how many of them are each step's
-- ARGV[2…] each step's ARGV[1]
-- Returns  what each step returned, or its error
local function step(KEYS, ARGV)
  STEP
end

local answers, passed = {}, 0
for index, count in ipairs(cjson.decode(ARGV[1])) do
  local keys = {}
  for number = 1, count do
    keys[number] = KEYS[passed + number]
  end
  passed = passed + count
  local done, answer = pcall(step, keys, {ARGV[index + 1]})
  if not done then
    answer = redis.error_reply(type(answer) == 'table' and answer.err or tostring(answer))
  end
  answers[index] = answer
end
return answers
