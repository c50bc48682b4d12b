-- A tenant's jobs, the newest first, from behind one on. No text. `created` is in microseconds, as exact as it is kept.
select cast(job_id as text), conversation_id, bot_id, status, cardinality(message_ids), restarts, attempts, error_code,
       cast(superseded_by as text), extract(epoch from created_at)::float8, extract(epoch from started_at)::float8,
       extract(epoch from finished_at)::float8, floor(extract(epoch from created_at) * 1000000)::bigint
from jobs
where platform_id = :platform_id and copy_of is null
  and (cast(:status as text) is null or status = cast(:status as text))
  and (cast(:conversation_id as text) is null or conversation_id = cast(:conversation_id as text))
  and (cast(:created as bigint) is null
       or (created_at, job_id) < (timestamptz 'epoch' + cast(:created as bigint) * interval '1 microsecond',
                                  cast(:behind as uuid)))
order by created_at desc, jobs.job_id desc  -- not the text that is selected: the index has the uuid
limit cast(:most as integer)
