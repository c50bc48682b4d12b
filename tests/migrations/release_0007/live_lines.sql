select conversation_id, document from lines where platform_id = :platform_id and current_id is not null
