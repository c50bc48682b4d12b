-- A tenant sees its own.
select jsonb_build_object(
    'platform_id', platform_id, 'name', name, 'description', description, 'base_url', base_url,
    'auth_required', auth_required, 'meta_data', meta_data)
from platforms
where platform_id = :platform_id and (cast(:id as text) is null or platform_id = :id)
