-- See put_bots.
insert into core_ai (platform_id, core_ai_id, name, api_endpoint, auth_required, auth_token, auth_host,
                     timeout_seconds, meta_data)
values (:platform_id, :core_ai_id, :name, :api_endpoint, :auth_required, :auth_token, :auth_host,
        :timeout_seconds, cast(:meta_data as jsonb))
on conflict (platform_id, core_ai_id) do update
set name = excluded.name, api_endpoint = excluded.api_endpoint, auth_required = excluded.auth_required,
    auth_token = excluded.auth_token, auth_host = excluded.auth_host, timeout_seconds = excluded.timeout_seconds,
    meta_data = excluded.meta_data, updated_at = now()
returning xmax = 0
