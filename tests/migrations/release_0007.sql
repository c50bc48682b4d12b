-- name: archive_job
-- Under the row lock, for messages that are all open and a job that has not ended: end it, and shut out who runs now.
-- An alias that was settled alone stays with the job that settled it. The turns go before those that were said later.
with raised as (
    update conversations
    set fence = fence + 1, turn_count = turn_count + cardinality(cast(:roles as text[])), updated_at = now()
    where platform_id = :platform_id and conversation_id = :conversation_id
    returning fence, turn_count - cardinality(cast(:roles as text[])) as position
), ended as (
    insert into jobs (platform_id, job_id, conversation_id, bot_id, status, fence, message_ids, restarts, attempts,
                      reply, error_code, error_message, error_notice, input_tokens, output_tokens, correlation_id,
                      created_at, started_at, finished_at)
    select :platform_id, cast(:job_id as uuid), :conversation_id, :bot_id, :status, raised.fence,
           cast(:message_ids as text[]), cast(:restarts as integer), cast(:attempts as integer),
           :reply, :error_code, :error_message, :error_notice, cast(:input_tokens as bigint),
           cast(:output_tokens as bigint), :correlation_id, to_timestamp(cast(:created_at as float8)),
           to_timestamp(cast(:started_at as float8)), to_timestamp(cast(:finished_at as float8))
    from raised
    on conflict (platform_id, job_id) do update
    set status = excluded.status, fence = excluded.fence, message_ids = excluded.message_ids,
        restarts = excluded.restarts, attempts = excluded.attempts, reply = excluded.reply,
        error_code = excluded.error_code, error_message = excluded.error_message, error_notice = excluded.error_notice,
        input_tokens = excluded.input_tokens, output_tokens = excluded.output_tokens,
        correlation_id = excluded.correlation_id,
        started_at = coalesce(jobs.started_at, excluded.started_at), finished_at = excluded.finished_at
), settled_now as (
    insert into settled (platform_id, conversation_id, message_id, job_id, kind)
    select :platform_id, :conversation_id, message_id, cast(:job_id as uuid), :kind
    from unnest(cast(:ids as text[])) as message_id
    on conflict do nothing
), told as (
    -- Under the id that it may have been delivered with already, as `run_id`, unless another end was.
    insert into outbox (platform_id, job_id, conversation_id, webhook_id, message_ids, created_at, give_up_at)
    select :platform_id, cast(:job_id as uuid), :conversation_id,
           'msg_' || case when exists (
               select from outbox where platform_id = :platform_id and webhook_id = 'msg_' || cast(:run_id as text)
           ) then cast(:job_id as text) else cast(:run_id as text) end,
           cast(:given_ids as text[]), now(), now() + interval '1 day'
    from platforms where platform_id = :platform_id and base_url <> ''
), place as (
    select coalesce(
        (select min(position) - cardinality(cast(:roles as text[])) - 1 from turns
         where platform_id = :platform_id and conversation_id = :conversation_id
           and created_at > to_timestamp(cast(:finished_at as float8))),
        (select position from raised)) as position
)
insert into turns (platform_id, conversation_id, position, role, content, message_id, job_id, created_at)
select :platform_id, :conversation_id, place.position + turn.number, turn.role, turn.content, turn.message_id,
       cast(:job_id as uuid), to_timestamp(cast(:finished_at as float8))
from place, unnest(cast(:roles as text[]), cast(:contents as text[]), cast(:turn_ids as text[]))
     with ordinality as turn(role, content, message_id, number)

-- name: bot_of
select bot_id from conversations where platform_id = :platform_id and conversation_id = :conversation_id

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
-- What a job's chain of successors ends with; it may be just a name.
with recursive chain as (
    select job_id, superseded_by from jobs
    where platform_id = :platform_id and job_id = cast(:job_id as uuid)
    union
    select jobs.job_id, jobs.superseded_by from jobs join chain on jobs.job_id = chain.superseded_by
    where jobs.platform_id = :platform_id
)
select cast(coalesce(superseded_by, job_id) as text) from chain
where superseded_by is null or superseded_by not in (select job_id from chain)

