-- These are held no longer.
delete from held
where platform_id = :platform_id and conversation_id = :conversation_id
  and message_id = any(cast(:message_ids as text[]))
