-- The tenants' configuration.

-- name: configuration
-- A bot with its AI core and platform, under the names that get_bot_config() serves. The default bot may have no row; then
-- only its platform is returned.
with cores as (
    select core_ai_id, meta_data, jsonb_build_object(
        'core_ai_id', core_ai_id, 'name', name, 'api_endpoint', api_endpoint, 'auth_required', auth_required,
        'auth_token', auth_token, 'auth_host', auth_host, 'timeout_seconds', timeout_seconds,
        'meta_data', meta_data, 'revision', revision) as record
    from core_ai
    where platform_id = :platform_id
)
select jsonb_build_object(
    'bot_id', bots.bot_id, 'name', bots.name, 'description', bots.description, 'language', bots.language,
    'is_active', bots.is_active, 'core_ai_id', bots.core_ai_id, 'platform_id', platforms.platform_id,
    'meta_data', bots.meta_data, 'revision', bots.revision,
    'core_ai', cores.record || jsonb_build_object('fallback', fallback.record),
    'platform', jsonb_build_object(
        'platform_id', platforms.platform_id, 'name', platforms.name, 'description', platforms.description,
        'base_url', platforms.base_url, 'auth_required', platforms.auth_required,
        'meta_data', platforms.meta_data,
        'safety_rules', (
            select jsonb_build_object(
                'document', document, 'compiled', compiled, 'compiled_for', compiled_for,
                'languages', (
                    select coalesce(jsonb_object_agg(each.bot_id, each.language), '{}')
                    from bots as each
                    where each.platform_id = platforms.platform_id))
            from safety_rules
            where safety_rules.platform_id = platforms.platform_id)))
from platforms
left join bots on bots.platform_id = platforms.platform_id and bots.bot_id = :bot_id
left join cores on cores.core_ai_id = bots.core_ai_id
left join cores as fallback
    on fallback.core_ai_id = cores.meta_data ->> 'fallback_core_ai_id' and fallback.core_ai_id <> cores.core_ai_id
where platforms.platform_id = :platform_id and (bots.bot_id is not null or :bot_id = 'default')

-- name: lock_configuration
-- Let one transaction at a time change a tenant's configuration. Writes of rows that refer to the platform do not wait.
select platform_id from platforms where platform_id = :platform_id for no key update

-- name: bots
-- A tenant's bots, or the one with :id.
select jsonb_build_object(
    'bot_id', bot_id, 'name', name, 'description', description, 'language', language, 'is_active', is_active,
    'core_ai_id', core_ai_id, 'platform_id', platform_id, 'meta_data', meta_data, 'revision', revision)
from bots
where platform_id = :platform_id and (cast(:id as text) is null or bot_id = :id)
order by bot_id collate "C"

-- name: core_ai
-- A tenant's AI cores, or the one with :id.
select jsonb_build_object(
    'core_ai_id', core_ai_id, 'name', name, 'api_endpoint', api_endpoint, 'auth_required', auth_required,
    'auth_token', auth_token, 'auth_host', auth_host, 'timeout_seconds', timeout_seconds, 'meta_data', meta_data,
    'revision', revision)
from core_ai
where platform_id = :platform_id and (cast(:id as text) is null or core_ai_id = :id)
order by core_ai_id collate "C"

-- name: platforms
-- A tenant's own platform.
select jsonb_build_object(
    'platform_id', platform_id, 'name', name, 'description', description, 'base_url', base_url,
    'auth_required', auth_required, 'meta_data', meta_data, 'revision', revision)
from platforms
where platform_id = :platform_id and (cast(:id as text) is null or platform_id = :id)

-- name: safety_rules
-- What a tenant has written about the safety rules.
select jsonb_build_object(
    'platform_id', platform_id, 'document', document, 'compiled', compiled, 'compiled_for', compiled_for,
    'revision', revision)
from safety_rules
where platform_id = :platform_id

