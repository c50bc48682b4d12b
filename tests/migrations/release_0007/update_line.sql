-- A step on a conversation, unless another came since it was read; with it the job that it ended, if it ended one.
with saved as (
    update lines
    set version = cast(:version as uuid), document = :document, current_id = cast(:current_id as uuid),
        next_id = cast(:next_id as uuid), message_ids = cast(:message_ids as text[]),
        due_at = cast(:due_at as float8), acquired_at = cast(:acquired_at as float8),
        heartbeat_at = cast(:heartbeat_at as float8), expires_at = cast(:expires_at as float8)
    where platform_id = :platform_id and conversation_id = :conversation_id and version = cast(:seen as uuid)
    returning platform_id
), ended as (
    insert into ended_jobs (platform_id, job_id, document, expires_at)
    select platform_id, cast(:ended_id as uuid), :ended, cast(:ended_until as float8)
    from saved where cast(:ended_id as uuid) is not null
    on conflict (job_id, platform_id) do update
    set document = excluded.document, expires_at = excluded.expires_at
)
select from saved
