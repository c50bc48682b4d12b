-- The archive has the job's end now: its messages' text goes.
update ended_jobs
set document = :document,
    expires_at = coalesce(cast(:clock as float8), extract(epoch from clock_timestamp())) + cast(:seconds as float8)
where job_id = cast(:job_id as uuid)
