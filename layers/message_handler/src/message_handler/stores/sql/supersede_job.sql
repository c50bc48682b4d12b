-- Link the end of the job's chain to the successor; a chain that leads there already stays as it is.
with recursive chain as (
    select job_id, superseded_by from jobs
    where platform_id = :platform_id and job_id = cast(:job_id as uuid)
    union
    select jobs.job_id, jobs.superseded_by from jobs join chain on jobs.job_id = chain.superseded_by
    where jobs.platform_id = :platform_id
)
update jobs
set superseded_by = cast(:successor_id as uuid),
    status = case when status = 'processing' then 'cancelled' else status end,
    finished_at = coalesce(finished_at, now())
where platform_id = :platform_id
  and superseded_by is null
  and job_id in (select job_id from chain where superseded_by is null)
  and not exists (select from chain where cast(:successor_id as uuid) in (job_id, superseded_by))
