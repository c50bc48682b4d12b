-- Conversations whose oldest pending delivery is due: in turn one of each platform, and of one that fails no second.
with heads as (
    select distinct on (platform_id, conversation_id)
           platform_id, conversation_id, sequence, next_attempt_at, claimed_until
    from outbox
    where status = 'pending'
    order by platform_id, conversation_id, sequence
), due as (
    select platform_id, conversation_id, sequence, webhook_failures,
           row_number() over (partition by platform_id order by sequence) as place
    from heads join platforms using (platform_id)
    where next_attempt_at <= to_timestamp(cast(:now as float8))
      and (claimed_until is null or claimed_until <= to_timestamp(cast(:now as float8)))
      and webhook_retry_at <= to_timestamp(cast(:now as float8))
)
select platform_id, conversation_id from due
where place = 1 or webhook_failures = 0
order by place, sequence
limit cast(:most as integer)
