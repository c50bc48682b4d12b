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
