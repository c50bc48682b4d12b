-- What this tier need not know any more: idle lines and ends past their hour, and lines that were answered on another tier.
-- One that a live worker holds is left to it, which learns that at the fence. Rows that a step has locked wait for the next
-- sweep. Lines of the release before are answered from their records, and go a day after.
with now as (
    select coalesce(cast(:clock as float8), extract(epoch from clock_timestamp())) as at
), ended as (
    delete from ended_jobs using now where expires_at <= now.at
), before as (
    delete from lines using now where greatest(acquired_at, heartbeat_at) < now.at - 86400
), over as (
    select platform_id, conversation_id
    from line_states, now
    where expires_at <= now.at
       or due_at is not null
          and coalesce(cast(fields ->> 'heartbeat_at' as float8), 0) <= now.at - cast(:heartbeat_stale as float8)
          and not exists (
              select from unnest(message_ids) as waiting(message_id)
              where not exists (
                  select from settled
                  where settled.platform_id = line_states.platform_id
                    and settled.conversation_id = line_states.conversation_id
                    and settled.message_id = waiting.message_id))
    order by platform_id, conversation_id
    for update of line_states skip locked
)
delete from line_states using over
where line_states.platform_id = over.platform_id and line_states.conversation_id = over.conversation_id
