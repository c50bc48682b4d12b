-- A tenant's deliveries that were given up, oldest first. No text.
select webhook_id, conversation_id, cast(job_id as text), attempts, extract(epoch from created_at)::float8, last_error
from outbox
where platform_id = :platform_id and status = 'dead'
order by sequence
limit cast(:most as integer)
