-- Take back an accept whose record was refused, unless somebody else posted the same.
-- ARGV[1]  + message_ids
local line, changed = load_line(), false
for _, message_id in ipairs(input.message_ids) do
  for _, name in ipairs({'current', 'next'}) do
    local job = line[name]
    local at = job and index_of(job.messages, message_id)
    if at then
      changed = true
      local message = job.messages[at]
      if message.posts > 1 or job.sealed then
        message.posts = message.posts - 1
      else
        table.remove(job.messages, at)
        if #job.messages == 0 and name == 'next' then
          line.next = nil
        elseif #job.messages == 0 then
          promote(line, line.next, line.due_at)
          if not line.current and not line.last then
            line.bot_id = nil
          end
        end
      end
      break
    end
  end
end
if changed then
  save_line(line, FIELDS)
end
