-- Under the row lock: a row that was made for what turned out to be void. Whoever took a fence since, silenced the bot,
-- said something, has something held or was told of a job needs it.
delete from conversations
where platform_id = :platform_id and conversation_id = :conversation_id
  and turn_count = 0 and not handed_off
  and fence <= (select fence from erasures where platform_id = :platform_id and name_hash = :name_hash)
  and not exists (select from held where platform_id = :platform_id and conversation_id = :conversation_id)
  and not exists (select from jobs where platform_id = :platform_id and conversation_id = :conversation_id)
