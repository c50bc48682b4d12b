-- Webhook deliveries to platforms. Times are Unix seconds by the clock of the caller.

-- name: lock_platform
-- Let one worker at a time claim a platform's deliveries, or report on them. It locks this row before any row of the
-- deliveries. Returns no row, so that only the following statement's rows are returned.
select 1
from (select from platforms where platform_id = :platform_id for no key update) as locked
having count(*) < 0

-- name: webhook
-- The address of a platform's webhook, and the record that holds its keys.
select base_url, case when jsonb_typeof(meta_data) = 'object' then meta_data else '{}' end
from platforms
where platform_id = :platform_id and base_url <> ''

-- name: note_unsent
-- Have a platform with a webhook told, once, that a patient has unsent a message. The transaction must have locked the
-- conversation's row. Returns a row if there is a new delivery.
insert into message_events (kind, platform_id, job_id, conversation_id, webhook_id, message_ids, bot_id, correlation_id,
                            happened_at, created_at, give_up_at)
select 'unsent', talk.platform_id, cast(:job_id as uuid), talk.conversation_id,
       'msg_unsent_' || digest_v1(talk.conversation_id || ' ' || cast(:message_id as text)),
       array[cast(:message_id as text)], coalesce(job_document(jobs) ->> 'bot_id', talk.bot_id),
       coalesce(job_document(jobs) ->> 'correlation_id', ''), now(), now(), now() + interval '1 day'
from conversations as talk
join platforms using (platform_id)
left join jobs on jobs.platform_id = talk.platform_id and jobs.job_id = cast(:job_id as uuid)
where talk.platform_id = :platform_id and talk.conversation_id = :conversation_id and base_url <> ''
on conflict do nothing
returning webhook_id

-- name: claim_delivery
-- Claim a delivery of the conversation for one worker: found danger that is due, or else the oldest of the others, if that
-- is due; never a later one. If its platform is paused, or has :most deliveries under way, returns when to ask again. Found
-- danger neither counts there nor waits for the others. After lock_platform, so that the count stays true.
with waiting as (
    select platform_id, webhook_id, kind, sequence, next_attempt_at, claimed_until from message_events
    where platform_id = :platform_id and conversation_id = :conversation_id and status = 'pending' and kind = 'raised'
    union all
    (select platform_id, webhook_id, kind, sequence, next_attempt_at, claimed_until from deliveries
     where platform_id = :platform_id and conversation_id = :conversation_id and status = 'pending' and kind <> 'raised'
     order by sequence limit 1)
), head as (
    select platform_id, webhook_id, kind from waiting
    where next_attempt_at <= to_timestamp(cast(:now as float8))
      and (claimed_until is null or claimed_until <= to_timestamp(cast(:now as float8)))
    order by kind <> 'raised', sequence limit 1
), due as (
    select platform_id, webhook_id, webhook_failures,
           case
               when webhook_retry_at > to_timestamp(cast(:now as float8)) then webhook_retry_at
               when kind <> 'raised' and (
                   select count(*) from deliveries
                   where deliveries.platform_id = head.platform_id and deliveries.kind <> 'raised'
                     and claimed_until > to_timestamp(cast(:now as float8))
               ) >= cast(:most as integer) then to_timestamp(cast(:busy_until as float8))
           end as refused_until
    from head join platforms using (platform_id)
), probe as (
    update platforms set webhook_retry_at = to_timestamp(cast(:until as float8))
    from due
    where platforms.platform_id = due.platform_id and refused_until is null and due.webhook_failures > 0
), claimed as (
    update deliveries set claim_id = cast(:claim_id as uuid), claimed_until = to_timestamp(cast(:until as float8))
    from due
    where deliveries.platform_id = due.platform_id and deliveries.webhook_id = due.webhook_id and refused_until is null
      and status = 'pending'  -- expire_deliveries locks no platform
    returning deliveries.*
)
select extract(epoch from due.refused_until)::float8, claimed.webhook_id, claimed.message_ids, claimed.attempts,
       extract(epoch from claimed.give_up_at)::float8, due.webhook_failures, claimed.kind,
       case claimed.kind
           when 'ended' then job_json_v1(jobs)
           else jsonb_build_object(
               'job_id', claimed.job_id, 'bot_id', message_events.bot_id,
               'correlation_id', message_events.correlation_id)
               || case claimed.kind
                      when 'raised' then jsonb_build_object(
                          'level', raised.level, 'rule', raised.rule, 'rules_version', raised.rules_version,
                          'notice', job_document(jobs) ->> 'reply', 'drill', raised.drill,
                          'reminder', message_events.reminder,
                          'raised_at', extract(epoch from message_events.happened_at))
                      else jsonb_build_object('happened_at', extract(epoch from message_events.happened_at))
                  end
       end
