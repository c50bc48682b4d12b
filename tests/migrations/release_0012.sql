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
-- What was done in a tenant, the newest first, from before an entry on.
select id, extract(epoch from at)::float8, actor, action, kind, record_id, before, after
from audit
where platform_id = :platform_id
  and (cast(:kind as text) is null or kind = cast(:kind as text))
  and (cast(:before_id as bigint) is null or id < cast(:before_id as bigint))
order by id desc
limit cast(:most as integer)

-- name: bot_of
select bot_id from conversations where platform_id = :platform_id and conversation_id = :conversation_id

-- name: bots
select jsonb_build_object(
    'bot_id', bot_id, 'name', name, 'description', description, 'language', language, 'is_active', is_active,
    'core_ai_id', core_ai_id, 'platform_id', platform_id, 'meta_data', meta_data, 'revision', revision)
from bots
where platform_id = :platform_id and (cast(:id as text) is null or bot_id = :id)
order by bot_id collate "C"

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
    'auth_token', auth_token, 'auth_host', auth_host, 'timeout_seconds', timeout_seconds, 'meta_data', meta_data,
    'revision', revision)
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

-- name: drop_empty_conversation
-- Under the row lock: a row that was made for what turned out to be void. Whoever took a fence since, silenced the bot,
-- said something, has something held or was told of a job needs it.
delete from conversations
where platform_id = :platform_id and conversation_id = :conversation_id
  and turn_count = 0 and not handed_off
  and fence <= (select fence from erasures where platform_id = :platform_id and name_hash = :name_hash)
  and not exists (select from held where platform_id = :platform_id and conversation_id = :conversation_id)
  and not exists (select from jobs where platform_id = :platform_id and conversation_id = :conversation_id)

-- name: drop_ended
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
select platform_id, conversation_id
from line_states,
     coalesce(cast(:clock as float8), extract(epoch from clock_timestamp())) as now
where due_at <= now or due_at is not null and cast(fields ->> 'acquired_at' as float8) + cast(:older_than as float8) <= now
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
-- See migrations/0010_functions.sql.
select end_superseded(:platform_id, :conversation_id)

-- name: erase_conversation
-- Delete all that there is of a conversation; deliveries go with their jobs. Returns whether there was anything (a row
-- that this very transaction has made to lock it is nothing), and the ids of the jobs that a tier may still know.
with gone as (
    delete from conversations where platform_id = :platform_id and conversation_id = :conversation_id
    returning created_at <> now() as known
), said as (
    delete from turns where platform_id = :platform_id and conversation_id = :conversation_id
), settled_once as (
    delete from settled where platform_id = :platform_id and conversation_id = :conversation_id
), kept as (
    delete from held where platform_id = :platform_id and conversation_id = :conversation_id
), lines_of_the_release_before as (
    delete from lines where platform_id = :platform_id and conversation_id = :conversation_id
), ended as (
    delete from jobs where platform_id = :platform_id and conversation_id = :conversation_id
    returning cast(job_id as text) as job_id, finished_at
)
select exists (select from gone where known) or exists (select from ended),
       array(select job_id from ended where finished_at is null or finished_at > now() - interval '14 days')

-- name: erased_until
-- Until when what was accepted for a conversation is void (Unix seconds, rounded up); no row if it never was erased.
select extract(epoch from erased_at)::float8 + 0.001 from erasures
where platform_id = :platform_id and name_hash = :name_hash

-- name: expire_deliveries
-- Give up what had no try of its own at the end of its time, because its platform answered nobody.
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
-- Where a job is: as it ended in this tier, or in the line where it waits or runs.
select null, null, document
from ended_jobs
where job_id = cast(:job_id as uuid)
  and expires_at > coalesce(cast(:clock as float8), extract(epoch from clock_timestamp()))
union all
select platform_id, conversation_id, null from line_states where job_ids @> array[cast(:job_id as uuid)]

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
select message_id, content, given, aliases, context, resources, cast(job_id as text), cast(answered_by as text),
       extract(epoch from held_at)::float8
from held
where platform_id = :platform_id and conversation_id = :conversation_id
  and (answered_by is not null or not exists (
      select from settled
      where settled.platform_id = held.platform_id and settled.conversation_id = held.conversation_id
        and settled.message_id = any(held.message_id || held.aliases)))
order by number

-- name: hold_messages
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

-- name: idle_conversations
-- Conversations in which nothing happened since :before (Unix seconds) and nothing is under way, the longest idle first,
-- from behind :after on; each with the number of its turns.
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

