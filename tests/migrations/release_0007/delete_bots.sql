delete from bots where platform_id = :platform_id and bot_id = :id
