-- Jobs: their ends, their chains of successors, and what operators ask about them. A job that ends as cancelled here is
-- answered under another job. Every other end is written by end_jobs.

-- name: end_jobs
-- End a job. The transaction must have locked the conversation's row: see functions/end_jobs_v1.sql.
select number, told from end_jobs_v1(cast(:jobs as json))

-- name: commit_jobs
-- Commit the ends of jobs under their fences; among several, only those whose conversation is not locked elsewhere.
select number, told from end_jobs_v1(free_jobs_v2(cast(:jobs as json), false))

-- name: was_committed
-- Whether this same end was committed before: the server's answer to the first commit may have been lost.
select exists (
    select from jobs
    where platform_id = :platform_id and job_id = cast(:job_id as uuid)
      and status = :status and fence = cast(:fence as bigint)
)

-- name: note_job
-- Note a job that never got a fence, so that it can be linked to its successor.
insert into jobs (platform_id, job_id, conversation_id, status, message_ids, document, created_at, started_at)
values (:platform_id, cast(:job_id as uuid), :conversation_id, 'processing', cast(:message_ids as text[]),
        cast(:document as jsonb), to_timestamp(cast(:created_at as float8)), to_timestamp(cast(:started_at as float8)))
on conflict do nothing

-- name: link_promises
-- Link the jobs that messages of a job were promised to the jobs that settled these messages. Returns no row. See
-- functions/link_promises_v1.sql.
select link_promises_v1(:platform_id, :conversation_id, :bot_id, cast(:promises as json), null)
where cast(:promises as text) is not null

-- name: note_promise
-- Note messages that were promised this job beside its own. The job shows them, although another job answers them.
update jobs
set document = job_document(jobs) || jsonb_build_object('promised', (
    select jsonb_agg(distinct message_id)
    from (select unnest(cast(:message_ids as text[]))
          union all
          select jsonb_array_elements_text(job_document(jobs) -> 'promised')) as promised(message_id)
    where message_id <> all(jobs.message_ids)))
where platform_id = :platform_id and job_id = cast(:job_id as uuid)
  and not cast(:message_ids as text[]) <@ message_ids

-- name: end_job
-- End a job as cancelled if it has not ended. It settles nothing.
update jobs set status = 'cancelled', finished_at = now()
where platform_id = :platform_id and job_id = cast(:job_id as uuid) and status = 'processing'

-- name: interrupt_job
-- End a job that gave its messages to another one before its reply was sealed, unless it has ended. A worker that still
-- runs it gets no fence and commits nothing.
update jobs
set status = 'cancelled', finished_at = now(),
    superseded_by = coalesce(superseded_by, cast(:successor_id as uuid))
where platform_id = :platform_id and job_id = cast(:job_id as uuid) and status = 'processing'

-- name: end_settled
-- End the jobs of a chain that wait for a run, but have no open message any more.
update jobs set status = 'cancelled', finished_at = now()
where platform_id = :platform_id and status = 'processing'
  and job_id in (select job_id from chain_of_v1(:platform_id, cast(:job_id as uuid)))
  and not is_open_v1(jobs)

-- name: unfinished_jobs
-- Jobs that wait for a run, but have no open message. The check of their record ends such jobs, unless the record was
-- lost.
select job_json_v1(jobs)
from jobs
where status = 'processing' and message_ids <> '{}' and not is_open_v1(jobs)
limit cast(:most as integer)

-- name: supersede_jobs
-- Link the last job of each job's chain to the successor. A link that would close a circle is left out: the successor's
-- chain leads back to that job.
with onward as (
    select cast(:successor_id as uuid) as job_id
    union
    select superseded_by from chain_of_v1(:platform_id, cast(:successor_id as uuid)) where superseded_by is not null
)
update jobs set superseded_by = cast(:successor_id as uuid)
where platform_id = :platform_id
  and job_id in (select chain.job_id
                 from unnest(cast(:job_ids as uuid[])) as linked(job_id), chain_of_v1(:platform_id, linked.job_id) as chain
                 where chain.superseded_by is null)
  and job_id not in (select job_id from onward)

-- name: copy_successor
-- End the job's chain with a copy of the successor, if the successor's own chain leads into it: such a link would close a
-- circle. It happens if two jobs each answered a message that was promised the other.
with chain as (
    select * from chain_of_v1(:platform_id, cast(:job_id as uuid))
), copied as (
    insert into jobs (platform_id, job_id, conversation_id, status, fence, message_ids, document, created_at,
                      started_at, finished_at, copy_of)
    select platform_id, cast(:copy_id as uuid), conversation_id, status, fence, message_ids, job_document(jobs),
           created_at, started_at, finished_at, job_id
    from jobs
    where platform_id = :platform_id and job_id = cast(:successor_id as uuid) and status <> 'processing'
      and not exists (select from chain where cast(:successor_id as uuid) in (chain.job_id, chain.copy_of))
    returning job_id
)
update jobs set superseded_by = copied.job_id
from copied
where platform_id = :platform_id and jobs.job_id in (select job_id from chain where superseded_by is null)

-- name: note_end
-- Note the last job of a chain if it is a mere name, which has no row, so that it can be linked and ended.
insert into jobs (platform_id, job_id, conversation_id, status, message_ids, document, created_at)
select :platform_id, superseded_by, :conversation_id, 'processing', cast(:message_ids as text[]),
       jsonb_build_object('bot_id', cast(:bot_id as text)), to_timestamp(cast(:created_at as float8))
