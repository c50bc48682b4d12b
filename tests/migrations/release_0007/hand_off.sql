-- Silence the bot, and shut out the run that goes on.
update conversations set handed_off = true, handoffs = handoffs + 1, fence = fence + 1, updated_at = now()
where platform_id = :platform_id and conversation_id = :conversation_id
