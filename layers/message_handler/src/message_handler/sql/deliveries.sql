-- Webhook deliveries to platforms. Times are Unix seconds by the clock of the caller.

-- name: lock_platform
-- Let one worker at a time claim a platform's deliveries, or report on them. It locks this row before any row of the
-- outbox. Returns no row, so that only the following statement's rows are returned.
select 1
from (select from platforms where platform_id = :platform_id for no key update) as locked
having count(*) < 0

-- name: webhook
-- The address of a platform's webhook, and the record that holds its keys.
select base_url, case when jsonb_typeof(meta_data) = 'object' then meta_data else '{}' end
from platforms
where platform_id = :platform_id and base_url <> ''

-- name: claim_delivery
-- Claim the conversation's oldest pending delivery for one worker, if it is due; never a later one. If its platform is
-- paused, or has :most deliveries under way, returns when to ask again. After lock_platform, so that the count stays true.
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
      and status = 'pending'  -- expire_deliveries locks no platform
    returning outbox.*
)
select extract(epoch from due.refused_until)::float8, claimed.webhook_id, claimed.message_ids, claimed.attempts,
       extract(epoch from claimed.give_up_at)::float8, due.webhook_failures, job_json_v1(jobs)
from due left join claimed using (platform_id, job_id) left join jobs using (platform_id, job_id)

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

-- name: expire_deliveries
-- Give up deliveries whose time is over and that got no last try, because their platform was paused.
update outbox
set status = 'dead', claim_id = null, claimed_until = null, last_error = coalesce(last_error, 'expired')
where status = 'pending' and give_up_at <= to_timestamp(cast(:overdue as float8))
  and (claimed_until is null or claimed_until <= to_timestamp(cast(:now as float8)))
returning cast(job_id as text)

-- name: dead_deliveries
-- A tenant's deliveries that were given up, oldest first, without their text.
select webhook_id, conversation_id, cast(job_id as text), attempts, extract(epoch from created_at)::float8, last_error
from outbox
where platform_id = :platform_id and status = 'dead'
order by sequence
limit cast(:most as integer)

-- name: touch_dead_deliveries
-- Mark the conversations of these deliveries as active, so that a purge at this moment does not delete them. A purge locks
-- conversations before the outbox, so this runs first. Returns no row.
update conversations set updated_at = now()
where platform_id = :platform_id
  and conversation_id in (select conversation_id from outbox where platform_id = :platform_id and status = 'dead')

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
