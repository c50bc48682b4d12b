-- The first step on a conversation; another may have been faster.
insert into lines (platform_id, conversation_id, version, document, current_id, next_id, message_ids, due_at,
                   acquired_at, heartbeat_at, expires_at)
values (:platform_id, :conversation_id, cast(:version as uuid), :document, cast(:current_id as uuid),
        cast(:next_id as uuid), cast(:message_ids as text[]), cast(:due_at as float8), cast(:acquired_at as float8),
        cast(:heartbeat_at as float8), cast(:expires_at as float8))
on conflict do nothing
returning version