-- name: claim_delivery
-- The conversation's oldest pending delivery, for one worker, if it is due: never one behind it. If its platform is left
-- alone for now, or has as many on their way as it may, until when. After lock_platform: what is counted stays so.
with head as (
    select platform_id, job_id, next_attempt_at, claimed_until from outbox
    where platform_id = :platform_id and conversation_id = :conversation_id and status = 'pending'
    order by sequence limit 1
), due as (
    select platform_id, job_id, webhook_failures,
           case
               when webhook_retry_at > to_timestamp(cast(:now as float8)) then webhook_retry_at
               when (
                   select count(*) from outbox
                   where outbox.platform_id = head.platform_id
                     and claimed_until > to_timestamp(cast(:now as float8))
               ) >= cast(:most as integer) then to_timestamp(cast(:busy_until as float8))
           end as refused_until
    from head join platforms using (platform_id)
    where next_attempt_at <= to_timestamp(cast(:now as float8))
      and (claimed_until is null or claimed_until <= to_timestamp(cast(:now as float8)))
), probe as (
    update platforms set webhook_retry_at = to_timestamp(cast(:until as float8))
    from due
    where platforms.platform_id = due.platform_id and refused_until is null and due.webhook_failures > 0
), claimed as (
    update outbox set claim_id = cast(:claim_id as uuid), claimed_until = to_timestamp(cast(:until as float8))
    from due
    where outbox.platform_id = due.platform_id and outbox.job_id = due.job_id and refused_until is null
      and status = 'pending'  -- who expires deliveries locks no platform
    returning outbox.*
)
select extract(epoch from due.refused_until)::float8,
       claimed.webhook_id, claimed.message_ids, claimed.attempts, extract(epoch from claimed.give_up_at)::float8,
       due.webhook_failures, cast(jobs.job_id as text), jobs.bot_id, jobs.status, jobs.message_ids, jobs.reply,
       jobs.error_code, jobs.error_notice, jobs.correlation_id, extract(epoch from jobs.finished_at)::float8
from due left join claimed using (platform_id, job_id) left join jobs using (platform_id, job_id)

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
-- A bot with its AI core and platform, under the names that get_bot_config() serves. The default bot need not be there:
-- its platform is.
with cores as (
    select core_ai_id, meta_data, jsonb_build_object(
        'core_ai_id', core_ai_id, 'name', name, 'api_endpoint', api_endpoint, 'auth_required', auth_required,
        'auth_token', auth_token, 'auth_host', auth_host, 'timeout_seconds', timeout_seconds,
        'meta_data', meta_data) as record
    from core_ai
    where platform_id = :platform_id
)
select jsonb_build_object(
    'bot_id', bots.bot_id, 'name', bots.name, 'description', bots.description, 'language', bots.language,
    'is_active', bots.is_active, 'core_ai_id', bots.core_ai_id, 'platform_id', platforms.platform_id,
    'meta_data', bots.meta_data,
    'core_ai', cores.record || jsonb_build_object('fallback', fallback.record),
    'platform', jsonb_build_object(
        'platform_id', platforms.platform_id, 'name', platforms.name, 'description', platforms.description,
        'base_url', platforms.base_url, 'auth_required', platforms.auth_required,
        'meta_data', platforms.meta_data))
from platforms
left join bots on bots.platform_id = platforms.platform_id and bots.bot_id = :bot_id
left join cores on cores.core_ai_id = bots.core_ai_id
left join cores as fallback
    on fallback.core_ai_id = cores.meta_data ->> 'fallback_core_ai_id' and fallback.core_ai_id <> cores.core_ai_id
where platforms.platform_id = :platform_id and (bots.bot_id is not null or :bot_id = 'default')

