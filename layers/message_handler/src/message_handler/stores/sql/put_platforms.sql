-- See put_bots.
insert into platforms (platform_id, name, description, base_url, auth_required, meta_data)
values (:platform_id, :name, :description, :base_url, :auth_required, cast(:meta_data as jsonb))
on conflict (platform_id) do update
set name = excluded.name, description = excluded.description, base_url = excluded.base_url,
    auth_required = excluded.auth_required, meta_data = excluded.meta_data, updated_at = now()
returning xmax = 0
