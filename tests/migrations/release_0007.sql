-- name: archive_job
-- The same in the next release: c67bb8426b53

-- name: bot_of
-- The same in the next release: ad587f053ae2

-- name: bots
select jsonb_build_object(
    'bot_id', bot_id, 'name', name, 'description', description, 'language', language, 'is_active', is_active,
    'core_ai_id', core_ai_id, 'platform_id', platform_id, 'meta_data', meta_data)
from bots
where platform_id = :platform_id and (cast(:id as text) is null or bot_id = :id)
order by bot_id collate "C"

-- name: cancel_job
-- Under the row lock: settle what is open as cancelled, archive its text, shut out the run that goes on, end the job.
-- `ids` are all ids of the messages, `owners` the message that each belongs to.
with settled_now as (
    insert into settled (platform_id, conversation_id, message_id, job_id, kind)
    select :platform_id, :conversation_id, id, cast(:job_id as uuid), 'cancelled'
    from unnest(cast(:ids as text[]), cast(:owners as text[])) as mine(id, owner)
    where not exists (
        select from settled
        where platform_id = :platform_id and conversation_id = :conversation_id and message_id = owner)
    on conflict do nothing
    returning message_id
), raised as (
    update conversations
    set fence = fence + 1, turn_count = turn_count + cardinality(cast(:message_ids as text[])), updated_at = now()
    where platform_id = :platform_id and conversation_id = :conversation_id
      and exists (select from settled_now)
    returning turn_count - cardinality(cast(:message_ids as text[])) as position
), ended as (
    insert into jobs (platform_id, job_id, conversation_id, bot_id, status, message_ids, restarts, attempts,
                      created_at, started_at, finished_at)
    values (:platform_id, cast(:job_id as uuid), :conversation_id, :bot_id, 'cancelled',
            cast(:message_ids as text[]), cast(:restarts as integer), cast(:attempts as integer),
            to_timestamp(cast(:created_at as float8)), to_timestamp(cast(:started_at as float8)), now())
    on conflict (platform_id, job_id) do update
    set status = 'cancelled', message_ids = excluded.message_ids, finished_at = now()
    where jobs.status = 'processing'
), said as (
    insert into turns (platform_id, conversation_id, position, role, content, message_id, job_id, created_at)
    select :platform_id, :conversation_id, raised.position + turn.number, 'user', turn.content, turn.turn_id,
           cast(:job_id as uuid), now()
    from raised, unnest(cast(:message_ids as text[]), cast(:contents as text[]), cast(:turn_ids as text[]))
         with ordinality as turn(message_id, content, turn_id, number)
    where turn.message_id in (select message_id from settled_now)
)
select exists (select from settled_now) or exists (
    select from settled
    where platform_id = :platform_id and conversation_id = :conversation_id
      and job_id = cast(:job_id as uuid) and kind = 'cancelled' and message_id = any(cast(:message_ids as text[])))

-- name: chain_end
-- The same in the next release: c604186266a4

-- name: claim_delivery
-- The same in the next release: d495880fb9bc

