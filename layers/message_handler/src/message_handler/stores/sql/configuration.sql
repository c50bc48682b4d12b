-- A bot with its AI core and platform, under the names that get_bot_config() serves.
select json_build_object(
    'bot_id', bots.bot_id, 'name', bots.name, 'description', bots.description, 'language', bots.language,
    'is_active', bots.is_active, 'core_ai_id', bots.core_ai_id, 'platform_id', bots.platform_id,
    'meta_data', bots.meta_data,
    'core_ai', case when core_ai.core_ai_id is not null then json_build_object(
        'core_ai_id', core_ai.core_ai_id, 'name', core_ai.name, 'api_endpoint', core_ai.api_endpoint,
        'auth_required', core_ai.auth_required, 'auth_token', core_ai.auth_token,
        'timeout_seconds', core_ai.timeout_seconds, 'meta_data', core_ai.meta_data) end,
    'platform', json_build_object(
        'platform_id', platforms.platform_id, 'name', platforms.name, 'description', platforms.description,
        'base_url', platforms.base_url, 'auth_required', platforms.auth_required,
        'meta_data', platforms.meta_data))
from bots
join platforms using (platform_id)
left join core_ai on core_ai.platform_id = bots.platform_id and core_ai.core_ai_id = bots.core_ai_id
where bots.platform_id = :platform_id and bots.bot_id = :bot_id
