-- Delete what was noted before :before (Unix seconds).
delete from audit
where (platform_id, id) in (
    select platform_id, id from audit
    where at < to_timestamp(cast(:before as float8))
    limit cast(:most as integer)
    for update skip locked
)
returning true
