-- The end of a job's chain, where it is just a name: so that it can be linked, and ended.
with recursive chain as (
    select job_id, superseded_by from jobs
    where platform_id = :platform_id and job_id = cast(:job_id as uuid)
    union
    select jobs.job_id, jobs.superseded_by from jobs join chain on jobs.job_id = chain.superseded_by
    where jobs.platform_id = :platform_id
)
insert into jobs (platform_id, job_id, conversation_id, bot_id, status, message_ids, created_at)
select :platform_id, superseded_by, :conversation_id, :bot_id, 'processing', cast(:message_ids as text[]),
       to_timestamp(cast(:created_at as float8))
from chain where superseded_by is not null
on conflict do nothing
