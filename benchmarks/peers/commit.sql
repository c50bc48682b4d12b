-- What a worker leaves of a conversation's first job that it answered, in one transaction: the rows that its fence and
-- its commit write, to the column. A peer has no fence, so that nothing of it is compared.
with conversation as (
    insert into conversations (platform_id, conversation_id, bot_id, fence, turn_count)
    values (:platform_id, :conversation_id, :bot_id, 1, cardinality(cast(:roles as text[])))
    on conflict (platform_id, conversation_id) do update
    set fence = conversations.fence + 1, turn_count = conversations.turn_count + excluded.turn_count, updated_at = now()
    returning turn_count - cardinality(cast(:roles as text[])) as position
), job as (
    insert into jobs (platform_id, job_id, conversation_id, status, fence, message_ids, document, created_at, started_at,
                      finished_at)
    values (:platform_id, cast(:job_id as uuid), :conversation_id, :status, 1, cast(:message_ids as text[]),
            cast(:document as jsonb), to_timestamp(cast(:created_at as float8)),
            to_timestamp(cast(:started_at as float8)), to_timestamp(cast(:finished_at as float8)))
), settled_now as (
    insert into settled (platform_id, conversation_id, message_id, job_id, kind, words, accepted_at)
    select distinct :platform_id, :conversation_id, message_id, cast(:job_id as uuid), :kind, :words,
           cast(:created_at as float8)
    from unnest(cast(:ids as text[])) as message_id
), said as (
    insert into turns (platform_id, conversation_id, position, role, content, message_id, job_id, created_at)
    select :platform_id, :conversation_id, conversation.position + turn.number, turn.role, turn.content,
           turn.message_id, cast(:job_id as uuid), to_timestamp(cast(:finished_at as float8))
    from conversation, unnest(cast(:roles as text[]), cast(:contents as text[]), cast(:turn_ids as text[]))
         with ordinality as turn(role, content, message_id, number)
), told as (
    insert into outbox (platform_id, job_id, conversation_id, webhook_id, message_ids, created_at, give_up_at)
    select :platform_id, cast(:job_id as uuid), :conversation_id, 'msg_' || cast(:job_id as text), cast(:given_ids as text[]),
           to_timestamp(cast(:finished_at as float8)), to_timestamp(cast(:finished_at as float8)) + interval '1 day'
    from platforms where platform_id = :platform_id and base_url <> ''
)
select exists (select from conversation)
