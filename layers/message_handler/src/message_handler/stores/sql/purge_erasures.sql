-- Forget erasures from before :before (Unix seconds): no queue has anything that old.
delete from erasures
where (platform_id, name_hash) in (
    select platform_id, name_hash from erasures
    where erased_at < to_timestamp(cast(:before as float8))
    limit cast(:most as integer)
    for update skip locked
)
returning true
