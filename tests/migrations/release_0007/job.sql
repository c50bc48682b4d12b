select cast(job_id as text), conversation_id, bot_id, status, message_ids, restarts, attempts, reply, error_code,
       error_message, error_notice, input_tokens, output_tokens, correlation_id, cast(superseded_by as text),
       extract(epoch from created_at)::float8,
       extract(epoch from started_at)::float8, extract(epoch from finished_at)::float8
from jobs
where platform_id = :platform_id and job_id = cast(:job_id as uuid)