from due
left join claimed using (platform_id, webhook_id)
left join message_events using (platform_id, webhook_id)
left join raised on raised.platform_id = claimed.platform_id and raised.job_id = claimed.job_id
left join jobs on jobs.platform_id = claimed.platform_id and jobs.job_id = claimed.job_id

-- name: delivered
-- A delivery has arrived, so its platform works again. The platform's other deliveries keep the time of their next try.
-- Otherwise one that fails for its own reason would be tried first, and fail again. Of found danger, the time is kept for the
-- report. Only for the owner of the claim. After lock_platform.
with done as (
    update deliveries
    set status = 'delivered', attempts = attempts + 1, delivered_at = to_timestamp(cast(:now as float8)),
        claim_id = null, claimed_until = null, last_error = null
    where platform_id = :platform_id and webhook_id = :webhook_id and claim_id = cast(:claim_id as uuid)
      and status = 'pending'
    returning platform_id, kind, job_id
), told as (
    update raised set delivered_at = coalesce(raised.delivered_at, to_timestamp(cast(:now as float8)))
    from done
    where done.kind = 'raised' and raised.platform_id = done.platform_id and raised.job_id = done.job_id
), back as (
    update platforms set webhook_failures = 0, webhook_retry_at = '-infinity', webhook_suspect = null
    from done
    where platforms.platform_id = done.platform_id and (webhook_failures > 0 or webhook_suspect is not null)
)
select exists (select from done)

-- name: undelivered
-- A try has failed: it is repeated later, or the delivery is given up. With :retry_at the platform may be the cause. It is
-- paused until then if that is :certain, if the platform failed before, or if the previous failure was in another
-- conversation. Only for the owner of the claim. After lock_platform.
with failed as (
    update deliveries
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

-- name: due_deliveries
-- Conversations with found danger to deliver, or whose oldest other delivery is due; of one platform, if one is named. A
-- conversation may come twice. Platforms take turns, and a failing platform gets only one. Danger comes first, and then the
-- delivery that has been due for longest.
with heads as (
    select platform_id, conversation_id, kind, sequence, next_attempt_at, claimed_until
    from message_events
    where status = 'pending' and kind = 'raised'
      and (cast(:platform_id as text) is null or platform_id = cast(:platform_id as text))
    union all
    (select distinct on (platform_id, conversation_id)
            platform_id, conversation_id, kind, sequence, next_attempt_at, claimed_until
     from deliveries
     where status = 'pending' and kind <> 'raised'
       and (cast(:platform_id as text) is null or platform_id = cast(:platform_id as text))
     order by platform_id, conversation_id, sequence)
), due as (
    select platform_id, conversation_id, sequence, next_attempt_at, webhook_failures,
           row_number() over (partition by platform_id order by kind <> 'raised', next_attempt_at, sequence) as place
    from heads join platforms using (platform_id)
    where next_attempt_at <= to_timestamp(cast(:now as float8))
      and (claimed_until is null or claimed_until <= to_timestamp(cast(:now as float8)))
      and webhook_retry_at <= to_timestamp(cast(:now as float8))
)
select platform_id, conversation_id from due
where place = 1 or webhook_failures = 0
order by place, next_attempt_at, sequence
limit cast(:most as integer)

-- name: expire_deliveries
-- Give up deliveries whose time is over and that got no last try, because their platform was paused.
update deliveries
set status = 'dead', claim_id = null, claimed_until = null, last_error = coalesce(last_error, 'expired')
where status = 'pending' and give_up_at <= to_timestamp(cast(:overdue as float8))
  and (claimed_until is null or claimed_until <= to_timestamp(cast(:now as float8)))
returning cast(job_id as text)

-- name: dead_deliveries
-- A tenant's deliveries that were given up, oldest first, without their text.
select webhook_id, kind, conversation_id, cast(job_id as text), attempts, extract(epoch from created_at)::float8,
       last_error
from deliveries
where platform_id = :platform_id and status = 'dead'
order by sequence
limit cast(:most as integer)

-- name: touch_dead_deliveries
-- Mark the conversations of these deliveries as active, so that a purge at this moment does not delete them. A purge locks
-- conversations before the outbox, so this runs first. Returns no row.
update conversations set updated_at = now()
where platform_id = :platform_id
  and conversation_id in (select conversation_id from deliveries where platform_id = :platform_id and status = 'dead')

-- name: redrive_deliveries
-- Give all of a tenant's deliveries that were given up another day from now. After lock_platform.
with tried as (
    update platforms set webhook_failures = 0, webhook_retry_at = '-infinity', webhook_suspect = null
    where platform_id = :platform_id
)
update deliveries
set status = 'pending', attempts = 0, next_attempt_at = '-infinity',
    give_up_at = to_timestamp(cast(:now as float8)) + interval '1 day'
where platform_id = :platform_id and status = 'dead'
returning conversation_id
