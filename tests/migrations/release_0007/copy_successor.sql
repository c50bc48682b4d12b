-- Where the job's chain could not be linked to the successor, because the successor's own chain leads into it: two jobs
-- answered what the other was promised, and one pointer a job can't say both. The chain then ends with a copy.
with recursive chain as (
    select job_id, superseded_by, copy_of from jobs
    where platform_id = :platform_id and job_id = cast(:job_id as uuid)
    union
    select jobs.job_id, jobs.superseded_by, jobs.copy_of from jobs join chain on jobs.job_id = chain.superseded_by
    where jobs.platform_id = :platform_id
), copied as (
    insert into jobs (platform_id, job_id, conversation_id, bot_id, status, fence, message_ids, restarts, attempts,
                      reply, error_code, error_message, error_notice, input_tokens, output_tokens, correlation_id,
                      created_at, started_at, finished_at, copy_of)
    select platform_id, cast(:copy_id as uuid), conversation_id, bot_id, status, fence, message_ids, restarts, attempts,
           reply, error_code, error_message, error_notice, input_tokens, output_tokens, correlation_id,
           created_at, started_at, finished_at, job_id
    from jobs
    where platform_id = :platform_id and job_id = cast(:successor_id as uuid) and status <> 'processing'
      and not exists (select from chain where cast(:successor_id as uuid) in (chain.job_id, chain.copy_of))
    returning job_id
)
update jobs set superseded_by = copied.job_id
from copied
where platform_id = :platform_id and jobs.job_id in (select job_id from chain where superseded_by is null)
