-- Whoever is about to purge one of the conversations in which something is redriven must see that it goes on. Before the
-- rows of the outbox are locked, as a purge locks them. No row is returned.
update conversations set updated_at = now()
where platform_id = :platform_id
  and conversation_id in (select conversation_id from outbox where platform_id = :platform_id and status = 'dead')
