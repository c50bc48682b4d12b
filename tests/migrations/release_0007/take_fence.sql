-- Under the row lock: raise the fence and note the run, unless the job has ended, a message of it is settled, or a
-- human answers.
with known as (
    select * from jobs
    where platform_id = :platform_id and job_id = cast(:job_id as uuid) and status <> 'processing'
), done as (
    select message_id, job_id from settled
    where platform_id = :platform_id and conversation_id = :conversation_id
      and message_id = any(cast(:ids as text[]))
), raised as (
    update conversations set fence = fence + 1
    where platform_id = :platform_id and conversation_id = :conversation_id
      and not exists (select from known)
      and not exists (select from done where message_id = any(cast(:message_ids as text[])))
      and not handed_off
    returning fence
), noted as (
    insert into jobs (platform_id, job_id, conversation_id, bot_id, status, fence, message_ids, restarts, attempts,
                      created_at, started_at)
    select :platform_id, cast(:job_id as uuid), :conversation_id, :bot_id, 'processing', raised.fence,
           cast(:message_ids as text[]), cast(:restarts as integer), cast(:attempts as integer),
           to_timestamp(cast(:created_at as float8)), to_timestamp(cast(:started_at as float8))
    from raised
    on conflict (platform_id, job_id) do update
    set fence = excluded.fence, message_ids = excluded.message_ids, restarts = excluded.restarts,
        attempts = excluded.attempts, started_at = coalesce(jobs.started_at, excluded.started_at)
)
select (select fence from raised),
       (select json_object_agg(message_id, job_id) from done),
       (select json_agg(json_build_object('role', role, 'content', content, 'message_id', message_id)
                        order by position)
        from (select * from turns
              where platform_id = :platform_id and conversation_id = :conversation_id
              order by position desc limit cast(:turns as integer)) as newest),
       (select handed_off from conversations
        where platform_id = :platform_id and conversation_id = :conversation_id)
