-- End jobs. Every commit, archived end, failure and cancel is written here and nowhere else. No two of the jobs are in the
-- same conversation.
--
-- With a `fence` this is a commit. It waits for the conversation's row, as take_fences does, and reads the newest fence
-- there. It writes nothing unless that is the job's fence, and the job was noted and has not ended.
--
-- Without a `fence` the caller has locked the row and decided. Then the fence is raised, so that the current run commits
-- nothing. A job that has no row gets one. Turns that were said after `finished_at` stay behind those of the job.
--
-- `ids` are the ids that the end settles, with the digest of the `words` and the `accepted_ats` of their messages. If one of
-- them is settled already, the table `settled` refuses it, and nothing at all is written. `edits` are the messages that are
-- edits: `base` is the id of the message that they are a version of. `edited_ids` are the platform's ids of these. The
-- webhook announces each. `findings` are what the rules have found in the messages. `roles`, `contents`, `turn_ids`, `edited_ats` and `earlier` describe the turns. `run_id` is the
-- job under which the end was decided. The platform may know the delivery under that id, so the delivery keeps it, unless
-- another end has used it. Times are Unix seconds. Without a `finished_at` the job ends now.
--
-- Returns the jobs that were ended, and for each whether there is a delivery.
create or replace function end_jobs_v1(ended_jobs json) returns table (number integer, told boolean)
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    job record;
    new_fence bigint;
    said_before bigint;
    said_later bigint;
    ended_at timestamptz;
    told_at timestamptz;
    told_as uuid;
begin
    for job in
        select * from json_to_recordset(ended_jobs) as job(
            number integer, platform_id text, conversation_id text, job_id uuid, run_id uuid, fence bigint, status text,
            bot_id text, document jsonb, promises json, message_ids text[], ids text[], words text[],
            accepted_ats float8[], edits json, given_ids text[], created_at float8, started_at float8, finished_at float8,
            roles text[], contents text[], turn_ids text[], edited_ats float8[], earlier text[],
            edited_ids text[], findings json)
        order by platform_id, conversation_id
    loop
        ended_at := coalesce(to_timestamp(job.finished_at), now());
        -- A job may be archived long after its end. Its delivery has a day from now.
        told_at := case when job.fence is null then now() else ended_at end;

        update conversations
        set fence = coalesce(job.fence, fence + 1), turn_count = turn_count + cardinality(job.roles), updated_at = now()
        where platform_id = job.platform_id and conversation_id = job.conversation_id
          and (job.fence is null or fence = job.fence)
        returning fence, turn_count - cardinality(job.roles) into new_fence, said_before;
        continue when not found;

        -- The conversation is compared too, as in take_fences. Otherwise a larger index would be read whole for one job.
        update jobs
        set status = job.status, fence = new_fence, message_ids = job.message_ids,
            document = job.document || jsonb_strip_nulls(jsonb_build_object('promised', jobs.document -> 'promised')),
            started_at = coalesce(started_at, to_timestamp(job.started_at)), finished_at = ended_at
        where platform_id = job.platform_id and conversation_id = job.conversation_id and job_id = job.job_id
          and status = 'processing';
        if not found then
            continue when job.fence is not null;
            insert into jobs (platform_id, job_id, conversation_id, status, fence, message_ids, document, created_at,
                              started_at, finished_at)
            values (job.platform_id, job.job_id, job.conversation_id, job.status, new_fence, job.message_ids,
                    job.document, to_timestamp(job.created_at), to_timestamp(job.started_at), ended_at)
            on conflict do nothing;
        end if;

        insert into settled (platform_id, conversation_id, message_id, job_id, kind, words, accepted_at)
        select distinct on (message_id) job.platform_id, job.conversation_id, message_id, job.job_id,
               case job.status when 'completed' then 'answered' else job.status end, words, accepted_at
        from unnest(job.ids, job.words, job.accepted_ats) as ended(message_id, words, accepted_at);

        if json_typeof(job.findings) = 'array' then
            insert into findings (platform_id, conversation_id, job_id, message_id, level, rule, rules_version, place, found_at)
            select job.platform_id, job.conversation_id, job.job_id, message_id, level, rule, rules_version, place, ended_at
            from json_to_recordset(job.findings)
                 as found(message_id text, level text, rule text, rules_version text, place jsonb);
        end if;

        if json_typeof(job.edits) = 'array' then
            perform note_edits_v1(job.platform_id, job.conversation_id, job.edits);
        end if;

        if job.fence is null then
            select min(position) into said_later
            from turns
            where platform_id = job.platform_id and conversation_id = job.conversation_id
              and created_at > to_timestamp(job.finished_at);
            if said_later is not null then
                said_before := said_later - 1;
                -- In two steps, because a position must be unique at every moment.
                update turns set position = -position
                where platform_id = job.platform_id and conversation_id = job.conversation_id
                  and position >= said_later;
                update turns set position = -position + cardinality(job.roles)
                where platform_id = job.platform_id and conversation_id = job.conversation_id and position < 0;
            end if;
        end if;
        insert into turns (platform_id, conversation_id, position, role, content, message_id, job_id, created_at, edited_at,
                           earlier)
        select job.platform_id, job.conversation_id, said_before + turn.number, role, content, message_id, job.job_id,
               ended_at, to_timestamp(edited_at), cast(earlier as jsonb)
        from unnest(job.roles, job.contents, job.turn_ids, job.edited_ats, job.earlier)
             with ordinality as turn(role, content, message_id, edited_at, earlier, number);

        told_as := case when job.run_id <> job.job_id and exists (
            select from outbox
            where outbox.platform_id = job.platform_id and webhook_id = 'msg_' || job.run_id
        ) then job.job_id else job.run_id end;
        -- A platform hears of an edit before it gets the reply to it.
        if job.edited_ids <> '{}' and job.status <> 'cancelled' then
            insert into message_events (kind, platform_id, job_id, conversation_id, webhook_id, message_ids, bot_id,
                                        correlation_id, happened_at, created_at, give_up_at)
            select 'edited', platform_id, job.job_id, job.conversation_id,
                   'msg_edit_' || told_as || '_' || digest_v1(message_id), array[message_id], job.bot_id,
                   coalesce(job.document ->> 'correlation_id', ''), ended_at, told_at, told_at + interval '1 day'
            from platforms cross join unnest(job.edited_ids) with ordinality as edited(message_id, number)
            where platform_id = job.platform_id
              and base_url <> ''
            order by edited.number;
        end if;
        insert into outbox (platform_id, job_id, conversation_id, webhook_id, message_ids, created_at, give_up_at)
        select platform_id, job.job_id, job.conversation_id, 'msg_' || told_as, job.given_ids, told_at,
               told_at + interval '1 day'
        from platforms
        where platform_id = job.platform_id
          and job.status <> 'cancelled'
          and base_url <> '';
        told := found;

        if json_typeof(job.promises) = 'object' then
            perform link_promises_v1(job.platform_id, job.conversation_id, job.bot_id, job.promises, job.job_id);
        end if;
        if exists (select from jobs
                   where platform_id = job.platform_id and conversation_id = job.conversation_id
                     and status = 'processing' and superseded_by is not null)
        then
            perform end_superseded_v2(job.platform_id, job.conversation_id);
        end if;

        number := job.number;
        return next;
    end loop;
end
$$;
