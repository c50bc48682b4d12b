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

-- name: audit
-- The same in the next release: 81a55fac2295

-- name: bot_of
-- The bot that a conversation belongs to.
select bot_id from conversations where platform_id = :platform_id and conversation_id = :conversation_id

-- name: bots
-- The same in the next release: 5491e169c51e

-- name: cancel_job
-- Under the row lock: settle what is open as cancelled, archive its text, shut out the run that goes on, end the job.
-- `ids` are all ids of the messages, `owners` the message that each belongs to, `accepted` when that one was (Unix
-- seconds): one that was erased since is void, and leaves nothing.
with erased as (
    select erased_at from erasures where platform_id = :platform_id and name_hash = :name_hash
), settled_now as (
    insert into settled (platform_id, conversation_id, message_id, job_id, kind)
    select :platform_id, :conversation_id, id, cast(:job_id as uuid), 'cancelled'
    from unnest(cast(:ids as text[]), cast(:owners as text[]), cast(:accepted as float8[])) as mine(id, owner, at)
    where not exists (
        select from settled
        where platform_id = :platform_id and conversation_id = :conversation_id and message_id = owner)
      and not exists (select from erased where erased_at >= to_timestamp(at))
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
select exists (select from settled_now)
    or exists (select from erased, unnest(cast(:accepted as float8[])) as at where erased_at >= to_timestamp(at))
    or exists (
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

-- name: commit_jobs
-- See migrations/0010_functions.sql.
select * from commit_jobs(free_jobs(cast(:jobs as json), false))

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
-- A conversation's bot, its turns in order (one row of nulls if it has none), and the ids of its parked messages.
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
-- The same in the next release: edba4ef1a06d

-- name: dead_deliveries
-- A tenant's deliveries that were given up, oldest first, without their text.
select webhook_id, conversation_id, cast(job_id as text), attempts, extract(epoch from created_at)::float8, last_error
from outbox
where platform_id = :platform_id and status = 'dead'
order by sequence
limit cast(:most as integer)

-- name: delete_bots
-- The same in the next release: f72fd0c60a9c

-- name: delete_core_ai
-- The same in the next release: 9c2c6ded0835

-- name: delete_platforms
-- The same in the next release: 319e06c496ec

-- name: delivered
-- A delivery has arrived, so its platform works again. The platform's other deliveries keep the time of their next try.
-- Otherwise one that fails for its own reason would be tried first, and fail again. Only for the owner of the claim. After
-- lock_platform.
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

-- name: drop_empty_conversation
-- The same in the next release: 3508a7b2ee87

-- name: drop_ended
-- Delete what this tier does not need any more: expired lines and ends, and lines that were answered on another tier. A
-- line with a living worker stays; at the fence that worker learns that it was answered. Rows that a step has locked wait
-- for the next sweep. Lines of the previous release are answered from their records, and deleted a day later.
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

-- name: drop_held
-- The same in the next release, as drop_parked: 23fad702f8ae

-- name: drop_settled_held
-- The same in the next release, as drop_settled_parked: df8e4bdedfbc

-- name: due_deliveries
-- Conversations whose oldest pending delivery is due; of one platform, if one is named. Platforms take turns, and a failing
-- platform gets only one. The delivery that has been due for longest comes first.
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
-- Conversations that a sweep looks at: no worker came or reported in time, or the lock is older than :older_than.
select platform_id, conversation_id
from line_states,
     coalesce(cast(:clock as float8), extract(epoch from clock_timestamp())) as now
where due_at <= now or due_at is not null and cast(fields ->> 'acquired_at' as float8) + cast(:older_than as float8) <= now
order by due_at

-- name: end_job
-- The same in the next release: cd76e1637f76

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
-- See migrations/0010_functions.sql.
select end_superseded(:platform_id, :conversation_id)

-- name: erase_conversation
-- The same in the next release: b87d146b4337

-- name: erased_until
-- The same in the next release: f29524415c01

-- name: expire_deliveries
-- Give up deliveries whose time is over and that got no last try, because their platform was paused.
update outbox
set status = 'dead', claim_id = null, claimed_until = null, last_error = coalesce(last_error, 'expired')
where status = 'pending' and give_up_at <= to_timestamp(cast(:overdue as float8))
  and (claimed_until is null or claimed_until <= to_timestamp(cast(:now as float8)))
returning cast(job_id as text)

-- name: export_conversation
-- All that is kept of a conversation, in one order: its row, turns, jobs, settled messages, what is held, deliveries. From
-- behind (:section, :key) on, at most so many records, and bytes unless the first has more.
with kept as (
    select 0 as section, '' as key, json_build_object(
        'kind', 'conversation', 'bot_id', bot_id, 'handed_off', handed_off,
        'created_at', created_at, 'updated_at', updated_at) as record
    from conversations where platform_id = :platform_id and conversation_id = :conversation_id
    union all
    select 1, lpad((position + 1000000000)::text, 19, '0'), json_build_object(
        'kind', 'turn', 'role', role, 'content', content, 'message_id', message_id, 'job_id', job_id,
        'created_at', created_at)
    from turns where platform_id = :platform_id and conversation_id = :conversation_id
    union all
    select 2, job_id::text, json_build_object(
        'kind', 'job', 'job_id', job_id, 'bot_id', bot_id, 'status', status, 'message_ids', message_ids,
        'restarts', restarts, 'attempts', attempts, 'reply', reply, 'error_code', error_code,
        'error_message', error_message, 'error_notice', error_notice, 'input_tokens', input_tokens,
        'output_tokens', output_tokens, 'correlation_id', correlation_id, 'superseded_by', superseded_by,
        'created_at', created_at, 'started_at', started_at, 'finished_at', finished_at)
    from jobs where platform_id = :platform_id and conversation_id = :conversation_id
    union all
    select 3, message_id, json_build_object(
        'kind', 'settled', 'message_id', message_id, 'job_id', job_id, 'how', settled.kind, 'settled_at', settled_at)
    from settled where platform_id = :platform_id and conversation_id = :conversation_id
    union all
    select 4, lpad(number::text, 19, '0'), json_build_object(
        'kind', 'held', 'message_id', message_id, 'content', content, 'aliases', aliases,
        'context', cast(context as json), 'resources', cast(resources as json), 'job_id', job_id,
        'answered_by', answered_by, 'held_at', held_at)
    from held where platform_id = :platform_id and conversation_id = :conversation_id
    union all
    select 5, lpad(sequence::text, 19, '0'), json_build_object(
        'kind', 'delivery', 'webhook_id', webhook_id, 'job_id', job_id, 'message_ids', message_ids, 'status', status,
        'attempts', attempts, 'last_error', last_error, 'created_at', created_at, 'delivered_at', delivered_at)
    from outbox where platform_id = :platform_id and conversation_id = :conversation_id
), following as (
    select section, key, record,
           row_number() over page as number,
           sum(octet_length(cast(record as text))) over page as size
    from kept
    where (section, key collate "C") > (cast(:section as integer), :key collate "C")
    window page as (order by section, key collate "C")
)
select section, key, record from following
where number = 1 or (number <= cast(:most as integer) and size <= cast(:most_bytes as bigint))
order by section, key collate "C"

-- name: find_job
-- The same in the next release: 69735979deb3

-- name: hand_back
-- The same in the next release, as resume: df6f08d8ad9c

-- name: hand_off
-- The same in the next release: b89da51a7909

-- name: handoff_state
-- The same in the next release: 1de00d614573

-- name: held_messages
-- The same in the next release, as parked_messages: a6e73948e0f7

-- name: hold_messages
-- The same in the next release, as park_messages: 06a6e53ef364

-- name: idle_conversations
-- Conversations with no activity since :before (Unix seconds) and nothing under way, each with its number of turns. The one
-- that is idle for longest comes first; only those after the time :after.
select platform_id, conversation_id, turn_count, cast(updated_at as text)
from conversations
where updated_at < to_timestamp(cast(:before as float8)) and updated_at > cast(:after as timestamptz)
  and not exists (select from jobs where jobs.platform_id = conversations.platform_id
                  and jobs.conversation_id = conversations.conversation_id and jobs.status = 'processing')
  and not exists (select from held where held.platform_id = conversations.platform_id
                  and held.conversation_id = conversations.conversation_id)
  and not exists (select from outbox where outbox.platform_id = conversations.platform_id
                  and outbox.conversation_id = conversations.conversation_id and outbox.status = 'pending')
  and not exists (select from line_states where line_states.platform_id = conversations.platform_id
                  and line_states.conversation_id = conversations.conversation_id and due_at is not null)
order by updated_at
limit cast(:most as integer)

-- name: interrupt_job
-- The same in the next release: 57f2092d0d64

-- name: is_held
-- Whether a message is parked, and a human answers.
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

-- name: job_to_reopen
-- The same in the next release: 2b952024285e

-- name: jobs
-- A tenant's jobs, the newest first, from behind one on. No text. `created` is in microseconds, as exact as it is kept.
select cast(job_id as text), conversation_id, bot_id, status, cardinality(message_ids), restarts, attempts, error_code,
       cast(superseded_by as text), extract(epoch from created_at)::float8, extract(epoch from started_at)::float8,
       extract(epoch from finished_at)::float8, floor(extract(epoch from created_at) * 1000000)::bigint
from jobs
where platform_id = :platform_id and copy_of is null
  and (cast(:status as text) is null or status = cast(:status as text))
  and (cast(:conversation_id as text) is null or conversation_id = cast(:conversation_id as text))
  and (cast(:created as bigint) is null
       or (created_at, job_id) < (timestamptz 'epoch' + cast(:created as bigint) * interval '1 microsecond',
                                  cast(:behind as uuid)))
order by created_at desc, jobs.job_id desc  -- not the text that is selected: the index has the uuid
limit cast(:most as integer)

-- name: keep_job
-- The archive has the job's end now: its messages' text goes.
update ended_jobs
set document = :document,
    expires_at = coalesce(cast(:clock as float8), extract(epoch from clock_timestamp())) + cast(:seconds as float8)
where job_id = cast(:job_id as uuid)

-- name: last_end
-- When a worker last ended a job of a tenant, among the newest 100 jobs.
select max(extract(epoch from finished_at)::float8) from (
    select finished_at, status from jobs where platform_id = :platform_id order by created_at desc, job_id desc limit 100
) as newest
where status in ('completed', 'failed')

-- name: live_lines
-- The same in the next release: 7757a09f86a6

-- name: lock_configuration
-- The same in the next release: 6e8f975ab79c

-- name: lock_conversation
-- Lock the conversation's row, and make it if it is missing. Later statements of the transaction see all that the previous
-- holders of the lock committed.
insert into conversations (platform_id, conversation_id, bot_id)
values (:platform_id, :conversation_id, :bot_id)
on conflict (platform_id, conversation_id) do update set updated_at = now()

-- name: lock_platform
-- The same in the next release: 55667180288e

-- name: minutes
-- What came and went of a tenant's jobs, minute by minute; no row for a minute in which nothing did.
with begun as (
    select date_bin('1 minute', created_at, timestamptz 'epoch') as minute, count(*) as created
    from jobs
    where platform_id = :platform_id and copy_of is null
      and created_at >= to_timestamp(cast(:since as float8)) and created_at < to_timestamp(cast(:until as float8))
    group by 1
), ended as (
    select date_bin('1 minute', finished_at, timestamptz 'epoch') as minute,
           count(*) filter (where status = 'completed') as completed,
           count(*) filter (where status = 'failed') as failed,
           count(*) filter (where status = 'cancelled') as cancelled,
           percentile_cont(array[0.5, 0.95]) within group (order by finished_at - created_at)
               filter (where status = 'completed') as spent
    from jobs
    where platform_id = :platform_id and copy_of is null
      and finished_at >= to_timestamp(cast(:since as float8)) and finished_at < to_timestamp(cast(:until as float8))
    group by 1
)
select extract(epoch from minute)::bigint, coalesce(created, 0), coalesce(completed, 0), coalesce(failed, 0),
       coalesce(cancelled, 0), extract(epoch from spent[1])::float8, extract(epoch from spent[2])::float8
from begun full join ended using (minute)
order by minute

-- name: move_later_turns
-- Out of the way, what was archived already but was said after :finished_at: `place_later_turns` puts it back.
-- (In two steps, because a position is unique at every moment.)
update turns set position = -position
where platform_id = :platform_id and conversation_id = :conversation_id
  and position >= (
      select min(position) from turns
      where platform_id = :platform_id and conversation_id = :conversation_id
        and created_at > to_timestamp(cast(:finished_at as float8)))

-- name: note_audit
-- The same in the next release: 2bf3d3fab687

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

-- name: note_erasure
-- The same in the next release: 77c959fca2d0

-- name: note_job
-- A job that never got as far as a fence, so that it can be linked to its successor.
insert into jobs (platform_id, job_id, conversation_id, bot_id, status, message_ids, created_at)
values (:platform_id, cast(:job_id as uuid), :conversation_id, :bot_id, 'processing', cast(:message_ids as text[]),
        to_timestamp(cast(:created_at as float8)))
on conflict do nothing

-- name: note_sale
-- Archive a human's turn.
with place as (
    update conversations set turn_count = turn_count + 1
    where platform_id = :platform_id and conversation_id = :conversation_id
    returning turn_count - 1 as position
)
insert into turns (platform_id, conversation_id, position, role, content, message_id, created_at)
select :platform_id, :conversation_id, place.position + 1, 'sale', :content, :turn_id, now()
from place

-- name: noted_sales
-- The archived SALE turns that may be the same as those of a request.
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
-- The same in the next release: 46206608bb0c

-- name: purge_audit
-- The same in the next release: 9a63cb1d4ced

-- name: purge_conversations
-- Delete those of these conversations that are idle since :before (Unix seconds; see idle_conversations), and not locked.
-- A step that begins at this moment has locked the row, or has changed its time. A transaction that waits for the row finds
-- it gone, and makes a new one. Deliveries are deleted with their jobs. Returns how many conversations were deleted.
with idle as (
    select platform_id, conversation_id
    from conversations
    join unnest(cast(:platform_ids as text[]), cast(:conversation_ids as text[])) as named(platform_id, conversation_id)
         using (platform_id, conversation_id)
    where updated_at < to_timestamp(cast(:before as float8))
      and not exists (select from jobs where jobs.platform_id = conversations.platform_id
                      and jobs.conversation_id = conversations.conversation_id and jobs.status = 'processing')
      and not exists (select from held where held.platform_id = conversations.platform_id
                      and held.conversation_id = conversations.conversation_id)
      and not exists (select from outbox where outbox.platform_id = conversations.platform_id
                      and outbox.conversation_id = conversations.conversation_id and outbox.status = 'pending')
      and not exists (select from line_states where line_states.platform_id = conversations.platform_id
                      and line_states.conversation_id = conversations.conversation_id and due_at is not null)
    for update of conversations skip locked
), said as (
    delete from turns using idle
    where turns.platform_id = idle.platform_id and turns.conversation_id = idle.conversation_id
), settled_once as (
    delete from settled using idle
    where settled.platform_id = idle.platform_id and settled.conversation_id = idle.conversation_id
), ended as (
    delete from jobs using idle
    where jobs.platform_id = idle.platform_id and jobs.conversation_id = idle.conversation_id
), gone as (
    delete from conversations using idle
    where conversations.platform_id = idle.platform_id and conversations.conversation_id = idle.conversation_id
    returning true
)
select count(*) from gone

-- name: purge_deliveries
-- Delete deliveries that arrived before :delivered_before, or were given up before :dead_before (Unix seconds).
delete from outbox
where (platform_id, job_id) in (
    select platform_id, job_id from outbox
    where (status = 'delivered' and coalesce(delivered_at, give_up_at) < to_timestamp(cast(:delivered_before as float8)))
       or (status = 'dead' and coalesce(delivered_at, give_up_at) < to_timestamp(cast(:dead_before as float8)))
    limit cast(:most as integer)
    for update skip locked
)
returning true

-- name: purge_erasures
-- The same in the next release: 49037b9e623a

-- name: put_bots
-- The same in the next release: 593c71b2cb15

-- name: put_core_ai
-- The same in the next release: 99915706b7d6

-- name: put_platforms
-- The same in the next release: 44b8273e9965

-- name: raise_fence
-- The same in the next release: 1591e73a9f08

-- name: read_lines
-- The same in the next release: 4b9dbc70d21d

-- name: redrive_deliveries
-- Give all of a tenant's deliveries that were given up another day from now. After lock_platform.
with tried as (
    update platforms set webhook_failures = 0, webhook_retry_at = '-infinity', webhook_suspect = null
    where platform_id = :platform_id
)
update outbox
set status = 'pending', attempts = 0, next_attempt_at = '-infinity',
    give_up_at = to_timestamp(cast(:now as float8)) + interval '1 day'
where platform_id = :platform_id and status = 'dead'
returning conversation_id

-- name: remembered
-- The same in the next release: 1d13a18fdfb3

-- name: reopen_job
-- Reopen a failed job's messages, once, under the row lock. Returns all their ids, and the patient's turns. These leave the
-- archive, and come back with their answer.
with reopened as (
    update jobs set retried_at = now()
    where platform_id = :platform_id and job_id = cast(:job_id as uuid)
      and conversation_id = :conversation_id
    returning job_id
), opened as (
    delete from settled using reopened
    where settled.platform_id = :platform_id and settled.conversation_id = :conversation_id
      and settled.job_id = reopened.job_id and settled.kind = 'failed'
    returning settled.message_id
), said as (
    delete from turns using reopened
    where turns.platform_id = :platform_id and turns.conversation_id = :conversation_id
      and turns.job_id = reopened.job_id and turns.role = 'user'
    returning turns.position, turns.content, turns.message_id
)
select (select array_agg(message_id) from opened),
       (select array_agg(content order by position) from said),
       (select array_agg(message_id order by position) from said)

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

-- name: save_lines
-- See migrations/0012_line_states.sql.
select * from save_lines(cast(:saves as json))

-- name: settle_also
-- Settle further ids of a message that a human has answered.
insert into settled (platform_id, conversation_id, message_id, job_id, kind)
select :platform_id, :conversation_id, message_id, cast(:job_id as uuid), 'cancelled'
from unnest(cast(:ids as text[])) as message_id
on conflict do nothing

-- name: settled_by
-- The same in the next release: f2bf9c0591c0

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

-- name: take_fences
-- See migrations/0010_functions.sql; and what waits for the conversation in the Postgres tier, with which of it is settled,
-- for the jobs that drain it. (That is as it was when this began: what was settled since, the next fence finds.)
select fences.number, raised, settled_by, newest, human, erased_until,
       (select json_build_array(fields, array(
            select message_id from settled
            where settled.platform_id = line_states.platform_id
              and settled.conversation_id = line_states.conversation_id
              and message_id = any(line_states.message_ids)))
        from line_states
        where asked.drains and due_at is not null
          and line_states.platform_id = asked.platform_id and line_states.conversation_id = asked.conversation_id),
       bot
from take_fences(free_jobs(cast(:jobs as json), true)) as fences
join json_to_recordset(cast(:jobs as json)) as asked(
    number integer, platform_id text, conversation_id text, drains boolean) on asked.number = fences.number

-- name: to_give_back
-- The same in the next release, as to_unpark: 786a303d2a2b

-- name: touch_dead_deliveries
-- Mark the conversations of these deliveries as active, so that a purge at this moment does not delete them. A purge locks
-- conversations before the outbox, so this runs first. Returns no row.
update conversations set updated_at = now()
where platform_id = :platform_id
  and conversation_id in (select conversation_id from outbox where platform_id = :platform_id and status = 'dead')

-- name: undelivered
-- A try has failed: it is repeated later, or the delivery is given up. With :retry_at the platform may be the cause. It is
-- paused until then if that is :certain, if the platform failed before, or if the previous failure was in another
-- conversation. Only for the owner of the claim. After lock_platform.
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

-- name: was_committed
-- The same in the next release: 05b600ec0654

-- name: was_reopened
-- The same in the next release: e89c2de16b80

-- name: webhook
-- The same in the next release: f30381465130
