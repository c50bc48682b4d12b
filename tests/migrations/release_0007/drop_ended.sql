-- What this tier need not know any more: idle lines and ends past their hour, and lines that were answered on
-- another tier. One that somebody holds is left to its holder, who learns it at the fence.
with idle as (
    delete from lines where expires_at <= cast(:now as float8)
), ended as (
    delete from ended_jobs where expires_at <= cast(:now as float8)
)
delete from lines
where current_id is not null
  and (heartbeat_at is null or heartbeat_at <= cast(:stale_before as float8))
  and not exists (
      select from unnest(message_ids) as waiting(message_id)
      where not exists (
          select from settled
          where settled.platform_id = lines.platform_id and settled.conversation_id = lines.conversation_id
            and settled.message_id = waiting.message_id))
