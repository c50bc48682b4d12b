-- The whole commit of each of the jobs, no two of which are of one conversation, in one statement: it waits for the
-- conversations' rows (those of several jobs are `lock_jobs`' to wait for), and then sees the newest fences there. A message
-- that is settled already violates settled's primary key, and nothing of all this has happened. Returns the jobs that were
-- committed, and whether their platforms are to be told.
with job as materialized (
    select * from json_to_recordset(cast(:jobs as json)) as job(
        number integer, platform_id text, conversation_id text, job_id uuid, fence bigint, status text, kind text,
        reply text, error_code text, error_message text, error_notice text, input_tokens bigint, output_tokens bigint,
        correlation_id text, message_ids text[], ids text[], given_ids text[], restarts integer, attempts integer,
        finished_at float8, roles text[], contents text[], turn_ids text[])
    limit cast(:count as integer)  -- tells the planner how few they are
), owner as (
    update conversations
    set turn_count = turn_count + cardinality(roles), updated_at = now()
    from job
    where conversations.platform_id = job.platform_id and conversations.conversation_id = job.conversation_id
      and conversations.fence = job.fence
    returning number, turn_count - cardinality(roles) as position
), ended as (
    update jobs
    set status = job.status, reply = job.reply, error_code = job.error_code, error_message = job.error_message,
        error_notice = job.error_notice, input_tokens = job.input_tokens, output_tokens = job.output_tokens,
        correlation_id = job.correlation_id, fence = job.fence, message_ids = job.message_ids,
        restarts = job.restarts, attempts = job.attempts, finished_at = to_timestamp(job.finished_at)
    from owner join job using (number)
    where jobs.platform_id = job.platform_id and jobs.job_id = job.job_id and jobs.status = 'processing'
    returning owner.number, owner.position
), settled_now as (
    insert into settled (platform_id, conversation_id, message_id, job_id, kind)
    select distinct platform_id, conversation_id, message_id, job_id, kind
    from ended join job using (number), unnest(ids) as message_id
), said as (
    insert into turns (platform_id, conversation_id, position, role, content, message_id, job_id, created_at)
    select platform_id, conversation_id, position + turn.number, role, content, message_id, job_id,
           to_timestamp(finished_at)
    from ended join job using (number),
         unnest(roles, contents, turn_ids) with ordinality as turn(role, content, message_id, number)
), told as (
    insert into outbox (platform_id, job_id, conversation_id, webhook_id, message_ids, created_at, give_up_at)
    select platform_id, job_id, conversation_id, 'msg_' || job_id, given_ids,
           to_timestamp(finished_at), to_timestamp(finished_at) + interval '1 day'
    from ended join job using (number) join platforms using (platform_id)
    where base_url <> ''
    returning job_id
)
select ended.number, told.job_id is not null
from ended join job using (number) left join told using (job_id)
