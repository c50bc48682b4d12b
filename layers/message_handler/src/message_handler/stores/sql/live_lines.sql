select conversation_id from line_states where platform_id = :platform_id and due_at is not null
