-- What is held, oldest first, unless it needs no answer any more.
select message_id, content, given, aliases, context, resources, cast(job_id as text), cast(answered_by as text),
       extract(epoch from held_at)::float8
from held
where platform_id = :platform_id and conversation_id = :conversation_id
  and (answered_by is not null or not exists (
      select from settled
      where settled.platform_id = held.platform_id and settled.conversation_id = held.conversation_id
        and settled.message_id = any(held.message_id || held.aliases)))
order by number