-- name: conversation
select conversations.bot_id, turns.role, turns.content, turns.message_id, extract(epoch from turns.created_at)::float8,
       cast(turns.job_id as text), conversations.handed_off,
       (select array_agg(held.message_id) from held
        where held.platform_id = :platform_id and held.conversation_id = :conversation_id and answered_by is null
          and not exists (
              select from settled
              where settled.platform_id = :platform_id and settled.conversation_id = :conversation_id
                and settled.message_id = any(held.message_id || held.aliases)))
from conversations left join turns using (platform_id, conversation_id)
where platform_id = :platform_id and conversation_id = :conversation_id
order by turns.position

-- name: copy_successor
-- Where the job's chain could not be linked to the successor, because the successor's own chain leads into it: two jobs
-- answered what the other was promised, and one pointer a job can't say both. The chain then ends with a copy.
with recursive chain as (
    select job_id, superseded_by, copy_of from jobs
    where platform_id = :platform_id and job_id = cast(:job_id as uuid)
    union
    select jobs.job_id, jobs.superseded_by, jobs.copy_of from jobs join chain on jobs.job_id = chain.superseded_by
    where jobs.platform_id = :platform_id
), copied as (
    insert into jobs (platform_id, job_id, conversation_id, bot_id, status, fence, message_ids, restarts, attempts,
                      reply, error_code, error_message, error_notice, input_tokens, output_tokens, correlation_id,
                      created_at, started_at, finished_at, copy_of)
    select platform_id, cast(:copy_id as uuid), conversation_id, bot_id, status, fence, message_ids, restarts, attempts,
           reply, error_code, error_message, error_notice, input_tokens, output_tokens, correlation_id,
           created_at, started_at, finished_at, job_id
    from jobs
    where platform_id = :platform_id and job_id = cast(:successor_id as uuid) and status <> 'processing'
      and not exists (select from chain where cast(:successor_id as uuid) in (chain.job_id, chain.copy_of))
    returning job_id
)
update jobs set superseded_by = copied.job_id
from copied
where platform_id = :platform_id and jobs.job_id in (select job_id from chain where superseded_by is null)

-- name: core_ai
select jsonb_build_object(
    'core_ai_id', core_ai_id, 'name', name, 'api_endpoint', api_endpoint, 'auth_required', auth_required,
    'auth_token', auth_token, 'auth_host', auth_host, 'timeout_seconds', timeout_seconds, 'meta_data', meta_data)
from core_ai
where platform_id = :platform_id and (cast(:id as text) is null or core_ai_id = :id)
order by core_ai_id collate "C"

-- name: dead_deliveries
-- A tenant's deliveries that were given up, oldest first. No text.
select webhook_id, conversation_id, cast(job_id as text), attempts, extract(epoch from created_at)::float8, last_error
from outbox
where platform_id = :platform_id and status = 'dead'
order by sequence
limit cast(:most as integer)

-- name: delete_bots
delete from bots where platform_id = :platform_id and bot_id = :id

-- name: delete_core_ai
delete from core_ai where platform_id = :platform_id and core_ai_id = :id

-- name: delete_platforms
delete from platforms where platform_id = :platform_id and platform_id = :id

-- name: delivered
-- A delivery has arrived, says its claim's owner: its platform is not the one that fails. (Each of the others keeps the
-- time of its own next try: what failed for itself would else be the first to fail again.) After lock_platform.
with done as (
    update outbox
    set status = 'delivered', attempts = attempts + 1, delivered_at = to_timestamp(cast(:now as float8)),
        claim_id = null, claimed_until = null, last_error = null
    where platform_id = :platform_id and webhook_id = :webhook_id and claim_id = cast(:claim_id as uuid)
      and status = 'pending'
    returning platform_id
), back as (
    update platforms set webhook_failures = 0, webhook_retry_at = '-infinity', webhook_suspect = null
    from done
    where platforms.platform_id = done.platform_id and (webhook_failures > 0 or webhook_suspect is not null)
)
select exists (select from done)

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
-- These are held no longer.
delete from held
where platform_id = :platform_id and conversation_id = :conversation_id
  and message_id = any(cast(:message_ids as text[]))

