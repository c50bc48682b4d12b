-- A job gave its messages to another one before its reply was sealed: it ends, unless it has ended. Whoever still runs
-- it takes no fence and commits nothing any more.
update jobs
set status = 'cancelled', finished_at = now(),
    superseded_by = coalesce(superseded_by, cast(:successor_id as uuid))
where platform_id = :platform_id and job_id = cast(:job_id as uuid) and status = 'processing'
