-- Link the jobs that messages were promised to the job that settled these messages, or else to `running` (null: none runs).
-- `promises`: for each promised job, the ids of its messages. A promised job that never got a fence is noted. The
-- transaction must have locked the conversation's row.
--
-- A link is added at the end of the promised job's chain. A link that would close a circle is left out; the check of the
-- message's record then adds a copy (copy_successor).
create or replace function link_promises_v1(
    of_platform text, of_conversation text, of_bot text, promises json, running uuid) returns void
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    promise record;
    answering uuid;
begin
    for promise in
        select cast(key as uuid) as job_id, array(select json_array_elements_text(value)) as message_ids
        from json_each(promises)
        order by key
    loop
        answering := coalesce((
            select job_id from settled
            where platform_id = of_platform and conversation_id = of_conversation
              and message_id = any(promise.message_ids)
            order by settled_at desc limit 1), running);
        continue when answering is null or answering = promise.job_id;

        insert into jobs (platform_id, job_id, conversation_id, status, message_ids, document, created_at)
        values (of_platform, promise.job_id, of_conversation, 'processing', promise.message_ids,
                jsonb_build_object('bot_id', of_bot), now())
        on conflict (platform_id, job_id) do update
        set document = job_document(jobs) || jsonb_build_object('promised', (
            select jsonb_agg(distinct message_id)
            from (select unnest(promise.message_ids)
                  union all
                  select jsonb_array_elements_text(job_document(jobs) -> 'promised')) as promised(message_id)))
        where not promise.message_ids <@ jobs.message_ids
          and not coalesce(job_document(jobs) -> 'promised' @> to_jsonb(promise.message_ids), false);

        -- The chain may end with a mere name, which has no row.
        insert into jobs (platform_id, job_id, conversation_id, status, message_ids, document, created_at)
        select of_platform, chain.superseded_by, of_conversation, 'processing', promise.message_ids,
               jsonb_build_object('bot_id', of_bot), now()
        from chain_of_v1(of_platform, promise.job_id) as chain
        where chain.superseded_by is not null
        on conflict do nothing;

        update jobs set superseded_by = answering
        where platform_id = of_platform
          and job_id in (select chain.job_id from chain_of_v1(of_platform, promise.job_id) as chain
                         where chain.superseded_by is null)
          and job_id <> answering
          and job_id not in (select onward.superseded_by from chain_of_v1(of_platform, answering) as onward
                             where onward.superseded_by is not null);
    end loop;
end
$$;
