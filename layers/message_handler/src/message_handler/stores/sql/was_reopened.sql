-- Whether a job's messages were opened again: then its end is an old story.
select exists (
    select from jobs
    where platform_id = :platform_id and job_id = cast(:job_id as uuid) and retried_at is not null)
