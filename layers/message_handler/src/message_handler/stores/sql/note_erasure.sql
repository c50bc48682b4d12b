-- Under the row lock: from now on what was accepted before is void. The margin is for the clocks of the hosts that say
-- when that was.
insert into erasures (platform_id, name_hash, erased_at, fence)
select :platform_id, :name_hash, clock_timestamp() + make_interval(secs => cast(:margin as float8)), fence
from conversations
where platform_id = :platform_id and conversation_id = :conversation_id
on conflict (platform_id, name_hash) do update
set erased_at = excluded.erased_at, fence = greatest(erasures.fence, excluded.fence)
