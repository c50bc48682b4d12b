-- Danger that the rules have found in a patient's messages.

-- name: note_raised
-- Note danger that was found in a conversation: its notice as an ended job, what was found, and a delivery if the platform
-- has a webhook. The transaction must have locked the conversation's row. Returns a row if the job is new. Nothing is written
-- if it is known, or if the conversation was erased since.
with talk as (
    select platform_id, conversation_id, bot_id
    from conversations
    where platform_id = :platform_id and conversation_id = :conversation_id
      and not exists (
          select from erasures
          where platform_id = :platform_id and name_hash = :name_hash
            and erased_at >= to_timestamp(cast(:raised_at as float8)))
), notice as (
    insert into jobs (platform_id, job_id, conversation_id, kind, status, message_ids, document, created_at, started_at,
                      finished_at)
    select platform_id, cast(:job_id as uuid), conversation_id, 'notice', 'completed', '{}',
           cast(:document as jsonb) || jsonb_build_object('bot_id', bot_id), to_timestamp(cast(:raised_at as float8)),
           to_timestamp(cast(:raised_at as float8)), to_timestamp(cast(:raised_at as float8))
    from talk
    on conflict do nothing
    returning platform_id, job_id, conversation_id, finished_at
), found as (
    insert into raised (platform_id, conversation_id, job_id, level, rule, rules_version, message_ids, raised_at, drill)
    select platform_id, conversation_id, job_id, :level, :rule, :rules_version, cast(:message_ids as text[]), finished_at,
           cast(:drill as boolean)
    from notice
), told as (
    insert into message_events (kind, platform_id, job_id, conversation_id, webhook_id, message_ids, bot_id, correlation_id,
                                happened_at, created_at, give_up_at)
    select 'raised', platform_id, job_id, conversation_id, :webhook_id, cast(:message_ids as text[]), talk.bot_id,
           :correlation_id, finished_at, now(), now() + interval '1 day'
    from notice join talk using (platform_id, conversation_id) join platforms using (platform_id)
    where base_url <> ''
)
select job_id from notice
