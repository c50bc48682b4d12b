-- Retention: export, purge and erasure.

-- name: export_conversation
-- All that is kept of a conversation, in a fixed order: its row, turns, jobs, settled messages, parked messages, deliveries
-- and found danger by conversation and by message. Returns the records after (:section, :key): at most :most, and at most
-- :most_bytes, but always the first.
with kept as (
    select 0 as section, '' as key, json_build_object(
        'kind', 'conversation', 'bot_id', nullif(bot_id, ''), 'handed_off', handed_off,
        'created_at', created_at, 'updated_at', updated_at) as record
    from conversations where platform_id = :platform_id and conversation_id = :conversation_id
    union all
    select 1, lpad((position + 1000000000)::text, 19, '0'), json_build_object(
        'kind', 'turn', 'role', role, 'content', content, 'earlier', coalesce(earlier, '[]'), 'message_id', message_id,
        'job_id', job_id, 'created_at', created_at, 'edited_at', edited_at, 'unsent_at', unsent_at)
    from turns where platform_id = :platform_id and conversation_id = :conversation_id
    union all
    -- These names are those of the columns that held each fact in earlier releases.
    select 2, job_id::text, cast((job_json_v1(jobs) - array['platform_id', 'conversation_id', 'messages', 'error', 'usage'])
        || jsonb_build_object(
            'kind', 'job', 'job_kind', kind, 'message_ids', message_ids, 'error_code', job_document(jobs) #> '{error,code}',
            'error_message', job_document(jobs) #> '{error,message}',
            'error_notice', job_document(jobs) #> '{error,notice}',
            'input_tokens', job_document(jobs) #> '{usage,input_tokens}',
            'output_tokens', job_document(jobs) #> '{usage,output_tokens}',
            'created_at', created_at, 'started_at', started_at, 'finished_at', finished_at) as json)
    from jobs where platform_id = :platform_id and conversation_id = :conversation_id
    union all
    select 3, message_id, json_build_object(
        'kind', 'settled', 'message_id', message_id, 'job_id', job_id, 'how', settled.kind, 'settled_at', settled_at)
    from settled where platform_id = :platform_id and conversation_id = :conversation_id
    union all
    select 4, lpad(number::text, 19, '0'), json_build_object(
        'kind', 'held', 'message_id', message_id, 'content', content, 'aliases', aliases,
        'context', cast(context as json), 'resources', cast(resources as json), 'job_id', job_id,
        'answered_by', answered_by, 'held_at', held_at)
    from held where platform_id = :platform_id and conversation_id = :conversation_id
    union all
    select 5, lpad(sequence::text, 19, '0'), json_build_object(
        'kind', 'delivery', 'event', kind, 'webhook_id', webhook_id, 'job_id', job_id, 'message_ids', message_ids,
        'status', status, 'attempts', attempts, 'last_error', last_error, 'created_at', created_at,
        'delivered_at', delivered_at)
    from deliveries where platform_id = :platform_id and conversation_id = :conversation_id
    union all
    select 6, job_id::text, json_build_object(
        'kind', 'raised', 'job_id', job_id, 'level', level, 'rule', rule, 'rules_version', rules_version,
        'message_ids', message_ids, 'raised_at', raised_at, 'drill', drill, 'delivered_at', delivered_at, 'taken_by', taken_by,
        'taken_at', taken_at, 'closed_by', closed_by, 'closed_at', closed_at, 'closed_why', closed_why,
        'reminders', reminders)
    from raised where platform_id = :platform_id and conversation_id = :conversation_id
    union all
    select 7, job_id::text || ' ' || message_id, json_build_object(
        'kind', 'finding', 'message_id', message_id, 'job_id', job_id, 'level', level, 'rule', rule,
        'rules_version', rules_version, 'place', place, 'found_at', found_at)
    from findings where platform_id = :platform_id and conversation_id = :conversation_id
), following as (
    select section, key, record,
           row_number() over page as number,
           sum(octet_length(cast(record as text))) over page as size
    from kept
    where (section, key collate "C") > (cast(:section as integer), :key collate "C")
    window page as (order by section, key collate "C")
)
select section, key, record from following
where number = 1 or (number <= cast(:most as integer) and size <= cast(:most_bytes as bigint))
order by section, key collate "C"

-- name: idle_conversations
-- Conversations with no activity since :before (Unix seconds) and nothing under way, each with its number of turns. The one
-- that is idle for longest comes first; only those after the time :after.
select platform_id, conversation_id, turn_count, cast(updated_at as text)
from conversations
where updated_at < to_timestamp(cast(:before as float8)) and updated_at > cast(:after as timestamptz)
  and not exists (select from jobs where jobs.platform_id = conversations.platform_id
                  and jobs.conversation_id = conversations.conversation_id and jobs.status = 'processing')
  and not exists (select from held where held.platform_id = conversations.platform_id
                  and held.conversation_id = conversations.conversation_id)
  and not exists (select from deliveries where deliveries.platform_id = conversations.platform_id
                  and deliveries.conversation_id = conversations.conversation_id and deliveries.status = 'pending')
  and not exists (select from line_states where line_states.platform_id = conversations.platform_id
                  and line_states.conversation_id = conversations.conversation_id and due_at is not null)
order by updated_at
limit cast(:most as integer)

