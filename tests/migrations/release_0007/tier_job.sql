-- Where a job is: as it ended in this tier, or in the line where it waits or runs; and the server's time.
select extract(epoch from clock_timestamp())::float8, null, null, document, expires_at
from ended_jobs where job_id = cast(:job_id as uuid)
union all
select extract(epoch from clock_timestamp())::float8, platform_id, conversation_id, document, null
from lines where current_id = cast(:job_id as uuid) or next_id = cast(:job_id as uuid)
