-- Under the row locks of `lock_conversations`, for each of the jobs, no two of which are of one conversation: raise the
-- fence and note the run, unless the job has ended, a message of it is settled or void, or a human answers.
with job as materialized (
    select * from json_to_recordset(cast(:jobs as json)) as job(
        number integer, platform_id text, conversation_id text, name_hash text, job_id uuid, bot_id text, oldest float8,
        message_ids text[], ids text[], restarts integer, attempts integer, created_at float8, started_at float8,
        turns integer, drain boolean)
    limit cast(:count as integer)  -- tells the planner how few they are
), erased as (
    select number, fence, erased_at, erased_at >= to_timestamp(oldest) as voids
    from job join erasures using (platform_id, name_hash)
), known as (
    select number from job join jobs using (platform_id, job_id) where status <> 'processing'
), done as (
    select number, message_id, settled.job_id, message_id = any(message_ids) as own
    from job join settled using (platform_id, conversation_id)
    where message_id = any(ids)
), raised as (
    update conversations set fence = greatest(conversations.fence, coalesce(erased.fence, 0)) + 1
    from job left join erased using (number)
    where conversations.platform_id = job.platform_id and conversations.conversation_id = job.conversation_id
      and not exists (select from known where known.number = job.number)
      and not exists (select from done where done.number = job.number and own)
      and voids is not true
      and not handed_off
    returning job.number, conversations.fence
), noted as (
    insert into jobs (platform_id, job_id, conversation_id, bot_id, status, fence, message_ids, restarts, attempts,
                      created_at, started_at)
    select platform_id, job_id, conversation_id, bot_id, 'processing', raised.fence, message_ids, restarts, attempts,
           to_timestamp(created_at), to_timestamp(started_at)
    from raised join job using (number)
    on conflict (platform_id, job_id) do update
    set fence = excluded.fence, message_ids = excluded.message_ids, restarts = excluded.restarts,
        attempts = excluded.attempts, started_at = coalesce(jobs.started_at, excluded.started_at)
)
select job.number, raised.fence,
       (select json_object_agg(message_id, done.job_id) from done where done.number = job.number),
       (select json_agg(json_build_object('role', role, 'content', content, 'message_id', message_id)
                        order by position)
        from (select * from turns
              where turns.platform_id = job.platform_id and turns.conversation_id = job.conversation_id
              order by position desc limit job.turns) as newest),
       handed_off,
       extract(epoch from erased_at)::float8 + 0.001,
       -- What waits for the conversation in the Postgres tier, and which of it is settled.
       (select json_build_array(document, array(
            select message_id from settled
            where settled.platform_id = lines.platform_id and settled.conversation_id = lines.conversation_id
              and message_id = any(lines.message_ids)))
        from lines
        where lines.platform_id = job.platform_id and lines.conversation_id = job.conversation_id
          and current_id is not null and job.drain),
       conversations.bot_id
from job
join conversations using (platform_id, conversation_id)
left join raised using (number)
left join erased using (number)