-- name: commit_job
-- The whole commit in one statement: it waits for the conversation's row, and then sees the newest fence there.
-- A message that is settled already violates settled's primary key, and nothing of this has happened.
with owner as (
    update conversations
    set turn_count = turn_count + cardinality(cast(:roles as text[])), updated_at = now()
    where platform_id = :platform_id and conversation_id = :conversation_id and fence = cast(:fence as bigint)
    returning turn_count - cardinality(cast(:roles as text[])) as position
), ended as (
    update jobs
    set status = :status, reply = :reply, error_code = :error_code, error_message = :error_message,
        error_notice = :error_notice, input_tokens = cast(:input_tokens as bigint),
        output_tokens = cast(:output_tokens as bigint), correlation_id = :correlation_id,
        fence = cast(:fence as bigint), message_ids = cast(:message_ids as text[]),
        restarts = cast(:restarts as integer), attempts = cast(:attempts as integer),
        finished_at = to_timestamp(cast(:finished_at as float8))
    from owner
    where platform_id = :platform_id and job_id = cast(:job_id as uuid) and status = 'processing'
    returning owner.position
), settled_now as (
    insert into settled (platform_id, conversation_id, message_id, job_id, kind)
    select distinct :platform_id, :conversation_id, message_id, cast(:job_id as uuid), :kind
    from ended, unnest(cast(:ids as text[])) as message_id
), said as (
    insert into turns (platform_id, conversation_id, position, role, content, message_id, job_id, created_at)
    select :platform_id, :conversation_id, ended.position + turn.number, turn.role, turn.content, turn.message_id,
           cast(:job_id as uuid), to_timestamp(cast(:finished_at as float8))
    from ended, unnest(cast(:roles as text[]), cast(:contents as text[]), cast(:turn_ids as text[]))
         with ordinality as turn(role, content, message_id, number)
), told as (
    insert into outbox (platform_id, job_id, conversation_id, webhook_id, message_ids, created_at, give_up_at)
    select :platform_id, cast(:job_id as uuid), :conversation_id, 'msg_' || cast(:job_id as text), cast(:given_ids as text[]),
           to_timestamp(cast(:finished_at as float8)), to_timestamp(cast(:finished_at as float8)) + interval '1 day'
    from ended join platforms on platform_id = :platform_id and base_url <> ''
)
select exists (select from ended)

-- name: configuration
-- The same in the next release: 49ae10eb078d

-- name: conversation
-- The same in the next release: 6842ee375b25

-- name: copy_successor
-- The same in the next release: ab16aef19d70

-- name: core_ai
select jsonb_build_object(
    'core_ai_id', core_ai_id, 'name', name, 'api_endpoint', api_endpoint, 'auth_required', auth_required,
    'auth_token', auth_token, 'auth_host', auth_host, 'timeout_seconds', timeout_seconds, 'meta_data', meta_data)
from core_ai
where platform_id = :platform_id and (cast(:id as text) is null or core_ai_id = :id)
order by core_ai_id collate "C"

-- name: dead_deliveries
-- The same in the next release: 3ca9e19d9e32

-- name: delete_bots
-- The same in the next release: f72fd0c60a9c

-- name: delete_core_ai
-- The same in the next release: 9c2c6ded0835

-- name: delete_platforms
-- The same in the next release: 319e06c496ec

-- name: delivered
-- The same in the next release: 30e59d1d11ac

-- name: drop_ended
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

-- name: drop_held
-- The same in the next release: 23fad702f8ae

-- name: drop_settled_held
-- The same in the next release: df8e4bdedfbc

-- name: due_deliveries
-- The same in the next release: 335711061ce7

-- name: due_lines
-- Conversations that a sweep looks at: nobody came or came back in time, or the lock is older than it may be.
select platform_id, conversation_id from lines
where current_id is not null
  and (due_at <= cast(:now as float8)
       or heartbeat_at is not null and acquired_at + cast(:older_than as float8) <= cast(:now as float8))
order by due_at

-- name: end_job
-- The same in the next release: cd76e1637f76

-- name: end_settled
-- The same in the next release: 30286034a611

-- name: end_superseded
-- End those jobs of the conversation that lead to another one, and wait for a run that nobody needs any more: the last
-- of their messages has just been settled under another name.
update jobs set status = 'cancelled', finished_at = now()
where platform_id = :platform_id and conversation_id = :conversation_id and status = 'processing'
  and superseded_by is not null
  and not exists (
      select from unnest(jobs.message_ids) as noted(message_id)
      where not exists (
          select from settled
          where settled.platform_id = jobs.platform_id and settled.conversation_id = jobs.conversation_id
            and settled.message_id = noted.message_id))

-- name: expire_deliveries
-- The same in the next release: 58d7c3d93217

-- name: hand_back
-- The same in the next release: df6f08d8ad9c

-- name: hand_off
-- The same in the next release: b89da51a7909

-- name: handoff_state
-- The same in the next release: 1de00d614573

-- name: held_messages
-- What is held, oldest first, unless it needs no answer any more.
select message_id, content, given, aliases, context, resources, cast(job_id as text), cast(answered_by as text)
from held
where platform_id = :platform_id and conversation_id = :conversation_id
  and (answered_by is not null or not exists (
      select from settled
      where settled.platform_id = held.platform_id and settled.conversation_id = held.conversation_id
        and settled.message_id = any(held.message_id || held.aliases)))
