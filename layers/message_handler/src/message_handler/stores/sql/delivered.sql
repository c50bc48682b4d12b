-- A delivery has arrived, says its claim's owner. If its platform had failed before, it is back: nothing of it waits
-- any longer. (What others hold is skipped: they report themselves, and wait for this row of the platform.)
with done as (
    update outbox
    set status = 'delivered', attempts = attempts + 1, delivered_at = to_timestamp(cast(:now as float8)),
        claim_id = null, claimed_until = null, last_error = null
    where platform_id = :platform_id and webhook_id = :webhook_id and claim_id = cast(:claim_id as uuid)
      and status = 'pending'
    returning platform_id
), back as (
    update platforms set webhook_failures = 0, webhook_retry_at = '-infinity'
    from done where platforms.platform_id = done.platform_id and webhook_failures > 0
    returning platforms.platform_id
), waiting as (
    select platform_id, job_id from outbox
    where platform_id in (select platform_id from back) and status = 'pending' and webhook_id <> :webhook_id
    for update skip locked
), due as (
    update outbox set next_attempt_at = '-infinity'
    from waiting where outbox.platform_id = waiting.platform_id and outbox.job_id = waiting.job_id
)
select exists (select from done)