-- name: put_bots
-- Write a whole bot. Returns whether it is new: only the row of an insert has no `xmax`.
insert into bots (platform_id, bot_id, name, description, language, is_active, core_ai_id, meta_data)
values (:platform_id, :bot_id, :name, :description, :language, :is_active, :core_ai_id, cast(:meta_data as jsonb))
on conflict (platform_id, bot_id) do update
set name = excluded.name, description = excluded.description, language = excluded.language,
    is_active = excluded.is_active, core_ai_id = excluded.core_ai_id, meta_data = excluded.meta_data,
    updated_at = now()
returning xmax = 0

-- name: put_core_ai
-- Write a whole AI core; see put_bots.
insert into core_ai (platform_id, core_ai_id, name, api_endpoint, auth_required, auth_token, auth_host,
                     timeout_seconds, meta_data)
values (:platform_id, :core_ai_id, :name, :api_endpoint, :auth_required, :auth_token, :auth_host,
        :timeout_seconds, cast(:meta_data as jsonb))
on conflict (platform_id, core_ai_id) do update
set name = excluded.name, api_endpoint = excluded.api_endpoint, auth_required = excluded.auth_required,
    auth_token = excluded.auth_token, auth_host = excluded.auth_host, timeout_seconds = excluded.timeout_seconds,
    meta_data = excluded.meta_data, updated_at = now()
returning xmax = 0

-- name: put_platforms
-- Write a whole platform; see put_bots. A new address or new keys may mend its webhook, so the webhook is tried again at
-- once.
insert into platforms (platform_id, name, description, base_url, auth_required, meta_data)
values (:platform_id, :name, :description, :base_url, :auth_required, cast(:meta_data as jsonb))
on conflict (platform_id) do update
set name = excluded.name, description = excluded.description, base_url = excluded.base_url,
    auth_required = excluded.auth_required, meta_data = excluded.meta_data, updated_at = now(),
    (webhook_failures, webhook_retry_at, webhook_suspect) = (
        select case when same then platforms.webhook_failures else 0 end,
               case when same then platforms.webhook_retry_at else '-infinity' end,
               case when same then platforms.webhook_suspect end
        from (
            select (platforms.base_url, platforms.meta_data->'webhook_path', platforms.meta_data->'webhook_secrets')
                is not distinct from
                (excluded.base_url, excluded.meta_data->'webhook_path', excluded.meta_data->'webhook_secrets') as same
        ) as webhook
    )
returning xmax = 0

-- name: put_safety_rules
-- Write all that a tenant has written about the safety rules; see put_bots. `revision` goes up with the document alone.
insert into safety_rules (platform_id, document, compiled, compiled_for)
values (:platform_id, cast(:document as jsonb), :compiled, :compiled_for)
on conflict (platform_id) do update
set document = excluded.document, compiled = excluded.compiled, compiled_for = excluded.compiled_for,
    updated_at = now()
returning xmax = 0

-- name: recompile_safety_rules
-- Keep what a release has compiled of own rules that are still of this revision.
update safety_rules set compiled = :compiled, compiled_for = :compiled_for
where platform_id = :platform_id and revision = :revision

-- name: outdated_safety_rules
-- The tenants with own rules that another release has compiled.
select platform_id, revision, document from safety_rules
where compiled_for <> :compiled_for and document -> 'rules' <> '[]'
order by platform_id
limit :most

-- name: delete_bots
-- Delete a bot.
delete from bots where platform_id = :platform_id and bot_id = :id

-- name: delete_core_ai
-- Delete an AI core.
delete from core_ai where platform_id = :platform_id and core_ai_id = :id

-- name: delete_platforms
-- Delete a platform.
delete from platforms where platform_id = :platform_id and platform_id = :id

-- name: old_reviews
-- How many emergency contacts and safety rules, of all tenants, were reviewed before a day. What was written by hand may be
-- no list.
select (
    select count(*)
    from platforms, jsonb_array_elements(
        case jsonb_typeof(meta_data -> 'emergency_contacts')
            when 'array' then meta_data -> 'emergency_contacts' else '[]' end
    ) as contacts (each)
    where each ->> 'reviewed_at' < :before
) + (
    select count(*) from safety_rules where document #>> '{review,reviewed_at}' < :before
)