order by number

-- name: hold_messages
-- Hold these, in this order; of one that is held already take over what is newly known.
insert into held (platform_id, conversation_id, message_id, content, given, aliases, context, resources, job_id,
                  answered_by)
select :platform_id, :conversation_id, kept.message_id, kept.content, kept.given, kept.aliases, kept.context,
       kept.resources, kept.job_id, kept.answered_by
from rows from (json_to_recordset(cast(:held as json)) as (
         message_id text, content text, given boolean, aliases text[], context text, resources text, job_id uuid,
         answered_by uuid)) with ordinality as kept(message_id, content, given, aliases, context, resources, job_id,
                                                   answered_by, number)
order by kept.number
on conflict (platform_id, conversation_id, message_id) do update
set given = excluded.given, aliases = excluded.aliases, job_id = excluded.job_id

-- name: insert_line
-- The first step on a conversation; another may have been faster.
insert into lines (platform_id, conversation_id, version, document, current_id, next_id, message_ids, due_at,
                   acquired_at, heartbeat_at, expires_at)
values (:platform_id, :conversation_id, cast(:version as uuid), :document, cast(:current_id as uuid),
        cast(:next_id as uuid), cast(:message_ids as text[]), cast(:due_at as float8), cast(:acquired_at as float8),
        cast(:heartbeat_at as float8), cast(:expires_at as float8))
on conflict do nothing
returning version

-- name: interrupt_job
-- The same in the next release: 57f2092d0d64

-- name: is_held
-- The same in the next release: c5d0c9d3e2e0

-- name: job
-- The same in the next release: dce82c4ba979

-- name: job_archived
-- The archive has the job's end now: its messages' text goes.
update ended_jobs set document = :document, expires_at = cast(:expires_at as float8)
where job_id = cast(:job_id as uuid)

-- name: live_lines
select conversation_id, document from lines where platform_id = :platform_id and current_id is not null

-- name: load_line
-- A conversation's line, the server's time, and whether a job of this name has ended in this tier.
select extract(epoch from clock_timestamp())::float8, cast(lines.version as text), lines.document, lines.expires_at,
       (select max(ended_jobs.expires_at) from ended_jobs
        where ended_jobs.platform_id = :platform_id and job_id = cast(:job_id as uuid))
from (values (1)) as always
left join lines on lines.platform_id = :platform_id and lines.conversation_id = :conversation_id

-- name: lock_configuration
-- The same in the next release: 6e8f975ab79c

-- name: lock_conversation
-- The same in the next release: dfc6f4974178

-- name: lock_platform
-- The same in the next release: 55667180288e

-- name: move_later_turns
-- The same in the next release: a2a7ec61f287

-- name: note_end
-- The same in the next release: f937e7257de2

-- name: note_job
-- The same in the next release: 54f3e586a3ef

-- name: note_sale
-- The same in the next release: b50ed4e6c90a

-- name: noted_sales
-- The same in the next release: ba6c7be3c175

-- name: now
-- The same in the next release: 2045b14273e4

-- name: place_later_turns
-- The same in the next release: fc4f82f75887

-- name: platforms
-- A tenant sees its own.
select jsonb_build_object(
    'platform_id', platform_id, 'name', name, 'description', description, 'base_url', base_url,
    'auth_required', auth_required, 'meta_data', meta_data)
from platforms
where platform_id = :platform_id and (cast(:id as text) is null or platform_id = :id)

-- name: put_bots
-- The same in the next release: 593c71b2cb15

-- name: put_core_ai
-- The same in the next release: 99915706b7d6

-- name: put_platforms
-- The same in the next release: 44b8273e9965

-- name: raise_fence
-- The same in the next release: 1591e73a9f08

-- name: redrive_deliveries
-- The same in the next release: 79d787ab1368

-- name: running_successor
-- The same in the next release: 836c89673055

-- name: settle_also
-- The same in the next release: 95f9c77db053

