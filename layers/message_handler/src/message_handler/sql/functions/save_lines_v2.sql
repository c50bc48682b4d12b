-- Compare and save lines, as `Save` in ports/line_store.py describes. No two saves are of the same line. Each line's row
-- stays locked from its comparison until the function ends. Rows are always locked in the same order. An expired row counts
-- as missing.
--
-- Returns each save's number, and the wanted fields if it was saved. If the line was not the one that was seen, returns the
-- server's time, the line's structure, what is remembered of the ids, and which of the names are taken.
create or replace function save_lines_v2(saves json) returns table (
    number integer, wanted jsonb, met_at float8, structure jsonb, known jsonb, taken text[])
language plpgsql
as $$
declare
    save record;
    line record;
    is_there boolean;
    server_time float8;
begin
    for save in
        select * from json_to_recordset(saves) as save(
            number integer, platform_id text, conversation_id text, compared text, seen text, version text,
            heartbeat_at text, now float8, clock float8, margin float8, most integer, ids text[], unknown_ids text[],
            names uuid[], unknown_names uuid[], structure text[], set_fields jsonb, gone text[], due_at float8,
            ttl float8, remembered jsonb, forgotten text[], ended jsonb, unarchived uuid[], job_ids uuid[],
            message_ids text[], erased uuid[], wanted text[])
        order by platform_id, conversation_id
    loop
        if save.version is not null and save.seen = '' then
            insert into line_states (platform_id, conversation_id, expires_at)
            values (save.platform_id, save.conversation_id, 0)
            on conflict do nothing;
        end if;
        select * into line
        from line_states
        where line_states.platform_id = save.platform_id and line_states.conversation_id = save.conversation_id
        for update;
        is_there := found;
        -- Taken after the lock: another transaction may have held the row for long.
        server_time := coalesce(save.clock, extract(epoch from clock_timestamp()));
        is_there := is_there and coalesce(line.expires_at, 'infinity') > server_time;
        if not is_there then
            line.fields := '{}';
            line.remembered := '{}';
        end if;
        number := save.number;
        wanted := null;
        met_at := null;

        if (line.fields ->> 'version') is distinct from save.version or save.version is null then
            if coalesce(line.fields ->> save.compared, '') <> save.seen
               or coalesce(line.fields ->> 'heartbeat_at', '') <> save.heartbeat_at
               or abs(server_time - save.now) > save.margin
               or line.remembered ?| save.unknown_ids
               or exists (select from ended_jobs where ended_jobs.job_id = any(save.unknown_names)
                          and ended_jobs.platform_id = save.platform_id and ended_jobs.expires_at > server_time)
            then
                met_at := server_time;
                structure := (select jsonb_object_agg(key, value) from jsonb_each(line.fields)
                              where key = any(save.structure));
                known := (select jsonb_object_agg(key, value) from jsonb_each(line.remembered)
                          where key = any(save.ids));
                taken := array(select ended_jobs.job_id from ended_jobs where ended_jobs.job_id = any(save.names)
                               and ended_jobs.platform_id = save.platform_id and ended_jobs.expires_at > server_time);
                return next;
                continue;
            end if;

            if save.erased is not null then
                delete from line_states
                where line_states.platform_id = save.platform_id
                  and line_states.conversation_id = save.conversation_id;
                delete from ended_jobs
                where ended_jobs.platform_id = save.platform_id and ended_jobs.job_id = any(save.erased);
            elsif save.set_fields is not null then
                line.fields := line.fields || save.set_fields;
                if (select count(*) from (select jsonb_object_keys(line.remembered)
                                          union all select jsonb_object_keys(save.remembered)) as keys) > save.most then
                    line.remembered := '{}';
                end if;
                update line_states
                set fields = line.fields - save.gone,
                    remembered = (line.remembered || save.remembered) - save.forgotten,
                    job_ids = coalesce(save.job_ids, line.job_ids),
                    message_ids = coalesce(save.message_ids, line.message_ids),
                    due_at = save.due_at,
                    expires_at = case when save.due_at is null then coalesce(server_time + save.ttl, line.expires_at) end
                where line_states.platform_id = save.platform_id
                  and line_states.conversation_id = save.conversation_id;
                insert into ended_jobs (platform_id, job_id, document, expires_at, lacking)
                select save.platform_id, cast(ended.key as uuid), ended.value ->> 0,
                       server_time + cast(ended.value ->> 1 as float8),
                       case when cast(ended.key as uuid) = any(save.unarchived) then save.conversation_id end
                from jsonb_each(save.ended) as ended
                on conflict (job_id, platform_id) do update
                set document = excluded.document, expires_at = excluded.expires_at, lacking = coalesce(excluded.lacking, ended_jobs.lacking);
            end if;
        end if;
        wanted := coalesce((select jsonb_object_agg(key, value) from jsonb_each(line.fields)
                            where key = any(save.wanted)), '{}');
        return next;
    end loop;
end
$$;
