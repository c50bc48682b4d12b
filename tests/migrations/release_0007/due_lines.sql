-- Conversations that a sweep looks at: nobody came or came back in time, or the lock is older than it may be.
select platform_id, conversation_id from lines
where current_id is not null
  and (due_at <= cast(:now as float8)
       or heartbeat_at is not null and acquired_at + cast(:older_than as float8) <= cast(:now as float8))
order by due_at
