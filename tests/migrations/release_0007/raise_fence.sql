update conversations set fence = fence + 1, updated_at = now()
where platform_id = :platform_id and conversation_id = :conversation_id
