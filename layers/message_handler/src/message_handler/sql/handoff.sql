-- Handoffs: who answers a conversation, and its parked messages (table `held`).

-- name: handoff_state
-- Lock the conversation's row, and return who answers it.
select bot_id, handed_off, handoffs from conversations
where platform_id = :platform_id and conversation_id = :conversation_id
for update

-- name: hand_off
-- Silence the bot, and make the current run unable to commit.
update conversations set handed_off = true, handoffs = handoffs + 1, fence = fence + 1, updated_at = now()
where platform_id = :platform_id and conversation_id = :conversation_id

-- name: resume
-- Let the bot answer again. What a human has answered is not needed any more.
with back as (
    update conversations set handed_off = false, updated_at = now()
    where platform_id = :platform_id and conversation_id = :conversation_id
    returning platform_id
), answered as (
    delete from held
    where platform_id = :platform_id and conversation_id = :conversation_id and answered_by is not null
)
select exists (select from back)

-- name: noted_sales
-- The archived SALE turns that may be the same as those of a request: those with the same id, and the newest 100 of the others
-- where one of the two has no id. The caller compares their words.
select message_id, content from turns
where platform_id = :platform_id and conversation_id = :conversation_id and role = 'sale'
  and (message_id is null
       or message_id = any(cast(:turn_ids as text[]))
       or array_position(cast(:turn_ids as text[]), null) is not null)
order by coalesce(message_id = any(cast(:turn_ids as text[])), false) desc, position desc
limit 100 + cardinality(cast(:turn_ids as text[]))

-- name: park_messages
-- Park these messages, in this order. One that is parked already gets further ids or a job. A parked message counts as
-- accepted at `held_at`, which is after any erasure: the messages of a request right after an erasure are kept, even within
-- its margin. The conversation counts as active, so that a purge spares it.
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
from rows from (json_to_recordset(cast(:messages as json)) as (
         message_id text, content text, given boolean, aliases text[], context text, resources text, job_id uuid,
         answered_by uuid)) with ordinality as kept(message_id, content, given, aliases, context, resources, job_id,
                                                   answered_by, number)
order by kept.number
on conflict (platform_id, conversation_id, message_id) do update
set given = excluded.given, aliases = excluded.aliases, job_id = excluded.job_id

-- name: parked_messages
-- The parked messages, oldest first, without those that are settled.
select message_id, content, given, aliases, context, resources, cast(job_id as text), cast(answered_by as text),
       extract(epoch from held_at)::float8
from held
where platform_id = :platform_id and conversation_id = :conversation_id
  and (answered_by is not null or not exists (
      select from settled
      where settled.platform_id = held.platform_id and settled.conversation_id = held.conversation_id
        and settled.message_id = any(held.message_id || held.aliases)))
order by number

-- name: parked_under
-- The messages with these ids that are parked while a human answers.
select message_id, content, given, aliases, extract(epoch from held_at)::float8
from held join conversations using (platform_id, conversation_id)
where platform_id = :platform_id and conversation_id = :conversation_id and handed_off and answered_by is null
  and cast(:ids as text[]) && (held.message_id || held.aliases)

-- name: settle_also
-- Settle further ids of settled messages. After an erasure there is none.
insert into settled (platform_id, conversation_id, message_id, job_id, kind, words, accepted_at)
select platform_id, conversation_id, also.message_id, also.job_id, also.kind, also.words, also.accepted_at
from conversations, unnest(cast(:ids as text[]), cast(:job_ids as uuid[]), cast(:kinds as text[]),
                           cast(:words as text[]), cast(:accepted_ats as float8[]))
                    as also(message_id, job_id, kind, words, accepted_at)
where platform_id = :platform_id and conversation_id = :conversation_id
on conflict do nothing

-- name: drop_parked
-- Delete these parked messages.
delete from held
where platform_id = :platform_id and conversation_id = :conversation_id
  and message_id = any(cast(:message_ids as text[]))

-- name: drop_settled_parked
-- Delete the parked messages that are settled.
delete from held
where platform_id = :platform_id and conversation_id = :conversation_id and answered_by is null
  and exists (
      select from settled
      where settled.platform_id = held.platform_id and settled.conversation_id = held.conversation_id
        and settled.message_id = any(held.message_id || held.aliases))

-- name: to_unpark
-- Conversations that the bot answers again, but that still have parked messages.
select distinct platform_id, conversation_id
from held join conversations using (platform_id, conversation_id)
where not handed_off and answered_by is null
limit 100
