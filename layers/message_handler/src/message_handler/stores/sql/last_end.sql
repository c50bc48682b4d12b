-- When a worker ended a job of a tenant last, as far as its newest jobs tell.
select max(extract(epoch from finished_at)::float8) from (
    select finished_at, status from jobs where platform_id = :platform_id order by created_at desc, job_id desc limit 100
) as newest
where status in ('completed', 'failed')
