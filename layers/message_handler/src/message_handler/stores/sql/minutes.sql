-- What came and went of a tenant's jobs, minute by minute; no row for a minute in which nothing did.
with begun as (
    select floor(extract(epoch from created_at) / 60)::bigint * 60 as at, count(*) as created
    from jobs
    where platform_id = :platform_id and copy_of is null
      and created_at >= to_timestamp(cast(:since as float8)) and created_at < to_timestamp(cast(:until as float8))
    group by 1
), ended as (
    select floor(extract(epoch from finished_at) / 60)::bigint * 60 as at,
           count(*) filter (where status = 'completed') as completed,
           count(*) filter (where status = 'failed') as failed,
           count(*) filter (where status = 'cancelled') as cancelled,
           percentile_cont(array[0.5, 0.95]) within group (order by extract(epoch from finished_at - created_at)::float8)
               filter (where status = 'completed') as seconds
    from jobs
    where platform_id = :platform_id and copy_of is null
      and finished_at >= to_timestamp(cast(:since as float8)) and finished_at < to_timestamp(cast(:until as float8))
    group by 1
)
select at, coalesce(created, 0), coalesce(completed, 0), coalesce(failed, 0), coalesce(cancelled, 0), seconds[1],
       seconds[2]
from begun full join ended using (at)
order by at
