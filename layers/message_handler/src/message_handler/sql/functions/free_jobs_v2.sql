-- Of several jobs those whose conversations nobody else holds, and these are held from now on: a job that waits for one
-- would let the others wait. Conversations that aren't there yet are made, if `make_missing` says so; the one who makes the
-- same one at this moment is waited for, not longer than `lock_timeout`. One job alone waits later, where it is worked on.
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
