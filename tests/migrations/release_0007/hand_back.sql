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