-- name: drop_settled_held
-- What is held need not be, once it is settled.
delete from held
where platform_id = :platform_id and conversation_id = :conversation_id and answered_by is null
  and exists (
      select from settled
      where settled.platform_id = held.platform_id and settled.conversation_id = held.conversation_id
        and settled.message_id = any(held.message_id || held.aliases))

-- name: due_deliveries
-- Conversations whose oldest pending delivery is due, of one platform if one is named: in turn one of each platform, and
-- of one that fails no second. What was never tried, or whose time came first, is first.
with heads as (
    select distinct on (platform_id, conversation_id)
           platform_id, conversation_id, sequence, next_attempt_at, claimed_until
    from outbox
    where status = 'pending' and (cast(:platform_id as text) is null or platform_id = cast(:platform_id as text))
    order by platform_id, conversation_id, sequence
), due as (
    select platform_id, conversation_id, sequence, next_attempt_at, webhook_failures,
           row_number() over (partition by platform_id order by next_attempt_at, sequence) as place
    from heads join platforms using (platform_id)
    where next_attempt_at <= to_timestamp(cast(:now as float8))
      and (claimed_until is null or claimed_until <= to_timestamp(cast(:now as float8)))
      and webhook_retry_at <= to_timestamp(cast(:now as float8))
)
select platform_id, conversation_id from due
where place = 1 or webhook_failures = 0
order by place, next_attempt_at, sequence
limit cast(:most as integer)

-- name: due_lines
-- Conversations that a sweep looks at: nobody came or came back in time, or the lock is older than it may be.
select platform_id, conversation_id from lines
where current_id is not null
  and (due_at <= cast(:now as float8)
       or heartbeat_at is not null and acquired_at + cast(:older_than as float8) <= cast(:now as float8))
order by due_at

-- name: end_job
-- Nothing runs under this job any more.
update jobs set status = 'cancelled', finished_at = now()
where platform_id = :platform_id and job_id = cast(:job_id as uuid) and status = 'processing'

-- name: end_settled
-- End those jobs of a chain that wait for a run, but of which no message is open any more.
with recursive chain as (
    select job_id, superseded_by from jobs
    where platform_id = :platform_id and job_id = cast(:job_id as uuid)
    union
    select jobs.job_id, jobs.superseded_by from jobs join chain on jobs.job_id = chain.superseded_by
    where jobs.platform_id = :platform_id
)
update jobs set status = 'cancelled', finished_at = now()
where platform_id = :platform_id and status = 'processing' and job_id in (select job_id from chain)
  and not exists (
      select from unnest(jobs.message_ids) as noted(message_id)
      where not exists (
          select from settled
          where settled.platform_id = jobs.platform_id and settled.conversation_id = jobs.conversation_id
            and settled.message_id = noted.message_id))

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
-- Give up what had no try of its own at the end of its time, because its platform answered nobody.
update outbox
set status = 'dead', claim_id = null, claimed_until = null, last_error = coalesce(last_error, 'expired')
where status = 'pending' and give_up_at <= to_timestamp(cast(:overdue as float8))
  and (claimed_until is null or claimed_until <= to_timestamp(cast(:now as float8)))
returning cast(job_id as text)

-- name: hand_back
-- The bot answers again. What a human has answered need not be known any more.
with back as (
    update conversations set handed_off = false, updated_at = now()
    where platform_id = :platform_id and conversation_id = :conversation_id
    returning platform_id
), answered as (
    delete from held
    where platform_id = :platform_id and conversation_id = :conversation_id and answered_by is not null
)
select exists (select from back)

-- name: hand_off
-- Silence the bot, and shut out the run that goes on.
update conversations set handed_off = true, handoffs = handoffs + 1, fence = fence + 1, updated_at = now()
where platform_id = :platform_id and conversation_id = :conversation_id

