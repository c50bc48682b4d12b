-- Take nothing in for the bot any more, or again.
-- ARGV[1]  + human
local line = load_line()
if (line.handed_off ~= nil) == input.human then
  return
end
line.handed_off = input.human and 1 or nil
if not input.human then
  line.last = nil
end
save_line(line, {'handed_off', 'last'})
