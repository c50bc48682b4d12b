-- The whole commit in one statement: it waits for the conversation's row, and then sees the newest fence there.
-- A message that is settled already violates settled's primary key, and nothing of this has happened.
with owner as (
    update conversations
    set turn_count = turn_count + cardinality(cast(:roles as text[])), updated_at = now()
    where platform_id = :platform_id and conversation_id = :conversation_id and fence = cast(:fence as bigint)
    returning turn_count - cardinality(cast(:roles as text[])) as position
), ended as (
    update jobs
    set status = :status, reply = :reply, error_code = :error_code, error_message = :error_message,
        error_notice = :error_notice, input_tokens = cast(:input_tokens as bigint),
        output_tokens = cast(:output_tokens as bigint), correlation_id = :correlation_id,
        fence = cast(:fence as bigint), message_ids = cast(:message_ids as text[]),
        restarts = cast(:restarts as integer), attempts = cast(:attempts as integer),
        finished_at = to_timestamp(cast(:finished_at as float8))
    from owner
    where platform_id = :platform_id and job_id = cast(:job_id as uuid) and status = 'processing'
    returning owner.position
), settled_now as (
    insert into settled (platform_id, conversation_id, message_id, job_id, kind)
    select distinct :platform_id, :conversation_id, message_id, cast(:job_id as uuid), :kind
    from ended, unnest(cast(:ids as text[])) as message_id
), said as (
    insert into turns (platform_id, conversation_id, position, role, content, message_id, job_id, created_at)
    select :platform_id, :conversation_id, ended.position + turn.number, turn.role, turn.content, turn.message_id,
           cast(:job_id as uuid), to_timestamp(cast(:finished_at as float8))
    from ended, unnest(cast(:roles as text[]), cast(:contents as text[]), cast(:turn_ids as text[]))
         with ordinality as turn(role, content, message_id, number)
), told as (
    insert into outbox (platform_id, job_id, conversation_id, webhook_id, message_ids, created_at, give_up_at)
    select :platform_id, cast(:job_id as uuid), :conversation_id, 'msg_' || cast(:job_id as text), cast(:given_ids as text[]),
           to_timestamp(cast(:finished_at as float8)), to_timestamp(cast(:finished_at as float8)) + interval '1 day'
    from ended join platforms on platform_id = :platform_id and base_url <> ''
)
select exists (select from ended)