-- name: handoff_state
-- Who answers the conversation, and its row lock.
select bot_id, handed_off, handoffs from conversations
where platform_id = :platform_id and conversation_id = :conversation_id
for update

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
-- A job gave its messages to another one before its reply was sealed: it ends, unless it has ended. Whoever still runs
-- it takes no fence and commits nothing any more.
update jobs
set status = 'cancelled', finished_at = now(),
    superseded_by = coalesce(superseded_by, cast(:successor_id as uuid))
where platform_id = :platform_id and job_id = cast(:job_id as uuid) and status = 'processing'

-- name: is_held
-- Whether a message waits here while a human answers.
select exists (
    select from held join conversations using (platform_id, conversation_id)
    where platform_id = :platform_id and conversation_id = :conversation_id and handed_off and answered_by is null
      and :message_id = any(held.message_id || held.aliases))

-- name: job
select cast(job_id as text), conversation_id, bot_id, status, message_ids, restarts, attempts, reply, error_code,
       error_message, error_notice, input_tokens, output_tokens, correlation_id, cast(superseded_by as text),
       extract(epoch from created_at)::float8,
       extract(epoch from started_at)::float8, extract(epoch from finished_at)::float8
from jobs
where platform_id = :platform_id and job_id = cast(:job_id as uuid)

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
-- Whoever changes a tenant's configuration is alone with it; who only refers to the platform isn't held up.
select platform_id from platforms where platform_id = :platform_id for no key update

-- name: lock_conversation
-- The row lock under which a fence is taken or a cancel decided; what follows in the transaction sees all
-- that its earlier holders committed.
insert into conversations (platform_id, conversation_id, bot_id)
values (:platform_id, :conversation_id, :bot_id)
on conflict (platform_id, conversation_id) do update set updated_at = now()

-- name: lock_platform
-- Whoever hands out or reports a platform's deliveries does so alone, and locks this row before any of the outbox.
-- No row is returned: what follows in the transaction returns its own.
select 1
from (select from platforms where platform_id = :platform_id for no key update) as locked
having count(*) < 0

-- name: move_later_turns
-- Out of the way, what was archived already but was said after :finished_at: `place_later_turns` puts it back.
-- (In two steps, because a position is unique at every moment.)
update turns set position = -position
where platform_id = :platform_id and conversation_id = :conversation_id
  and position >= (
      select min(position) from turns
      where platform_id = :platform_id and conversation_id = :conversation_id
        and created_at > to_timestamp(cast(:finished_at as float8)))

-- name: note_end
-- The end of a job's chain, where it is just a name: so that it can be linked, and ended.
with recursive chain as (
    select job_id, superseded_by from jobs
    where platform_id = :platform_id and job_id = cast(:job_id as uuid)
    union
    select jobs.job_id, jobs.superseded_by from jobs join chain on jobs.job_id = chain.superseded_by
    where jobs.platform_id = :platform_id
)
insert into jobs (platform_id, job_id, conversation_id, bot_id, status, message_ids, created_at)
select :platform_id, superseded_by, :conversation_id, :bot_id, 'processing', cast(:message_ids as text[]),
       to_timestamp(cast(:created_at as float8))
from chain where superseded_by is not null
on conflict do nothing

-- name: note_job
-- A job that never got as far as a fence, so that it can be linked to its successor.
insert into jobs (platform_id, job_id, conversation_id, bot_id, status, message_ids, created_at)
values (:platform_id, cast(:job_id as uuid), :conversation_id, :bot_id, 'processing', cast(:message_ids as text[]),
        to_timestamp(cast(:created_at as float8)))
on conflict do nothing

-- name: note_sale
-- Archive what a human said.
with place as (
    update conversations set turn_count = turn_count + 1
    where platform_id = :platform_id and conversation_id = :conversation_id
    returning turn_count - 1 as position
)
insert into turns (platform_id, conversation_id, position, role, content, message_id, created_at)
select :platform_id, :conversation_id, place.position + 1, 'sale', :content, :turn_id, now()
from place

