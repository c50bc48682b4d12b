-- A try has failed, says its claim's owner: once more later, or never again; and the platform is left alone for a while
-- if `retry_at` says until when.
with failed as (
    update outbox
    set status = :status, attempts = attempts + 1, next_attempt_at = to_timestamp(cast(:next_attempt_at as float8)),
        claim_id = null, claimed_until = null, last_error = :code
    where platform_id = :platform_id and webhook_id = :webhook_id and claim_id = cast(:claim_id as uuid)
      and status = 'pending'
    returning platform_id
), paused as (
    update platforms
    set webhook_failures = webhook_failures + 1,
        webhook_retry_at = greatest(webhook_retry_at, to_timestamp(cast(:retry_at as float8)))
    from failed
    where platforms.platform_id = failed.platform_id and cast(:retry_at as float8) is not null
)
select exists (select from failed)