-- name: settled_by
-- The same in the next release: f2bf9c0591c0

-- name: settled_of
-- The same in the next release: 8d4c78f1048a

-- name: supersede_job
-- The same in the next release: 649e503a0945

-- name: take_fence
-- Under the row lock: raise the fence and note the run, unless the job has ended, a message of it is settled, or a
-- human answers.
with known as (
    select * from jobs
    where platform_id = :platform_id and job_id = cast(:job_id as uuid) and status <> 'processing'
), done as (
    select message_id, job_id from settled
    where platform_id = :platform_id and conversation_id = :conversation_id
      and message_id = any(cast(:ids as text[]))
), raised as (
    update conversations set fence = fence + 1
    where platform_id = :platform_id and conversation_id = :conversation_id
      and not exists (select from known)
      and not exists (select from done where message_id = any(cast(:message_ids as text[])))
      and not handed_off
    returning fence
), noted as (
    insert into jobs (platform_id, job_id, conversation_id, bot_id, status, fence, message_ids, restarts, attempts,
                      created_at, started_at)
    select :platform_id, cast(:job_id as uuid), :conversation_id, :bot_id, 'processing', raised.fence,
           cast(:message_ids as text[]), cast(:restarts as integer), cast(:attempts as integer),
           to_timestamp(cast(:created_at as float8)), to_timestamp(cast(:started_at as float8))
    from raised
    on conflict (platform_id, job_id) do update
    set fence = excluded.fence, message_ids = excluded.message_ids, restarts = excluded.restarts,
        attempts = excluded.attempts, started_at = coalesce(jobs.started_at, excluded.started_at)
)
select (select fence from raised),
       (select json_object_agg(message_id, job_id) from done),
       (select json_agg(json_build_object('role', role, 'content', content, 'message_id', message_id)
                        order by position)
        from (select * from turns
              where platform_id = :platform_id and conversation_id = :conversation_id
              order by position desc limit cast(:turns as integer)) as newest),
       (select handed_off from conversations
        where platform_id = :platform_id and conversation_id = :conversation_id)

-- name: tier_job
-- Where a job is: as it ended in this tier, or in the line where it waits or runs; and the server's time.
select extract(epoch from clock_timestamp())::float8, null, null, document, expires_at
from ended_jobs where job_id = cast(:job_id as uuid)
union all
select extract(epoch from clock_timestamp())::float8, platform_id, conversation_id, document, null
from lines where current_id = cast(:job_id as uuid) or next_id = cast(:job_id as uuid)

-- name: to_give_back
-- The same in the next release: 786a303d2a2b

-- name: undelivered
-- The same in the next release: 5c2e969db0c6

-- name: update_line
-- A step on a conversation, unless another came since it was read; with it the job that it ended, if it ended one.
with saved as (
    update lines
    set version = cast(:version as uuid), document = :document, current_id = cast(:current_id as uuid),
        next_id = cast(:next_id as uuid), message_ids = cast(:message_ids as text[]),
        due_at = cast(:due_at as float8), acquired_at = cast(:acquired_at as float8),
        heartbeat_at = cast(:heartbeat_at as float8), expires_at = cast(:expires_at as float8)
    where platform_id = :platform_id and conversation_id = :conversation_id and version = cast(:seen as uuid)
    returning platform_id
), ended as (
    insert into ended_jobs (platform_id, job_id, document, expires_at)
    select platform_id, cast(:ended_id as uuid), :ended, cast(:ended_until as float8)
    from saved where cast(:ended_id as uuid) is not null
    on conflict (job_id, platform_id) do update
    set document = excluded.document, expires_at = excluded.expires_at
)
select from saved

-- name: waiting_messages
-- What waits for the conversation in this tier, and which of it is settled.
select document, array(
    select message_id from settled
    where settled.platform_id = lines.platform_id and settled.conversation_id = lines.conversation_id
      and message_id = any(lines.message_ids))
from lines
where platform_id = :platform_id and conversation_id = :conversation_id and current_id is not null

-- name: was_committed
-- The same in the next release: 05b600ec0654

-- name: webhook
-- The same in the next release: f30381465130