-- name: noted_sales
-- Archived SALE turns that may be those of a request.
select message_id, content from turns
where platform_id = :platform_id and conversation_id = :conversation_id and role = 'sale'
  and (message_id = any(cast(:turn_ids as text[])) or content = any(cast(:contents as text[])))

-- name: now
-- The server's clock.
select extract(epoch from clock_timestamp())::float8

-- name: place_later_turns
-- Behind the turns that are to be archived before them.
update turns set position = -position + cardinality(cast(:roles as text[]))
where platform_id = :platform_id and conversation_id = :conversation_id and position < 0

-- name: platforms
-- A tenant sees its own.
select jsonb_build_object(
    'platform_id', platform_id, 'name', name, 'description', description, 'base_url', base_url,
    'auth_required', auth_required, 'meta_data', meta_data)
from platforms
where platform_id = :platform_id and (cast(:id as text) is null or platform_id = :id)

-- name: put_bots
-- Whether it is a new one: only a row that nothing was updated in has no `xmax`.
insert into bots (platform_id, bot_id, name, description, language, is_active, core_ai_id, meta_data)
values (:platform_id, :bot_id, :name, :description, :language, :is_active, :core_ai_id, cast(:meta_data as jsonb))
on conflict (platform_id, bot_id) do update
set name = excluded.name, description = excluded.description, language = excluded.language,
    is_active = excluded.is_active, core_ai_id = excluded.core_ai_id, meta_data = excluded.meta_data,
    updated_at = now()
returning xmax = 0

-- name: put_core_ai
-- See put_bots.
insert into core_ai (platform_id, core_ai_id, name, api_endpoint, auth_required, auth_token, auth_host,
                     timeout_seconds, meta_data)
values (:platform_id, :core_ai_id, :name, :api_endpoint, :auth_required, :auth_token, :auth_host,
        :timeout_seconds, cast(:meta_data as jsonb))
on conflict (platform_id, core_ai_id) do update
set name = excluded.name, api_endpoint = excluded.api_endpoint, auth_required = excluded.auth_required,
    auth_token = excluded.auth_token, auth_host = excluded.auth_host, timeout_seconds = excluded.timeout_seconds,
    meta_data = excluded.meta_data, updated_at = now()
returning xmax = 0

-- name: put_platforms
-- See put_bots. Another address or other keys may be what makes a platform's webhook work: it is tried at once.
insert into platforms (platform_id, name, description, base_url, auth_required, meta_data)
values (:platform_id, :name, :description, :base_url, :auth_required, cast(:meta_data as jsonb))
on conflict (platform_id) do update
set name = excluded.name, description = excluded.description, base_url = excluded.base_url,
    auth_required = excluded.auth_required, meta_data = excluded.meta_data, updated_at = now(),
    (webhook_failures, webhook_retry_at, webhook_suspect) = (
        select case when same then platforms.webhook_failures else 0 end,
               case when same then platforms.webhook_retry_at else '-infinity' end,
               case when same then platforms.webhook_suspect end
        from (
            select (platforms.base_url, platforms.meta_data->'webhook_path', platforms.meta_data->'webhook_secrets')
                is not distinct from
                (excluded.base_url, excluded.meta_data->'webhook_path', excluded.meta_data->'webhook_secrets') as same
        ) as webhook
    )
returning xmax = 0

-- name: raise_fence
update conversations set fence = fence + 1, updated_at = now()
where platform_id = :platform_id and conversation_id = :conversation_id

-- name: redrive_deliveries
-- Another day for all of a tenant's deliveries that were given up, from now on. After lock_platform.
with tried as (
    update platforms set webhook_failures = 0, webhook_retry_at = '-infinity', webhook_suspect = null
    where platform_id = :platform_id
)
update outbox
set status = 'pending', attempts = 0, next_attempt_at = '-infinity',
    give_up_at = to_timestamp(cast(:now as float8)) + interval '1 day'
where platform_id = :platform_id and status = 'dead'
returning conversation_id

