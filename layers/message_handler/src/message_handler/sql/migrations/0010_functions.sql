-- What is done for each answer, as functions: a connection plans their statements once, and not for each call.
-- (Prepared statements would do that too, but their names pin a session to its connection of RDS Proxy.)

-- Two versions of the code may call them at the same time. So none of them ever changes what it takes, does or returns: one
-- that does something else has a name of its own. They have their caller's rights, and its schema.

-- A plan is kept until its tables are analysed. Made while they were small, it would read them whole, and go on so when
-- they have grown: `enable_seqscan`. Each statement finds its rows by a conversation or by a primary key.

-- End those jobs of a conversation that lead to another one, and wait for a run that nobody needs any more: the last of
-- their messages has just been settled under another name.
create function end_superseded(of_platform text, of_conversation text) returns void
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
begin
    update jobs set status = 'cancelled', finished_at = now()
    where platform_id = of_platform and conversation_id = of_conversation
      and status = 'processing'
      and superseded_by is not null
      and not exists (
          select from unnest(jobs.message_ids) as noted(message_id)
          where not exists (
              select from settled
              where settled.platform_id = jobs.platform_id and settled.conversation_id = jobs.conversation_id
                and settled.message_id = noted.message_id));
end
$$;

-- Of several jobs those whose conversations nobody else holds, and these are held from now on: whoever waited for one
-- would let the others wait. Conversations that aren't there yet are made, if that is wished; who makes the same one at this
-- moment is waited for, not longer than `lock_timeout`. One job alone waits later, where it is worked on.
create function free_jobs(asked json, make_missing boolean) returns json
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

-- For each of the jobs, no two of which are of one conversation: raise the fence and note the run, unless the job has
-- ended, a message of it is settled or void, or a human answers. First of all it waits for the conversation's row, and each
-- statement sees what was committed before the statement began: so it sees all that the row's earlier holders did. The rows
-- are taken in the same order always, so that no two groups wait for each other.
create function take_fences(asked_jobs json) returns table (
    number integer, raised bigint, settled_by json, newest json, human boolean, erased_until float8, waiting json, bot text)
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    job record;
    erased record;
    has_ended boolean;
    is_settled boolean;
begin
    for job in
        select * from json_to_recordset(asked_jobs) as job(
            number integer, platform_id text, conversation_id text, name_hash text, job_id uuid, bot_id text,
            oldest float8, message_ids text[], ids text[], restarts integer, attempts integer, created_at float8,
            started_at float8, turns integer, drain boolean)
        order by platform_id, conversation_id
    loop
        insert into conversations (platform_id, conversation_id, bot_id)
        values (job.platform_id, job.conversation_id, job.bot_id)
        on conflict (platform_id, conversation_id) do update set updated_at = now()
        returning handed_off, bot_id into human, bot;

        select fence, erased_at, erased_at >= to_timestamp(job.oldest) as voids into erased
        from erasures
        where platform_id = job.platform_id and name_hash = job.name_hash;

        select status <> 'processing' into has_ended
        from jobs
        where platform_id = job.platform_id and job_id = job.job_id;

        select json_object_agg(message_id, job_id), bool_or(message_id = any(job.message_ids))
        into settled_by, is_settled
        from settled
        where platform_id = job.platform_id and conversation_id = job.conversation_id and message_id = any(job.ids);

        raised := null;
        if not human
           and has_ended is not true
           and is_settled is not true
           and erased.voids is not true
        then
            update conversations set fence = greatest(fence, coalesce(erased.fence, 0)) + 1
            where platform_id = job.platform_id and conversation_id = job.conversation_id
            returning fence into raised;

            insert into jobs (platform_id, job_id, conversation_id, bot_id, status, fence, message_ids, restarts,
                              attempts, created_at, started_at)
            values (job.platform_id, job.job_id, job.conversation_id, job.bot_id, 'processing', raised,
                    job.message_ids, job.restarts, job.attempts, to_timestamp(job.created_at),
                    to_timestamp(job.started_at))
            on conflict (platform_id, job_id) do update
            set fence = excluded.fence, message_ids = excluded.message_ids, restarts = excluded.restarts,
                attempts = excluded.attempts, started_at = coalesce(jobs.started_at, excluded.started_at);
        end if;

        select json_agg(json_build_object('role', role, 'content', content, 'message_id', message_id) order by position)
        into newest
        from (select * from turns
              where platform_id = job.platform_id and conversation_id = job.conversation_id
              order by position desc limit job.turns) as last_turns;

        -- What waits for the conversation in the Postgres tier, and which of it is settled.
        waiting := null;
        if job.drain then
            select json_build_array(document, array(
                select message_id from settled
                where settled.platform_id = lines.platform_id and settled.conversation_id = lines.conversation_id
                  and message_id = any(lines.message_ids)))
            into waiting
            from lines
            where platform_id = job.platform_id and conversation_id = job.conversation_id and current_id is not null;
        end if;

        number := job.number;
        erased_until := extract(epoch from erased.erased_at) + 0.001;
        return next;
    end loop;
