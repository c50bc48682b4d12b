-- Under the row lock, of a failed job that this was not done to before: open its messages again. Returns all their ids,
-- and what the patient said in them: it leaves the archive, and comes back with its answer.
with reopened as (
    update jobs set retried_at = now()
    where platform_id = :platform_id and job_id = cast(:job_id as uuid)
      and conversation_id = :conversation_id
    returning job_id
), opened as (
    delete from settled using reopened
    where settled.platform_id = :platform_id and settled.conversation_id = :conversation_id
      and settled.job_id = reopened.job_id and settled.kind = 'failed'
    returning settled.message_id
), said as (
    delete from turns using reopened
    where turns.platform_id = :platform_id and turns.conversation_id = :conversation_id
      and turns.job_id = reopened.job_id and turns.role = 'user'
    returning turns.position, turns.content, turns.message_id
)
select (select array_agg(message_id) from opened),
       (select array_agg(content order by position) from said),
       (select array_agg(message_id order by position) from said)