-- name: running_successor
-- The run that goes on, or may, at the end of an ended job's chain.
with recursive chain as (
    select job_id, superseded_by from jobs
    where platform_id = :platform_id and job_id = cast(:job_id as uuid)
    union
    select jobs.job_id, jobs.superseded_by from jobs join chain on jobs.job_id = chain.superseded_by
    where jobs.platform_id = :platform_id
)
select cast(job_id as text) from jobs
where platform_id = :platform_id and job_id in (select job_id from chain where superseded_by is null)
  and job_id <> cast(:job_id as uuid) and status = 'processing'

-- name: settle_also
-- Further ids of what a human has answered.
insert into settled (platform_id, conversation_id, message_id, job_id, kind)
select :platform_id, :conversation_id, message_id, cast(:job_id as uuid), 'cancelled'
from unnest(cast(:ids as text[])) as message_id
on conflict do nothing

-- name: settled_by
select cast(job_id as text) from settled
where platform_id = :platform_id and conversation_id = :conversation_id and message_id = :message_id

-- name: settled_of
-- Which of these messages need no answer any more.
select message_id from settled
where platform_id = :platform_id and conversation_id = :conversation_id
  and message_id = any(cast(:message_ids as text[]))

-- name: supersede_job
-- Link the end of the job's chain to the successor, unless the successor's own chain leads there: never a circle.
with recursive chain as (
    select job_id, superseded_by from jobs
    where platform_id = :platform_id and job_id = cast(:job_id as uuid)
    union
    select jobs.job_id, jobs.superseded_by from jobs join chain on jobs.job_id = chain.superseded_by
    where jobs.platform_id = :platform_id
), onward as (
    select cast(:successor_id as uuid) as job_id
    union
    select jobs.superseded_by from jobs join onward using (job_id)
    where jobs.platform_id = :platform_id and jobs.superseded_by is not null
)
update jobs set superseded_by = cast(:successor_id as uuid)
where platform_id = :platform_id
  and job_id in (select job_id from chain where superseded_by is null)
  and job_id not in (select job_id from onward)

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
-- Conversations that the bot answers again, but of which something is still held.
select distinct platform_id, conversation_id
from held join conversations using (platform_id, conversation_id)
where not handed_off and answered_by is null
limit 100

-- name: undelivered
-- A try has failed, says its claim's owner: once more later, or never again. With `retry_at` its platform may be what
-- failed: it is left alone until then if that is `certain`, if it failed before, or if another conversation's delivery
-- failed last. After lock_platform.
with failed as (
    update outbox
    set status = :status, attempts = attempts + 1, next_attempt_at = to_timestamp(cast(:next_attempt_at as float8)),
        claim_id = null, claimed_until = null, last_error = :code
    where platform_id = :platform_id and webhook_id = :webhook_id and claim_id = cast(:claim_id as uuid)
      and status = 'pending'
    returning platform_id, conversation_id
), judged as (
    select failed.platform_id, conversation_id,
           cast(:certain as boolean) or webhook_failures > 0 or webhook_suspect <> conversation_id as failing
    from failed join platforms using (platform_id)
    where cast(:retry_at as float8) is not null
), paused as (
    update platforms
    set webhook_failures = webhook_failures + 1,
        webhook_retry_at = greatest(webhook_retry_at, to_timestamp(cast(:retry_at as float8)))
    from judged
    where platforms.platform_id = judged.platform_id and failing
), suspected as (
    update platforms set webhook_suspect = conversation_id
    from judged
    where platforms.platform_id = judged.platform_id and failing is not true
)
select exists (select from failed)

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
-- Whether this very end was committed before: the answer to the first commit may have been lost.
select exists (
    select from jobs
    where platform_id = :platform_id and job_id = cast(:job_id as uuid)
      and status = :status and fence = cast(:fence as bigint)
)

-- name: webhook
-- Where a platform is told of its replies, and what that is signed with.
select base_url, case when jsonb_typeof(meta_data) = 'object' then meta_data else '{}' end
from platforms
where platform_id = :platform_id and base_url <> ''
