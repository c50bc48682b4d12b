-- The conversation's oldest pending delivery, for one worker, if it is due: never one behind it. Of a platform that
-- fails, one worker alone takes one: whoever is late finds `webhook_retry_at` moved, or the head claimed.
with head as (
    select platform_id, job_id from outbox
    where platform_id = :platform_id and conversation_id = :conversation_id and status = 'pending'
    order by sequence limit 1
), due as (
    select outbox.platform_id, outbox.job_id from outbox join head using (platform_id, job_id)
    where next_attempt_at <= to_timestamp(cast(:now as float8))
      and (claimed_until is null or claimed_until <= to_timestamp(cast(:now as float8)))
), probe as (
    update platforms set webhook_retry_at = to_timestamp(cast(:until as float8))
    from due
    where platforms.platform_id = due.platform_id and webhook_failures > 0
      and webhook_retry_at <= to_timestamp(cast(:now as float8))
    returning platforms.platform_id
), claimed as (
    update outbox set claim_id = cast(:claim_id as uuid), claimed_until = to_timestamp(cast(:until as float8))
    from due join platforms using (platform_id)
    where outbox.platform_id = due.platform_id and outbox.job_id = due.job_id and status = 'pending'
      and next_attempt_at <= to_timestamp(cast(:now as float8))
      and (claimed_until is null or claimed_until <= to_timestamp(cast(:now as float8)))
      and (webhook_failures = 0 or exists (select from probe))
    returning outbox.*, webhook_failures
)
select claimed.webhook_id, claimed.message_ids, claimed.attempts, extract(epoch from claimed.give_up_at)::float8,
       claimed.webhook_failures, cast(jobs.job_id as text), jobs.bot_id, jobs.status, jobs.message_ids, jobs.reply,
       jobs.error_code, jobs.error_notice, jobs.correlation_id, extract(epoch from jobs.finished_at)::float8
from claimed join jobs using (platform_id, job_id)
