-- Note that edits of messages are settled: each is the newest version of its message from now on, which stands under the id of
-- the message. The version before it stays known by its words, under its own id as an edit (domain/messages.py). `edits`: objects
-- with `base`, the id of the message, and the `message_id`, `words` and `accepted_at` of the edit, oldest first. The transaction
-- must have locked the conversation's row.
create or replace function note_edits_v1(of_platform text, of_conversation text, edits json) returns void
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    edit record;
begin
    for edit in select * from json_to_recordset(edits) as edit(base text, message_id text, words text, accepted_at float8)
    loop
        insert into settled (platform_id, conversation_id, message_id, job_id, kind, words, accepted_at, settled_at)
        select platform_id, conversation_id, settled.message_id || ' edit ' || words, job_id, kind, words, accepted_at,
               settled_at
        from settled
        where platform_id = of_platform and conversation_id = of_conversation and settled.message_id = edit.base
          and words is not null
        on conflict do nothing;

        -- Another store may still have the first version.
        insert into settled (platform_id, conversation_id, message_id, job_id, kind, words, accepted_at, settled_at)
        select platform_id, conversation_id, edit.base, job_id, kind, words, accepted_at, settled_at
        from settled
        where platform_id = of_platform and conversation_id = of_conversation and settled.message_id = edit.message_id
        on conflict do nothing;

        update settled set words = edit.words, accepted_at = edit.accepted_at
        where platform_id = of_platform and conversation_id = of_conversation and settled.message_id = edit.base
          and (accepted_at is null or accepted_at <= edit.accepted_at);
    end loop;
end
$$;
