select bot_id from conversations where platform_id = :platform_id and conversation_id = :conversation_id