-- name: job_to_reopen
-- Whether a job's messages can be opened again: how it ended, what it is a copy of, whether they were before.
select status, cast(copy_of as text), retried_at is not null, message_ids
from jobs
where platform_id = :platform_id and job_id = cast(:job_id as uuid)

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
-- When a worker ended a job of a tenant last, as far as its newest jobs tell.
select max(extract(epoch from finished_at)::float8) from (
    select finished_at, status from jobs where platform_id = :platform_id order by created_at desc, job_id desc limit 100
) as newest
where status in ('completed', 'failed')

-- name: live_lines
select conversation_id from line_states where platform_id = :platform_id and due_at is not null

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
insert into audit (platform_id, actor, action, kind, record_id, before, after)
values (:platform_id, :actor, :action, :kind, :record_id, cast(:before as jsonb), cast(:after as jsonb))

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
-- Under the row lock: from now on what was accepted before is void. The margin is for the clocks of the hosts that say
-- when that was.
insert into erasures (platform_id, name_hash, erased_at, fence)
select :platform_id, :name_hash, clock_timestamp() + make_interval(secs => cast(:margin as float8)), fence
from conversations
where platform_id = :platform_id and conversation_id = :conversation_id
on conflict (platform_id, name_hash) do update
set erased_at = excluded.erased_at, fence = greatest(erasures.fence, excluded.fence)

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
    'auth_required', auth_required, 'meta_data', meta_data, 'revision', revision)
from platforms
where platform_id = :platform_id and (cast(:id as text) is null or platform_id = :id)

-- name: purge_audit
-- Delete what was noted before :before (Unix seconds).
delete from audit
where (platform_id, id) in (
    select platform_id, id from audit
    where at < to_timestamp(cast(:before as float8))
    limit cast(:most as integer)
    for update skip locked
)
returning true

-- name: purge_conversations
-- Delete those of these conversations that nobody works on and in which nothing has happened since :before (Unix seconds),
-- or is under way; whoever waits for the row finds it gone, and begins anew. Deliveries go with their jobs. Returns how
-- many. (What is under way is what idle_conversations says. Whoever begins it while this runs has the row, or has
-- changed its time.)
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
-- Forget erasures from before :before (Unix seconds): no queue has anything that old.
delete from erasures
where (platform_id, name_hash) in (
    select platform_id, name_hash from erasures
    where erased_at < to_timestamp(cast(:before as float8))
    limit cast(:most as integer)
    for update skip locked
)
returning true

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

-- name: read_lines
-- The fields of lines, in their order; of :names alone, if there are any.
select (select jsonb_object_agg(key, value) from jsonb_each(fields)
        where cast(:names as text[]) is null or key = any(cast(:names as text[])))
from unnest(cast(:platform_ids as text[]), cast(:conversation_ids as text[]))
     with ordinality as named(platform_id, conversation_id, number)
left join line_states on line_states.platform_id = named.platform_id
     and line_states.conversation_id = named.conversation_id
     and (expires_at is null
          or expires_at > coalesce(cast(:clock as float8), extract(epoch from clock_timestamp())))
order by number

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

-- name: remembered
-- What is remembered of the messages of a conversation, or of :message_id alone.
select key, value
from line_states, jsonb_each_text(remembered)
where platform_id = :platform_id and conversation_id = :conversation_id
  and (cast(:message_id as text) is null or key = :message_id)
  and (expires_at is null
       or expires_at > coalesce(cast(:clock as float8), extract(epoch from clock_timestamp())))

-- name: reopen_job
-- Under the row lock, of a failed job that this was not done to before: open its messages again. Returns all their ids,
-- and what the patient said in them: it leaves the archive, and comes back with its answer.
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
-- Conversations that the bot answers again, but of which something is still held.
select distinct platform_id, conversation_id
from held join conversations using (platform_id, conversation_id)
where not handed_off and answered_by is null
limit 100

-- name: touch_dead_deliveries
-- Whoever is about to purge one of the conversations in which something is redriven must see that it goes on. Before the
-- rows of the outbox are locked, as a purge locks them. No row is returned.
update conversations set updated_at = now()
where platform_id = :platform_id
  and conversation_id in (select conversation_id from outbox where platform_id = :platform_id and status = 'dead')

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

-- name: was_committed
-- Whether this very end was committed before: the answer to the first commit may have been lost.
select exists (
    select from jobs
    where platform_id = :platform_id and job_id = cast(:job_id as uuid)
      and status = :status and fence = cast(:fence as bigint)
)

-- name: was_reopened
-- Whether a job's messages were opened again: then its end is an old story.
select exists (
    select from jobs
    where platform_id = :platform_id and job_id = cast(:job_id as uuid) and retried_at is not null)

-- name: webhook
-- Where a platform is told of its replies, and what that is signed with.
select base_url, case when jsonb_typeof(meta_data) = 'object' then meta_data else '{}' end
from platforms
where platform_id = :platform_id and base_url <> ''
