-- Whether a message waits here while a human answers.
select exists (
    select from held join conversations using (platform_id, conversation_id)
    where platform_id = :platform_id and conversation_id = :conversation_id and handed_off and answered_by is null
      and :message_id = any(held.message_id || held.aliases))
