-- What is held need not be, once it is settled.
delete from held
where platform_id = :platform_id and conversation_id = :conversation_id and answered_by is null
  and exists (
      select from settled
      where settled.platform_id = held.platform_id and settled.conversation_id = held.conversation_id
        and settled.message_id = any(held.message_id || held.aliases))
