-- Whether a job's messages can be opened again: how it ended, what it is a copy of, whether they were before.
select status, cast(copy_of as text), retried_at is not null, message_ids
from jobs
where platform_id = :platform_id and job_id = cast(:job_id as uuid)
