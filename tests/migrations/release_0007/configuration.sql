-- A bot with its AI core and platform, under the names that get_bot_config() serves. The default bot need not be there:
-- its platform is.
with cores as (
    select core_ai_id, meta_data, jsonb_build_object(
        'core_ai_id', core_ai_id, 'name', name, 'api_endpoint', api_endpoint, 'auth_required', auth_required,
        'auth_token', auth_token, 'auth_host', auth_host, 'timeout_seconds', timeout_seconds,
        'meta_data', meta_data) as record
    from core_ai
    where platform_id = :platform_id
)
select jsonb_build_object(
    'bot_id', bots.bot_id, 'name', bots.name, 'description', bots.description, 'language', bots.language,
    'is_active', bots.is_active, 'core_ai_id', bots.core_ai_id, 'platform_id', platforms.platform_id,
    'meta_data', bots.meta_data,
    'core_ai', cores.record || jsonb_build_object('fallback', fallback.record),
    'platform', jsonb_build_object(
        'platform_id', platforms.platform_id, 'name', platforms.name, 'description', platforms.description,
        'base_url', platforms.base_url, 'auth_required', platforms.auth_required,
        'meta_data', platforms.meta_data))
from platforms
left join bots on bots.platform_id = platforms.platform_id and bots.bot_id = :bot_id
left join cores on cores.core_ai_id = bots.core_ai_id
left join cores as fallback
    on fallback.core_ai_id = cores.meta_data ->> 'fallback_core_ai_id' and fallback.core_ai_id <> cores.core_ai_id
where platforms.platform_id = :platform_id and (bots.bot_id is not null or :bot_id = 'default')
