-- Forget a conversation's line and its ended jobs: their ids begin with its shard, and their documents name it.
with line as (
    delete from lines where platform_id = :platform_id and conversation_id = :conversation_id
    returning true
), ended as (
    delete from ended_jobs
    where job_id between cast(:first_id as uuid) and cast(:last_id as uuid) and platform_id = :platform_id
      and cast(document as json) ->> 'conversation_id' = :conversation_id
    returning true
)
select exists (select from line) or exists (select from ended)
