-- Lock the conversations of several jobs, and return the jobs whose conversation could be locked. One that is locked
-- elsewhere is skipped, because waiting for it would make all the other jobs wait.
--
-- With `make_missing`, a conversation that has no row gets one. If another transaction makes the same row at this moment,
-- this one waits for it, up to `lock_timeout`. A single job is returned unlocked: its step waits for the row itself.
create or replace function free_jobs_v2(asked json, make_missing boolean) returns json
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set lock_timeout = '100ms'
as $$
declare
    job record;
    free json[] := '{}';
begin
    if json_array_length(asked) = 1 then
        return asked;
    end if;
    for job in
        select value, value ->> 'platform_id' as platform_id, value ->> 'conversation_id' as conversation_id,
               value ->> 'bot_id' as bot_id
        from json_array_elements(asked)
        order by 2, 3
    loop
        perform from conversations
        where platform_id = job.platform_id and conversation_id = job.conversation_id
        for no key update skip locked;

        if not found
           and make_missing
           and not exists (select from conversations
                           where platform_id = job.platform_id and conversation_id = job.conversation_id)
        then
            insert into conversations (platform_id, conversation_id, bot_id)
            values (job.platform_id, job.conversation_id, job.bot_id)
            on conflict do nothing;
        end if;
        if found then
            free := free || job.value;
        end if;
    end loop;
    return array_to_json(free);
end
$$;
