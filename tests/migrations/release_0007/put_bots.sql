-- Whether it is a new one: only a row that nothing was updated in has no `xmax`.
insert into bots (platform_id, bot_id, name, description, language, is_active, core_ai_id, meta_data)
values (:platform_id, :bot_id, :name, :description, :language, :is_active, :core_ai_id, cast(:meta_data as jsonb))
on conflict (platform_id, bot_id) do update
set name = excluded.name, description = excluded.description, language = excluded.language,
    is_active = excluded.is_active, core_ai_id = excluded.core_ai_id, meta_data = excluded.meta_data,
    updated_at = now()
returning xmax = 0
