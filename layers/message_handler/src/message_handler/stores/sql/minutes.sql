-- What came and went of a tenant's jobs, minute by minute; no row for a minute in which nothing did.
with begun as (
    select date_bin('1 minute', created_at, timestamptz 'epoch') as minute, count(*) as created
    from jobs
    where platform_id = :platform_id and copy_of is null
      and created_at >= to_timestamp(cast(:since as float8)) and created_at < to_timestamp(cast(:until as float8))
    group by 1
), ended as (
    select date_bin('1 minute', finished_at, timestamptz 'epoch') as minute,
           count(*) filter (where status = 'completed') as completed,
           count(*) filter (where status = 'failed') as failed,
           count(*) filter (where status = 'cancelled') as cancelled,
           percentile_cont(array[0.5, 0.95]) within group (order by finished_at - created_at)
               filter (where status = 'completed') as spent
    from jobs
    where platform_id = :platform_id and copy_of is null
      and finished_at >= to_timestamp(cast(:since as float8)) and finished_at < to_timestamp(cast(:until as float8))
    group by 1
)
select extract(epoch from minute)::bigint, coalesce(created, 0), coalesce(completed, 0), coalesce(failed, 0),
       coalesce(cancelled, 0), extract(epoch from spent[1])::float8, extract(epoch from spent[2])::float8
from begun full join ended using (minute)
order by minute
