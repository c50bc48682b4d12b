select jsonb_build_object(
    'bot_id', bot_id, 'name', name, 'description', description, 'language', language, 'is_active', is_active,
    'core_ai_id', core_ai_id, 'platform_id', platform_id, 'meta_data', meta_data)
from bots
where platform_id = :platform_id and (cast(:id as text) is null or bot_id = :id)
order by bot_id collate "C"
