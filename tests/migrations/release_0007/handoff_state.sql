-- Who answers the conversation, and its row lock.
select bot_id, handed_off, handoffs from conversations
where platform_id = :platform_id and conversation_id = :conversation_id
for update