-- name: purge_conversations
-- Delete those of these conversations that are idle since :before (Unix seconds; see idle_conversations), and not locked.
-- A step that begins at this moment has locked the row, or has changed its time. A transaction that waits for the row finds
-- it gone, and makes a new one. Deliveries are deleted with their jobs, or with the conversation. Returns how
-- many conversations were deleted.
with idle as (
    select platform_id, conversation_id
    from conversations
    join unnest(cast(:platform_ids as text[]), cast(:conversation_ids as text[])) as named(platform_id, conversation_id)
         using (platform_id, conversation_id)
    where updated_at < to_timestamp(cast(:before as float8))
      and not exists (select from jobs where jobs.platform_id = conversations.platform_id
                      and jobs.conversation_id = conversations.conversation_id and jobs.status = 'processing')
      and not exists (select from held where held.platform_id = conversations.platform_id
                      and held.conversation_id = conversations.conversation_id)
      and not exists (select from deliveries where deliveries.platform_id = conversations.platform_id
                      and deliveries.conversation_id = conversations.conversation_id and deliveries.status = 'pending')
      and not exists (select from line_states where line_states.platform_id = conversations.platform_id
                      and line_states.conversation_id = conversations.conversation_id and due_at is not null)
    for update of conversations skip locked
), said as (
    delete from turns using idle
    where turns.platform_id = idle.platform_id and turns.conversation_id = idle.conversation_id
), settled_once as (
    delete from settled using idle
    where settled.platform_id = idle.platform_id and settled.conversation_id = idle.conversation_id
), ended as (
    delete from jobs using idle
    where jobs.platform_id = idle.platform_id and jobs.conversation_id = idle.conversation_id
), gone as (
    delete from conversations using idle
    where conversations.platform_id = idle.platform_id and conversations.conversation_id = idle.conversation_id
    returning true
)
select count(*) from gone

-- name: purge_deliveries
-- Delete deliveries that arrived before :delivered_before, or were given up before :dead_before (Unix seconds).
delete from deliveries
where (platform_id, webhook_id) in (
    select platform_id, webhook_id from deliveries
    where (status = 'delivered' and coalesce(delivered_at, give_up_at) < to_timestamp(cast(:delivered_before as float8)))
       or (status = 'dead' and coalesce(delivered_at, give_up_at) < to_timestamp(cast(:dead_before as float8)))
    limit cast(:most as integer)
    for update skip locked
)
returning true

-- name: purge_erasures
-- Forget erasures before :before (Unix seconds): no queue has a record that old.
delete from erasures
where (platform_id, name_hash) in (
    select platform_id, name_hash from erasures
    where erased_at < to_timestamp(cast(:before as float8))
    limit cast(:most as integer)
    for update skip locked
)
returning true

-- name: purge_audit
-- Delete audit entries before :before (Unix seconds).
delete from audit
where (platform_id, id) in (
    select platform_id, id from audit
    where at < to_timestamp(cast(:before as float8))
    limit cast(:most as integer)
    for update skip locked
)
returning true

-- name: note_erasure
-- Void what was accepted until now, under the row lock. The margin covers differences between the hosts' clocks.
insert into erasures (platform_id, name_hash, erased_at, fence)
select :platform_id, :name_hash, clock_timestamp() + make_interval(secs => cast(:margin as float8)), fence
from conversations
where platform_id = :platform_id and conversation_id = :conversation_id
on conflict (platform_id, name_hash) do update
set erased_at = excluded.erased_at, fence = greatest(erasures.fence, excluded.fence)

-- name: erase_conversation
-- Delete all that is kept of a conversation. Deliveries are deleted with their jobs, or with the conversation. Returns
-- whether there was anything (except a row that this transaction made to lock it), and the ids of the jobs that a tier may
-- still know.
with gone as (
    delete from conversations where platform_id = :platform_id and conversation_id = :conversation_id
    returning created_at <> now() as known
), said as (
    delete from turns where platform_id = :platform_id and conversation_id = :conversation_id
), settled_once as (
    delete from settled where platform_id = :platform_id and conversation_id = :conversation_id
), kept as (
    delete from held where platform_id = :platform_id and conversation_id = :conversation_id
), lines_of_the_release_before as (
    delete from lines where platform_id = :platform_id and conversation_id = :conversation_id
), ended as (
    delete from jobs where platform_id = :platform_id and conversation_id = :conversation_id
    returning cast(job_id as text) as job_id, finished_at
)
select exists (select from gone where known) or exists (select from ended),
       array(select job_id from ended where finished_at is null or finished_at > now() - interval '14 days')

-- name: erased_until
-- The time until which a conversation's accepted messages are void (Unix seconds, rounded up). No row if it was never
-- erased.
select extract(epoch from erased_at)::float8 + 0.001 from erasures
where platform_id = :platform_id and name_hash = :name_hash

-- name: drop_empty_conversation
-- Delete a row that was made for something void, under the row lock. It stays if it has been used since: for a fence, a
-- turn, a handoff, a parked message or a job.
delete from conversations
where platform_id = :platform_id and conversation_id = :conversation_id
  and turn_count = 0 and not handed_off
  and fence <= (select fence from erasures where platform_id = :platform_id and name_hash = :name_hash)
  and not exists (select from held where platform_id = :platform_id and conversation_id = :conversation_id)
  and not exists (select from jobs where platform_id = :platform_id and conversation_id = :conversation_id)