end
$$;

-- The whole commit of each of the jobs, no two of which are of one conversation: it waits for the conversation's row, as
-- `take_fences` does, and sees the newest fence there. A message that is settled already violates settled's primary key, and
-- nothing of all this has happened. Returns the jobs that were committed, and whether their platforms are to be told.
create function commit_jobs(ended_jobs json) returns table (number integer, told boolean)
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    job record;
    said_before bigint;
begin
    for job in
        select * from json_to_recordset(ended_jobs) as job(
            number integer, platform_id text, conversation_id text, job_id uuid, fence bigint, status text, kind text,
            reply text, error_code text, error_message text, error_notice text, input_tokens bigint,
            output_tokens bigint, correlation_id text, message_ids text[], ids text[], given_ids text[],
            restarts integer, attempts integer, finished_at float8, roles text[], contents text[], turn_ids text[])
        order by platform_id, conversation_id
    loop
        update conversations
        set turn_count = turn_count + cardinality(job.roles), updated_at = now()
        where platform_id = job.platform_id and conversation_id = job.conversation_id
          and fence = job.fence
        returning turn_count - cardinality(job.roles) into said_before;
        continue when not found;

        -- By its conversation too: the index of all jobs that run would else be read whole for one of them.
        update jobs
        set status = job.status, reply = job.reply, error_code = job.error_code, error_message = job.error_message,
            error_notice = job.error_notice, input_tokens = job.input_tokens, output_tokens = job.output_tokens,
            correlation_id = job.correlation_id, fence = job.fence, message_ids = job.message_ids,
            restarts = job.restarts, attempts = job.attempts, finished_at = to_timestamp(job.finished_at)
        where platform_id = job.platform_id and conversation_id = job.conversation_id and job_id = job.job_id
          and status = 'processing';
        continue when not found;

        insert into settled (platform_id, conversation_id, message_id, job_id, kind)
        select distinct job.platform_id, job.conversation_id, message_id, job.job_id, job.kind
        from unnest(job.ids) as message_id;

        insert into turns (platform_id, conversation_id, position, role, content, message_id, job_id, created_at)
        select job.platform_id, job.conversation_id, said_before + turn.number, role, content, message_id, job.job_id,
               to_timestamp(job.finished_at)
        from unnest(job.roles, job.contents, job.turn_ids) with ordinality as turn(role, content, message_id, number);

        insert into outbox (platform_id, job_id, conversation_id, webhook_id, message_ids, created_at, give_up_at)
        select platform_id, job.job_id, job.conversation_id, 'msg_' || job.job_id, job.given_ids,
               to_timestamp(job.finished_at), to_timestamp(job.finished_at) + interval '1 day'
        from platforms
        where platform_id = job.platform_id
          and base_url <> '';
        told := found;

        if exists (select from jobs
                   where platform_id = job.platform_id and conversation_id = job.conversation_id
                     and status = 'processing' and superseded_by is not null)
        then
            perform end_superseded(job.platform_id, job.conversation_id);
        end if;

        number := job.number;
        return next;
    end loop;
end
$$;
