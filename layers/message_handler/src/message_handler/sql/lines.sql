-- The lines of the Postgres tier (protocol/line_documents.py). :clock is a test's time in Unix seconds; null means the
-- server's time.

-- name: save_lines
-- Compare and save lines: see functions/save_lines_v2.sql.
select * from save_lines_v2(cast(:saves as json))

-- name: read_lines
-- The fields of each line, in the order of the ids; only :names, if these are given.
select (select jsonb_object_agg(key, value) from jsonb_each(fields)
        where cast(:names as text[]) is null or key = any(cast(:names as text[])))
from unnest(cast(:platform_ids as text[]), cast(:conversation_ids as text[]))
     with ordinality as named(platform_id, conversation_id, number)
left join line_states on line_states.platform_id = named.platform_id
     and line_states.conversation_id = named.conversation_id
     and (expires_at is null
          or expires_at > coalesce(cast(:clock as float8), extract(epoch from clock_timestamp())))
order by number

-- name: remembered
-- What is remembered of a conversation's messages of ended jobs, or of :message_id alone.
select key, value
from line_states, jsonb_each_text(remembered)
where platform_id = :platform_id and conversation_id = :conversation_id
  and (cast(:message_id as text) is null or key = :message_id)
  and (expires_at is null
       or expires_at > coalesce(cast(:clock as float8), extract(epoch from clock_timestamp())))

-- name: find_job
-- Where a job is: its end in this tier, or the line in which it waits or runs.
select null, null, document
from ended_jobs
where job_id = cast(:job_id as uuid)
  and expires_at > coalesce(cast(:clock as float8), extract(epoch from clock_timestamp()))
union all
select platform_id, conversation_id, null from line_states where job_ids @> array[cast(:job_id as uuid)]

-- name: archived_end
-- Note that the archive has the job's end now. A :document, which has no texts, replaces the stored one for :seconds.
update ended_jobs
set lacking = null,
    document = coalesce(cast(:document as text), document),
    expires_at = case when cast(:document as text) is null then expires_at
                 else coalesce(cast(:clock as float8), extract(epoch from clock_timestamp())) + cast(:seconds as float8) end
where job_id = cast(:job_id as uuid) and platform_id = :platform_id

-- name: unarchived_ends
-- Jobs whose ends the archive lacks: the :most oldest of each tenant.
select platform_id, lacking, job_id
from (select *, row_number() over (partition by platform_id order by expires_at) as number
      from ended_jobs
      where lacking is not null
        and expires_at > coalesce(cast(:clock as float8), extract(epoch from clock_timestamp()))) as ends
where number <= :most
order by expires_at

-- name: live_lines
-- The tenant's conversations in which a job waits.
select conversation_id from line_states where platform_id = :platform_id and due_at is not null

-- name: due_lines
-- Conversations that a sweep looks at, of one tenant if :platform_id names it: no worker came or reported in time, or the
-- lock is older than :older_than.
select platform_id, conversation_id
from line_states,
     coalesce(cast(:clock as float8), extract(epoch from clock_timestamp())) as now
where (cast(:platform_id as text) is null or platform_id = cast(:platform_id as text))
  and due_at is not null
  and (due_at <= now or cast(fields ->> 'acquired_at' as float8) + cast(:older_than as float8) <= now)
order by due_at

-- name: drop_ended
-- Delete what this tier does not need any more, of one tenant if :platform_id names it: expired lines and ends, and lines that
-- were answered on another tier. A line with a living worker stays; at the fence that worker learns that it was answered.
-- Rows that a step has locked wait for the next sweep. Lines of the previous release are answered from their records, and
-- deleted a day later.
with now as (
    select coalesce(cast(:clock as float8), extract(epoch from clock_timestamp())) as at, cast(:platform_id as text) as tenant
), ended as (
    delete from ended_jobs using now where expires_at <= now.at and (tenant is null or platform_id = tenant)
), before as (
    delete from lines using now
    where greatest(acquired_at, heartbeat_at) < now.at - 86400 and (tenant is null or platform_id = tenant)
), over as (
    select platform_id, conversation_id
    from line_states, now
    where (tenant is null or platform_id = tenant) and (
       expires_at <= now.at
       or due_at is not null
          and coalesce(cast(fields ->> 'heartbeat_at' as float8), 0) <= now.at - cast(:heartbeat_stale as float8)
          and not exists (
              select from unnest(message_ids) as waiting(message_id)
              where not exists (
                  select from settled
                  where settled.platform_id = line_states.platform_id
                    and settled.conversation_id = line_states.conversation_id
                    and settled.message_id = waiting.message_id)))
    order by platform_id, conversation_id
    for update of line_states skip locked
)
delete from line_states using over
where line_states.platform_id = over.platform_id and line_states.conversation_id = over.conversation_id
