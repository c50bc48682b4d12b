-- Conversations that a sweep looks at: nobody came or came back in time, or the lock is older than it may be.
select platform_id, conversation_id
from line_states,
     coalesce(cast(:clock as float8), extract(epoch from clock_timestamp())) as now
where due_at <= now or due_at is not null and cast(fields ->> 'acquired_at' as float8) + cast(:older_than as float8) <= now
order by due_at
