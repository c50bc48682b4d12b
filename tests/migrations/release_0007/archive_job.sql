-- Under the row lock, for messages that are all open and a job that has not ended: end it, and shut out who runs now.
-- An alias that was settled alone stays with the job that settled it. The turns go before those that were said later.
with raised as (
    update conversations
    set fence = fence + 1, turn_count = turn_count + cardinality(cast(:roles as text[])), updated_at = now()
    where platform_id = :platform_id and conversation_id = :conversation_id
    returning fence, turn_count - cardinality(cast(:roles as text[])) as position
), ended as (
    insert into jobs (platform_id, job_id, conversation_id, bot_id, status, fence, message_ids, restarts, attempts,
                      reply, error_code, error_message, error_notice, input_tokens, output_tokens, correlation_id,
                      created_at, started_at, finished_at)
    select :platform_id, cast(:job_id as uuid), :conversation_id, :bot_id, :status, raised.fence,
           cast(:message_ids as text[]), cast(:restarts as integer), cast(:attempts as integer),
           :reply, :error_code, :error_message, :error_notice, cast(:input_tokens as bigint),
           cast(:output_tokens as bigint), :correlation_id, to_timestamp(cast(:created_at as float8)),
           to_timestamp(cast(:started_at as float8)), to_timestamp(cast(:finished_at as float8))
    from raised
    on conflict (platform_id, job_id) do update
    set status = excluded.status, fence = excluded.fence, message_ids = excluded.message_ids,
        restarts = excluded.restarts, attempts = excluded.attempts, reply = excluded.reply,
        error_code = excluded.error_code, error_message = excluded.error_message, error_notice = excluded.error_notice,
        input_tokens = excluded.input_tokens, output_tokens = excluded.output_tokens,
        correlation_id = excluded.correlation_id,
        started_at = coalesce(jobs.started_at, excluded.started_at), finished_at = excluded.finished_at
), settled_now as (
    insert into settled (platform_id, conversation_id, message_id, job_id, kind)
    select :platform_id, :conversation_id, message_id, cast(:job_id as uuid), :kind
    from unnest(cast(:ids as text[])) as message_id
    on conflict do nothing
), told as (
    -- Under the id that it may have been delivered with already, as `run_id`, unless another end was.
    insert into outbox (platform_id, job_id, conversation_id, webhook_id, message_ids, created_at, give_up_at)
    select :platform_id, cast(:job_id as uuid), :conversation_id,
           'msg_' || case when exists (
               select from outbox where platform_id = :platform_id and webhook_id = 'msg_' || cast(:run_id as text)
           ) then cast(:job_id as text) else cast(:run_id as text) end,
           cast(:given_ids as text[]), now(), now() + interval '1 day'
    from platforms where platform_id = :platform_id and base_url <> ''
), place as (
    select coalesce(
        (select min(position) - cardinality(cast(:roles as text[])) - 1 from turns
         where platform_id = :platform_id and conversation_id = :conversation_id
           and created_at > to_timestamp(cast(:finished_at as float8))),
        (select position from raised)) as position
)
insert into turns (platform_id, conversation_id, position, role, content, message_id, job_id, created_at)
select :platform_id, :conversation_id, place.position + turn.number, turn.role, turn.content, turn.message_id,
       cast(:job_id as uuid), to_timestamp(cast(:finished_at as float8))
from place, unnest(cast(:roles as text[]), cast(:contents as text[]), cast(:turn_ids as text[]))
     with ordinality as turn(role, content, message_id, number)
