delete from core_ai where platform_id = :platform_id and core_ai_id = :id
