-- Delete deliveries that arrived before :delivered_before, or were given up before :dead_before (Unix seconds).
delete from outbox
where (platform_id, job_id) in (
    select platform_id, job_id from outbox
    where (status = 'delivered' and coalesce(delivered_at, give_up_at) < to_timestamp(cast(:delivered_before as float8)))
       or (status = 'dead' and coalesce(delivered_at, give_up_at) < to_timestamp(cast(:dead_before as float8)))
    limit cast(:most as integer)
    for update skip locked
)
returning true
