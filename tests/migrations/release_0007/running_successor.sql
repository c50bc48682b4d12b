-- The run that goes on, or may, at the end of an ended job's chain.
with recursive chain as (
    select job_id, superseded_by from jobs
    where platform_id = :platform_id and job_id = cast(:job_id as uuid)
    union
    select jobs.job_id, jobs.superseded_by from jobs join chain on jobs.job_id = chain.superseded_by
    where jobs.platform_id = :platform_id
)
select cast(job_id as text) from jobs
where platform_id = :platform_id and job_id in (select job_id from chain where superseded_by is null)
  and job_id <> cast(:job_id as uuid) and status = 'processing'
