-- Which of these messages need no answer any more.
select message_id from settled
where platform_id = :platform_id and conversation_id = :conversation_id
  and message_id = any(cast(:message_ids as text[]))
