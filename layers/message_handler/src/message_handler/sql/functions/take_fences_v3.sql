-- Permit runs: raise the fence of each job's conversation, and note the run. No run is permitted if the job has ended, if
-- one of its messages is settled or void, or if a human answers. No two of the jobs are in the same conversation.
-- `message_ids` are the ids of the messages, and `ids` all under which a version of them may be settled. The newest version of
-- each is returned, too. So the caller finds the messages that are edits of settled ones.
--
-- The function first waits for the conversation's row. Each later statement sees all that was committed before it began,
-- and so all that the previous holders of the row did. The rows are always locked in the same order, so that no two groups
-- wait for each other.
--
-- Returns for each job:
--   raised        the fence; null if no run is permitted
--   settled_by    for each settled id: the job that settled it, how, the digest of its words, and when it was accepted
--   newest        the last turns, also those that were unsent, with the second in which they were said
--   human         whether a human answers
--   erased_until  the time of the erasure with its margin (Unix seconds, rounded up)
--   waiting       if the job drains it: the line in the Postgres tier, and its settled messages, as in settled_by
--   bot           the conversation's bot
--   danger        if the conversation is raised and not closed: the level. A drill does not count
create or replace function take_fences_v3(asked_jobs json) returns table (
    number integer, raised bigint, settled_by json, newest json, human boolean, erased_until float8, waiting json, bot text,
    danger text)
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
            document jsonb, oldest float8, message_ids text[], ids text[], created_at float8, started_at float8,
            promises json, turns integer, drains boolean)
        order by platform_id, conversation_id
    loop
        insert into conversations (platform_id, conversation_id, bot_id)
        values (job.platform_id, job.conversation_id, job.bot_id)
        on conflict (platform_id, conversation_id) do update
        set updated_at = now(), bot_id = coalesce(nullif(conversations.bot_id, ''), excluded.bot_id)
        returning handed_off, bot_id into human, bot;

        select fence, erased_at, erased_at >= to_timestamp(job.oldest) as voids into erased
        from erasures
        where platform_id = job.platform_id and name_hash = job.name_hash;

        -- The conversation is compared too. Otherwise a whole index of the platform's jobs would be read for one job.
        select status <> 'processing' into has_ended
        from jobs
        where platform_id = job.platform_id and conversation_id = job.conversation_id and job_id = job.job_id;

        select json_object_agg(message_id, json_build_array(job_id, kind, words, accepted_at)),
               bool_or(message_id = any(job.message_ids))
        into settled_by, is_settled
        from settled
        where platform_id = job.platform_id and conversation_id = job.conversation_id
          and message_id = any(job.ids || array(
              select message_id || ' edit ' || words from settled
              where platform_id = job.platform_id and conversation_id = job.conversation_id
                and message_id = any(job.ids) and words is not null));

        raised := null;
        if not human
           and has_ended is not true
           and is_settled is not true
           and erased.voids is not true
        then
            update conversations set fence = greatest(fence, coalesce(erased.fence, 0)) + 1
            where platform_id = job.platform_id and conversation_id = job.conversation_id
            returning fence into raised;

            insert into jobs (platform_id, job_id, conversation_id, status, fence, message_ids, document, created_at,
                              started_at)
            values (job.platform_id, job.job_id, job.conversation_id, 'processing', raised, job.message_ids,
                    job.document, to_timestamp(job.created_at), to_timestamp(job.started_at))
            on conflict (platform_id, job_id) do update
            set fence = excluded.fence, message_ids = excluded.message_ids,
                document = excluded.document || jsonb_strip_nulls(jsonb_build_object('promised', jobs.document -> 'promised')),
                started_at = coalesce(jobs.started_at, excluded.started_at);
        end if;

        if raised is not null and json_typeof(job.promises) = 'object' then
            perform link_promises_v1(job.platform_id, job.conversation_id, job.bot_id, job.promises, job.job_id);
        end if;

        select json_agg(json_build_object('role', role, 'content', content, 'message_id', message_id,
                                          'unsent', unsent_at is not null,
                                          'said_at', cast(extract(epoch from created_at) as bigint)) order by position)
        into newest
        from (select * from turns
              where platform_id = job.platform_id and conversation_id = job.conversation_id
              order by position desc limit job.turns) as last_turns;

        waiting := null;
        if job.drains then
            select json_build_array(fields, (
                select json_object_agg(message_id, json_build_array(job_id, kind, words, accepted_at))
                from settled
                where settled.platform_id = line_states.platform_id
                  and settled.conversation_id = line_states.conversation_id
                  and message_id = any(line_states.message_ids)))
            into waiting
            from line_states
            where platform_id = job.platform_id and conversation_id = job.conversation_id
              and due_at is not null;
        end if;

        select level into danger
        from raised as found
        where platform_id = job.platform_id and conversation_id = job.conversation_id and closed_by is null and not drill
        order by level = 'emergency' desc
        limit 1;

        number := job.number;
        erased_until := extract(epoch from erased.erased_at) + 0.001;
        return next;
    end loop;
end
$$;
