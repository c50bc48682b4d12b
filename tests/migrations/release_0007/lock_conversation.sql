-- The row lock under which a fence is taken or a cancel decided; what follows in the transaction sees all
-- that its earlier holders committed.
insert into conversations (platform_id, conversation_id, bot_id)
values (:platform_id, :conversation_id, :bot_id)
on conflict (platform_id, conversation_id) do update set updated_at = now()
