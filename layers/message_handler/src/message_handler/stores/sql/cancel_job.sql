-- Under the row lock: settle what is open as cancelled, archive its text, shut out the run that goes on, end the job.
-- `ids` are all ids of the messages, `owners` the message that each belongs to, `accepted` when that one was (Unix
-- seconds): one that was erased since is void, and leaves nothing.
with erased as (
    select erased_at from erasures where platform_id = :platform_id and name_hash = :name_hash
), settled_now as (
    insert into settled (platform_id, conversation_id, message_id, job_id, kind)
    select :platform_id, :conversation_id, id, cast(:job_id as uuid), 'cancelled'
    from unnest(cast(:ids as text[]), cast(:owners as text[]), cast(:accepted as float8[])) as mine(id, owner, at)
    where not exists (
        select from settled
        where platform_id = :platform_id and conversation_id = :conversation_id and message_id = owner)
      and not exists (select from erased where erased_at >= to_timestamp(at))
    on conflict do nothing
    returning message_id
), raised as (
    update conversations
    set fence = fence + 1, turn_count = turn_count + cardinality(cast(:message_ids as text[])), updated_at = now()
    where platform_id = :platform_id and conversation_id = :conversation_id
      and exists (select from settled_now)
    returning turn_count - cardinality(cast(:message_ids as text[])) as position
), ended as (
    insert into jobs (platform_id, job_id, conversation_id, bot_id, status, message_ids, restarts, attempts,
                      created_at, started_at, finished_at)
    values (:platform_id, cast(:job_id as uuid), :conversation_id, :bot_id, 'cancelled',
            cast(:message_ids as text[]), cast(:restarts as integer), cast(:attempts as integer),
            to_timestamp(cast(:created_at as float8)), to_timestamp(cast(:started_at as float8)), now())
    on conflict (platform_id, job_id) do update
    set status = 'cancelled', message_ids = excluded.message_ids, finished_at = now()
    where jobs.status = 'processing'
), said as (
    insert into turns (platform_id, conversation_id, position, role, content, message_id, job_id, created_at)
    select :platform_id, :conversation_id, raised.position + turn.number, 'user', turn.content, turn.turn_id,
           cast(:job_id as uuid), now()
    from raised, unnest(cast(:message_ids as text[]), cast(:contents as text[]), cast(:turn_ids as text[]))
         with ordinality as turn(message_id, content, turn_id, number)
    where turn.message_id in (select message_id from settled_now)
)
select exists (select from settled_now)
    or exists (select from erased, unnest(cast(:accepted as float8[])) as at where erased_at >= to_timestamp(at))
    or exists (
    select from settled
    where platform_id = :platform_id and conversation_id = :conversation_id
      and job_id = cast(:job_id as uuid) and kind = 'cancelled' and message_id = any(cast(:message_ids as text[])))
