-- A conversation: its row, its turns, and its settled messages.

-- name: lock_conversation
-- Lock the conversation's row, and make it if it is missing. Later statements of the transaction see all that the previous
-- holders of the lock committed. A row that a notice has made belongs to no bot ('') until a message is accepted.
insert into conversations (platform_id, conversation_id, bot_id)
values (:platform_id, :conversation_id, :bot_id)
on conflict (platform_id, conversation_id) do update
set updated_at = now(), bot_id = coalesce(nullif(conversations.bot_id, ''), excluded.bot_id)

-- name: take_fences
-- Permit runs; among several, only those whose conversation is not locked elsewhere: see functions/take_fences_v3.sql.
select number, raised, settled_by, newest, human, erased_until, waiting, bot, danger
from take_fences_v3(free_jobs_v2(cast(:jobs as json), true))

-- name: raise_fence
-- Make the current run unable to commit.
update conversations set fence = fence + 1, updated_at = now()
where platform_id = :platform_id and conversation_id = :conversation_id

-- name: settled_of
-- Those of the :ids that are settled, and the newest versions of them: by which job and how, the digest of their words, and when
-- they were accepted. As in `conversation`, the schema before may lack the last two.
select message_id, cast(job_id as text), kind, to_jsonb(settled) ->> 'words',
       cast(to_jsonb(settled) ->> 'accepted_at' as float8)
from settled
where platform_id = :platform_id and conversation_id = :conversation_id
  and message_id = any(cast(:ids as text[]) || array(
      select message_id || ' edit ' || (to_jsonb(settled) ->> 'words') from settled
      where platform_id = :platform_id and conversation_id = :conversation_id and message_id = any(cast(:ids as text[]))
        and to_jsonb(settled) ->> 'words' is not null))

-- name: settled_by
-- The job that settled a message; no row while the message is open.
select cast(job_id as text) from settled
where platform_id = :platform_id and conversation_id = :conversation_id and message_id = :message_id

-- name: settled_versions
-- As settled_of: those of the :ids that are settled, and all settled versions of the message :message_id.
select message_id, cast(job_id as text), kind, words, accepted_at from settled
where platform_id = :platform_id and conversation_id = :conversation_id
  and (message_id = any(cast(:ids as text[])) or message_id = :message_id
       or starts_with(message_id, :message_id || ' edit '))

-- name: note_edits
-- Note the newest versions of settled messages: see functions/note_edits_v1.sql. Its row is not used.
select note_edits_v1(:platform_id, :conversation_id, cast(:edits as json))

-- name: restore_versions
-- Let the newest of the versions that are left stand under the id of each of the messages :bases, because a newer one was
-- reopened.
update settled set words = newest.words, accepted_at = newest.accepted_at
from (select distinct on (base) split_part(message_id, ' edit ', 1) as base, words, accepted_at
      from settled
      where platform_id = :platform_id and conversation_id = :conversation_id
        and split_part(message_id, ' edit ', 1) = any(cast(:bases as text[])) and strpos(message_id, ' edit ') > 0
      order by base, accepted_at desc) as newest
where platform_id = :platform_id and conversation_id = :conversation_id and settled.message_id = newest.base

-- name: mark_unsent
-- Mark the turns of a message that its patient has taken back, also those that the job :job_id has archived. Returns a row for
-- each.
update turns set unsent_at = coalesce(unsent_at, now())
where platform_id = :platform_id and conversation_id = :conversation_id and role = 'user'
  and (message_id = :message_id or job_id = cast(:job_id as uuid))
returning position

-- name: drop_new_conversation
-- Delete the conversation's row if this transaction has made it.
delete from conversations
where platform_id = :platform_id and conversation_id = :conversation_id and created_at = now()

-- name: known_user_ids
-- Those of the :ids that a patient's turn, a settled message or a parked message has.
select known.message_id
from unnest(cast(:ids as text[])) as known(message_id)
where exists (
        select from turns
        where platform_id = :platform_id and conversation_id = :conversation_id and role = 'user'
          and turns.message_id = known.message_id)
   or exists (
        select from settled
        where platform_id = :platform_id and conversation_id = :conversation_id
          and settled.message_id = known.message_id)
   or exists (
        select from held
        where platform_id = :platform_id and conversation_id = :conversation_id
          and known.message_id = any(held.message_id || held.aliases))

-- name: last_turn
-- The conversation's last turn; no row if it has none.
select role, content, message_id from turns
where platform_id = :platform_id and conversation_id = :conversation_id
order by position desc
limit 1

-- name: add_turns
-- Archive what a patient and a human said, as the newest turns of the conversation. The patient's belong to the job :job_id, if
-- there is one. A turn without one of the :times (Unix seconds) is said now.
with place as (
    update conversations set turn_count = turn_count + cardinality(cast(:contents as text[]))
    where platform_id = :platform_id and conversation_id = :conversation_id
    returning turn_count - cardinality(cast(:contents as text[])) as said_before
)
insert into turns (platform_id, conversation_id, position, role, content, message_id, job_id, created_at, edited_at, earlier)
select :platform_id, :conversation_id, place.said_before + turn.number, role, content, message_id,
       case role when 'user' then cast(:job_id as uuid) end, coalesce(to_timestamp(said_at), now()),
       to_timestamp(edited_at), cast(earlier as jsonb)
from place, unnest(cast(:roles as text[]), cast(:contents as text[]), cast(:turn_ids as text[]), cast(:times as float8[]),
                   cast(:edited_ats as float8[]), cast(:earlier as text[]))
     with ordinality as turn(role, content, message_id, said_at, edited_at, earlier, number)

-- name: conversation
-- A conversation's bot, its turns in order (one row of nulls if it has none), and the ids of its parked messages. Reads go on
-- before a migration. So what the schema before it lacks is read as JSON: what is missing is null.
select conversations.bot_id, turns.role, turns.content, turns.message_id, extract(epoch from turns.created_at)::float8,
       cast(turns.job_id as text), extract(epoch from cast(to_jsonb(turns) ->> 'edited_at' as timestamptz))::float8,
       extract(epoch from cast(to_jsonb(turns) ->> 'unsent_at' as timestamptz))::float8, conversations.handed_off,
       (select array_agg(held.message_id) from held
        where held.platform_id = :platform_id and held.conversation_id = :conversation_id and answered_by is null
          and not exists (
              select from settled
              where settled.platform_id = :platform_id and settled.conversation_id = :conversation_id
                and settled.message_id = any(held.message_id || held.aliases)))
from conversations left join turns using (platform_id, conversation_id)
where platform_id = :platform_id and conversation_id = :conversation_id
order by turns.position

-- name: bot_of
-- The bot that a conversation belongs to; null if it belongs to none yet.
select nullif(bot_id, '') from conversations where platform_id = :platform_id and conversation_id = :conversation_id
