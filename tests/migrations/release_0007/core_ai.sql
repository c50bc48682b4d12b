select jsonb_build_object(
    'core_ai_id', core_ai_id, 'name', name, 'api_endpoint', api_endpoint, 'auth_required', auth_required,
    'auth_token', auth_token, 'auth_host', auth_host, 'timeout_seconds', timeout_seconds, 'meta_data', meta_data)
from core_ai
where platform_id = :platform_id and (cast(:id as text) is null or core_ai_id = :id)
order by core_ai_id collate "C"
