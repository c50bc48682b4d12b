-- See put_bots. Another address or other keys may be what makes a platform's webhook work: it is tried at once.
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
