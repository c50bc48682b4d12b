select cast(job_id as text) from settled
where platform_id = :platform_id and conversation_id = :conversation_id and message_id = :message_id
