-- Where a job is: as it ended in this tier, or in the line where it waits or runs.
select null, null, document
from ended_jobs
where job_id = cast(:job_id as uuid)
  and expires_at > coalesce(cast(:clock as float8), extract(epoch from clock_timestamp()))
union all
select platform_id, conversation_id, null from line_states where job_ids @> array[cast(:job_id as uuid)]
