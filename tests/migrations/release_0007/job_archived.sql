-- The archive has the job's end now: its messages' text goes.
update ended_jobs set document = :document, expires_at = cast(:expires_at as float8)
where job_id = cast(:job_id as uuid)