from chain_of_v1(:platform_id, cast(:job_id as uuid))
where superseded_by is not null
on conflict do nothing

-- name: chain_end
-- The last job of a job's chain. It may be a mere name, which has no row.
with chain as (
    select * from chain_of_v1(:platform_id, cast(:job_id as uuid))
)
select cast(coalesce(superseded_by, job_id) as text) from chain
where superseded_by is null or superseded_by not in (select job_id from chain)

-- name: running_successor
-- The last job of an ended job's chain, if that runs or may still run.
select cast(job_id as text) from jobs
where platform_id = :platform_id
  and job_id in (select job_id from chain_of_v1(:platform_id, cast(:job_id as uuid)) where superseded_by is null)
  and job_id <> cast(:job_id as uuid) and status = 'processing'

-- name: job
-- An archived job.
select job_json_v1(jobs) from jobs where platform_id = :platform_id and job_id = cast(:job_id as uuid)

-- name: jobs
-- A tenant's jobs without their replies, newest first; only those after the job :behind, if one is named. :created is that
-- job's time in microseconds.
select job_json_v1(jobs) - 'reply'
from jobs
where platform_id = :platform_id and copy_of is null
  and (cast(:status as text) is null or status = cast(:status as text))
  and (cast(:status as text) is distinct from 'cancelled' or superseded_by is null)
  and (cast(:conversation_id as text) is null or conversation_id = cast(:conversation_id as text))
  and (cast(:created as bigint) is null
       or (created_at, job_id) < (timestamptz 'epoch' + cast(:created as bigint) * interval '1 microsecond',
                                  cast(:behind as uuid)))
order by created_at desc, job_id desc
limit cast(:most as integer)

-- name: last_end
-- When a worker last ended a job of a tenant, among the newest 100 jobs. No worker makes a notice.
select max(extract(epoch from finished_at)::float8) from (
    select finished_at, status from jobs
    where platform_id = :platform_id and kind = 'reply'
    order by created_at desc, job_id desc limit 100
) as newest
where status in ('completed', 'failed')

-- name: minutes
-- How many of a tenant's jobs began and ended in each minute; no row for a minute without any. A job whose messages
-- another job answers does not count as cancelled. Notices do not count.
with begun as (
    select date_bin('1 minute', created_at, timestamptz 'epoch') as minute, count(*) as created
    from jobs
    where platform_id = :platform_id and copy_of is null and kind = 'reply'
      and created_at >= to_timestamp(cast(:since as float8)) and created_at < to_timestamp(cast(:until as float8))
    group by 1
), ended as (
    select date_bin('1 minute', finished_at, timestamptz 'epoch') as minute,
           count(*) filter (where status = 'completed') as completed,
           count(*) filter (where status = 'failed') as failed,
           count(*) filter (where status = 'cancelled' and superseded_by is null) as cancelled,
           percentile_cont(array[0.5, 0.95]) within group (order by finished_at - created_at)
               filter (where status = 'completed') as spent
    from jobs
    where platform_id = :platform_id and copy_of is null and kind = 'reply'
      and finished_at >= to_timestamp(cast(:since as float8)) and finished_at < to_timestamp(cast(:until as float8))
    group by 1
)
select extract(epoch from minute)::bigint, coalesce(created, 0), coalesce(completed, 0), coalesce(failed, 0),
       coalesce(cancelled, 0), extract(epoch from spent[1])::float8, extract(epoch from spent[2])::float8
from begun full join ended using (minute)
order by minute

-- name: job_to_reopen
-- What decides whether a job's messages can be reopened: its status, its original if it is a copy, and whether they were
-- reopened before.
select status, cast(copy_of as text), retried_at is not null, message_ids
from jobs
where platform_id = :platform_id and job_id = cast(:job_id as uuid)

-- name: was_reopened
-- Whether a job's messages were reopened. Then its end is not archived again.
select exists (
    select from jobs
    where platform_id = :platform_id and job_id = cast(:job_id as uuid) and retried_at is not null)

-- name: reopen_job
-- Reopen a failed job's messages, once, under the row lock. Returns all their ids, and the patient's turns. These leave the
-- archive with what the rules have found in them, and come back with their answer.
with reopened as (
    update jobs set retried_at = now()
    where platform_id = :platform_id and job_id = cast(:job_id as uuid)
      and conversation_id = :conversation_id
    returning job_id
), opened as (
    delete from settled using reopened
    where settled.platform_id = :platform_id and settled.conversation_id = :conversation_id
      and settled.job_id = reopened.job_id and settled.kind = 'failed'
    returning settled.message_id
), said as (
    delete from turns using reopened
    where turns.platform_id = :platform_id and turns.conversation_id = :conversation_id
      and turns.job_id = reopened.job_id and turns.role = 'user'
    returning turns.position, turns.content, turns.message_id, turns.earlier
), found as (
    delete from findings using reopened
    where findings.platform_id = :platform_id and findings.conversation_id = :conversation_id
      and findings.job_id = reopened.job_id
)
select (select array_agg(message_id) from opened),
       (select array_agg(content order by position) from said),
       (select array_agg(message_id order by position) from said),
       (select json_agg(earlier order by position) from said)
