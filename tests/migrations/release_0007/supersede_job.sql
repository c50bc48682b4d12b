-- Link the end of the job's chain to the successor, unless the successor's own chain leads there: never a circle.
with recursive chain as (
    select job_id, superseded_by from jobs
    where platform_id = :platform_id and job_id = cast(:job_id as uuid)
    union
    select jobs.job_id, jobs.superseded_by from jobs join chain on jobs.job_id = chain.superseded_by
    where jobs.platform_id = :platform_id
), onward as (
    select cast(:successor_id as uuid) as job_id
    union
    select jobs.superseded_by from jobs join onward using (job_id)
    where jobs.platform_id = :platform_id and jobs.superseded_by is not null
)
update jobs set superseded_by = cast(:successor_id as uuid)
where platform_id = :platform_id
  and job_id in (select job_id from chain where superseded_by is null)
  and job_id not in (select job_id from onward)
