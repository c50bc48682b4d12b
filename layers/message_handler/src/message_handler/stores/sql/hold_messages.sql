-- Hold these, in this order; of one that is held already take over what is newly known. What is held counts as accepted
-- at `held_at`: whoever holds it right after an erasure means to keep it, though its margin is not over. And something has
-- happened in the conversation: who is about to purge it must see that.
with touched as (
    update conversations set updated_at = now()
    where platform_id = :platform_id and conversation_id = :conversation_id
)
insert into held (platform_id, conversation_id, message_id, content, given, aliases, context, resources, job_id,
                  answered_by, held_at)
select :platform_id, :conversation_id, kept.message_id, kept.content, kept.given, kept.aliases, kept.context,
       kept.resources, kept.job_id, kept.answered_by,
       greatest(now(), (select erased_at + interval '2 milliseconds' from erasures
                        where platform_id = :platform_id and name_hash = :name_hash))
from rows from (json_to_recordset(cast(:held as json)) as (
         message_id text, content text, given boolean, aliases text[], context text, resources text, job_id uuid,
         answered_by uuid)) with ordinality as kept(message_id, content, given, aliases, context, resources, job_id,
                                                   answered_by, number)
order by kept.number
on conflict (platform_id, conversation_id, message_id) do update
set given = excluded.given, aliases = excluded.aliases, job_id = excluded.job_id
