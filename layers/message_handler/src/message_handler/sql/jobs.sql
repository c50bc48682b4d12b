-- A job's life, what its chain of successors leads to, and what operators ask about jobs. What ends as cancelled here was
-- answered, or is, under another name; every other end is end_jobs'.

-- name: end_jobs
-- End a job whose conversation's row this transaction holds: see functions/end_jobs_v1.sql.
select number, told from end_jobs_v1(cast(:jobs as json))

-- name: commit_jobs
-- Commit the ends of jobs under their fences, of several those whose conversations nobody else holds.
select number, told from end_jobs_v1(free_jobs_v2(cast(:jobs as json), false))

-- name: was_committed
-- Whether this very end was committed before: the answer to the first commit may have been lost.
select exists (
    select from jobs
    where platform_id = :platform_id and job_id = cast(:job_id as uuid)
      and status = :status and fence = cast(:fence as bigint)
)

-- name: note_job
-- A job that never got as far as a fence, so that it can be linked to its successor.
insert into jobs (platform_id, job_id, conversation_id, status, message_ids, document, created_at, started_at)
values (:platform_id, cast(:job_id as uuid), :conversation_id, 'processing', cast(:message_ids as text[]),
        cast(:document as jsonb), to_timestamp(cast(:created_at as float8)), to_timestamp(cast(:started_at as float8)))
on conflict do nothing

-- name: note_promise
-- Messages that were promised a job beside its own: it shows them, though another one runs or has answered them.
update jobs
set document = job_document(jobs) || jsonb_build_object('promised', (
    select jsonb_agg(distinct message_id)
    from (select unnest(cast(:message_ids as text[]))
          union all
          select jsonb_array_elements_text(job_document(jobs) -> 'promised')) as told(message_id)
    where message_id <> all(jobs.message_ids)))
where platform_id = :platform_id and job_id = cast(:job_id as uuid)
  and not cast(:message_ids as text[]) <@ message_ids

-- name: end_job
-- Nothing runs under this job any more: it ends as cancelled, and settles nothing.
update jobs set status = 'cancelled', finished_at = now()
where platform_id = :platform_id and job_id = cast(:job_id as uuid) and status = 'processing'

-- name: interrupt_job
-- A job gave its messages to another one before its reply was sealed: it ends, unless it has ended. A worker that
-- still runs it takes no fence and commits nothing any more.
update jobs
set status = 'cancelled', finished_at = now(),
    superseded_by = coalesce(superseded_by, cast(:successor_id as uuid))
where platform_id = :platform_id and job_id = cast(:job_id as uuid) and status = 'processing'

-- name: end_settled
-- End those jobs of a chain that wait for a run, but of which no message is open any more.
update jobs set status = 'cancelled', finished_at = now()
where platform_id = :platform_id and status = 'processing'
  and job_id in (select job_id from chain_of_v1(:platform_id, cast(:job_id as uuid)))
  and not is_open_v1(jobs)

-- name: unfinished_jobs
-- Jobs that wait for a run which nobody needs any more: none of their messages is open. The check of a record ends such a
-- job, unless that record was lost.
select job_json_v1(jobs)
from jobs
where status = 'processing' and message_ids <> '{}' and not is_open_v1(jobs)
limit cast(:most as integer)

-- name: supersede_job
-- Link the end of the job's chain to the successor, unless the successor's own chain leads there: never a circle.
with onward as (
    select cast(:successor_id as uuid) as job_id
    union
    select superseded_by from chain_of_v1(:platform_id, cast(:successor_id as uuid)) where superseded_by is not null
)
update jobs set superseded_by = cast(:successor_id as uuid)
where platform_id = :platform_id
  and job_id in (select job_id from chain_of_v1(:platform_id, cast(:job_id as uuid)) where superseded_by is null)
  and job_id not in (select job_id from onward)

-- name: copy_successor
-- Where the job's chain could not be linked to the successor, because the successor's own chain leads into it: two jobs
-- answered what the other was promised, and one pointer a job can't say both. The chain then ends with a copy.
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
-- The end of a job's chain, where it is just a name: so that it can be linked, and ended.
insert into jobs (platform_id, job_id, conversation_id, status, message_ids, document, created_at)
select :platform_id, superseded_by, :conversation_id, 'processing', cast(:message_ids as text[]),
       jsonb_build_object('bot_id', cast(:bot_id as text)), to_timestamp(cast(:created_at as float8))
from chain_of_v1(:platform_id, cast(:job_id as uuid))
where superseded_by is not null
on conflict do nothing

-- name: chain_end
-- What a job's chain of successors ends with; it may be just a name.
with chain as (
    select * from chain_of_v1(:platform_id, cast(:job_id as uuid))
)
select cast(coalesce(superseded_by, job_id) as text) from chain
where superseded_by is null or superseded_by not in (select job_id from chain)

-- name: running_successor
-- The run that goes on, or may, at the end of an ended job's chain.
select cast(job_id as text) from jobs
where platform_id = :platform_id
  and job_id in (select job_id from chain_of_v1(:platform_id, cast(:job_id as uuid)) where superseded_by is null)
  and job_id <> cast(:job_id as uuid) and status = 'processing'

-- name: job
-- A job as it is archived.
select job_json_v1(jobs) from jobs where platform_id = :platform_id and job_id = cast(:job_id as uuid)

-- name: jobs
-- A tenant's jobs, the newest first, from behind one on (`created`: its time in microseconds). Without their replies.
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
-- When a worker ended a job of a tenant last, as far as its newest jobs tell.
select max(extract(epoch from finished_at)::float8) from (
    select finished_at, status from jobs where platform_id = :platform_id order by created_at desc, job_id desc limit 100
) as newest
where status in ('completed', 'failed')

-- name: minutes
-- What came and went of a tenant's jobs, minute by minute; no row for a minute in which nothing did. A job whose messages
-- another one answers was not cancelled.
with begun as (
    select date_bin('1 minute', created_at, timestamptz 'epoch') as minute, count(*) as created
    from jobs
    where platform_id = :platform_id and copy_of is null
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
    where platform_id = :platform_id and copy_of is null
      and finished_at >= to_timestamp(cast(:since as float8)) and finished_at < to_timestamp(cast(:until as float8))
    group by 1
)
select extract(epoch from minute)::bigint, coalesce(created, 0), coalesce(completed, 0), coalesce(failed, 0),
       coalesce(cancelled, 0), extract(epoch from spent[1])::float8, extract(epoch from spent[2])::float8
from begun full join ended using (minute)
order by minute

-- name: job_to_reopen
-- Whether a job's messages can be opened again: how it ended, what it is a copy of, whether they were before.
select status, cast(copy_of as text), retried_at is not null, message_ids
from jobs
where platform_id = :platform_id and job_id = cast(:job_id as uuid)

-- name: was_reopened
-- Whether a job's messages were opened again: then its end is an old story.
select exists (
    select from jobs
    where platform_id = :platform_id and job_id = cast(:job_id as uuid) and retried_at is not null)

-- name: reopen_job
-- Under the row lock, of a failed job that this was not done to before: open its messages again. Returns all their ids,
-- and what the patient said in them: it leaves the archive, and comes back with its answer.
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
    returning turns.position, turns.content, turns.message_id
)
select (select array_agg(message_id) from opened),
       (select array_agg(content order by position) from said),
       (select array_agg(message_id order by position) from said)
