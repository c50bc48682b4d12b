-- Danger that the rules have found in a patient's messages.

-- name: note_raised
-- Note danger that was found in a conversation: its notice as an ended job, what was found, and a delivery if the platform
-- has a webhook. The transaction must have locked the conversation's row, which may belong to no bot yet: a notice binds it to none,
-- because its request may be refused. Returns a row if the job is new. Nothing is written
-- if it is known, or if the conversation was erased since. Within an hour after an erasure, the job has the id of the one that
-- was erased. So its webhook-id has the erasure's time behind it: else the platform would drop it as known.
with talk as (
    select platform_id, conversation_id, coalesce(nullif(bot_id, ''), cast(:document as jsonb) ->> 'bot_id') as bot_id,
           (select '_' || cast(extract(epoch from erased_at) * 1000 as bigint) from erasures
            where platform_id = :platform_id and name_hash = :name_hash) as erased
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
    select 'raised', platform_id, job_id, conversation_id, :webhook_id || coalesce(erased, ''), cast(:message_ids as text[]), talk.bot_id,
           :correlation_id, finished_at, now(), now() + interval '1 day'
    from notice join talk using (platform_id, conversation_id) join platforms using (platform_id)
    where base_url <> ''
)
select job_id from notice

-- name: raised
-- A tenant's found danger, newest first: one if :job_id is given, and only what lies after the row :behind if that is given.
-- :raised is that row's time in microseconds.
select cast(job_id as text), conversation_id, level, rule, rules_version, extract(epoch from raised_at)::float8, drill,
       extract(epoch from delivered_at)::float8, taken_by, extract(epoch from taken_at)::float8, closed_by,
       extract(epoch from closed_at)::float8, closed_why, reminders
from raised
where platform_id = :platform_id
  and (cast(:job_id as uuid) is null or job_id = cast(:job_id as uuid))
  and (cast(:state as text) is null
       or cast(:state as text) = case when closed_by is not null then 'closed'
                                      when taken_by is not null then 'taken' else 'raised' end)
  and (cast(:level as text) is null or level = cast(:level as text))
  and (cast(:conversation_id as text) is null or conversation_id = cast(:conversation_id as text))
  and (cast(:since as float8) is null or raised_at >= to_timestamp(cast(:since as float8)))
  and (cast(:until as float8) is null or raised_at < to_timestamp(cast(:until as float8)))
  and (cast(:raised as bigint) is null
       or (raised_at, job_id) < (timestamptz 'epoch' + cast(:raised as bigint) * interval '1 microsecond',
                                 cast(:behind as uuid)))
order by raised_at desc, job_id desc
limit cast(:most as integer)

-- name: take_raised
-- Note who takes found danger, unless a person has taken it before. Returns a row if it is taken now.
update raised set taken_by = :actor, taken_at = to_timestamp(cast(:now as float8))
where platform_id = :platform_id and job_id = cast(:job_id as uuid) and taken_by is null and closed_by is null
returning job_id

-- name: close_raised
-- Note who closes taken danger, and why, unless it is closed. Returns a row if it is closed now.
update raised set closed_by = :actor, closed_at = to_timestamp(cast(:now as float8)), closed_why = :why
where platform_id = :platform_id and job_id = cast(:job_id as uuid) and taken_by is not null and closed_by is null
returning job_id

-- name: remind_raised
-- Note a reminder of each conversation that no person has taken for :seconds, since it was raised or since the last reminder:
-- at most :reminders for each, the oldest first. If the platform has a webhook, it is told again, ahead of all that waits. A
-- conversation that is locked, for instance by an erasure, is left to the next sweep. So no lock is waited for.
with overdue as (
    select raised.platform_id, raised.job_id
    from raised join conversations using (platform_id, conversation_id)
    where taken_by is null and closed_by is null and reminders < cast(:reminders as integer)
      and coalesce(reminded_at, raised_at) <= to_timestamp(cast(:now as float8) - cast(:seconds as float8))
    order by raised_at
    limit cast(:most as integer)
    for key share of conversations skip locked
    for update of raised skip locked
), reminded as (
    update raised set reminders = reminders + 1, reminded_at = to_timestamp(cast(:now as float8))
    from overdue
    where raised.platform_id = overdue.platform_id and raised.job_id = overdue.job_id
    returning raised.*
), told as (
    insert into message_events (kind, platform_id, job_id, conversation_id, webhook_id, message_ids, bot_id, correlation_id,
                                happened_at, created_at, give_up_at, reminder)
    select 'raised', reminded.platform_id, reminded.job_id, reminded.conversation_id,
           'msg_safety_' || reminded.job_id || coalesce(
               (select '_' || cast(extract(epoch from erased_at) * 1000 as bigint) from erasures
                where platform_id = reminded.platform_id
                  and name_hash = encode(sha256(convert_to(reminded.platform_id || '/' || reminded.conversation_id, 'UTF8')),
                                         'hex')), '') || '_' || reminders,
           reminded.message_ids, coalesce(job_document(jobs) ->> 'bot_id', ''),
           coalesce(job_document(jobs) ->> 'correlation_id', ''), reminded_at, now(), now() + interval '1 day', reminders
    from reminded join platforms using (platform_id)
    join jobs on jobs.platform_id = reminded.platform_id and jobs.job_id = reminded.job_id
    where base_url <> ''
)
select platform_id, conversation_id, cast(job_id as text), level, drill, reminders from reminded

-- name: safety_report
-- Count the danger that was found in a tenant between two times: in all, by level, by rule and by the rule's language. For
-- what followed (delivered, taken, closed): how often, and the median and 95th percentile of the seconds. An urgent match
-- raises no conversation, so nothing follows it. Drills are counted apart. A rule whose id names none of the shipped
-- languages counts as 'other'.
with seen as (
    select level, rule, raised_at, delivered_at, taken_at, closed_at, drill
    from raised
    where platform_id = :platform_id
    union all
    select level, rule, found_at, null, null, null, false
    from findings
    where platform_id = :platform_id and level = 'urgent'
), found as (
    select level, rule,
           case when split_part(rule, '-', 1) = any(cast(:languages as text[])) then split_part(rule, '-', 1) else 'other' end as language,
           -- greatest() ignores null. Clocks of two hosts may differ a little.
           case when delivered_at is not null then greatest(extract(epoch from delivered_at - raised_at)::float8, 0) end as delivered,
           case when taken_at is not null then greatest(extract(epoch from taken_at - raised_at)::float8, 0) end as taken,
           case when closed_at is not null then greatest(extract(epoch from closed_at - raised_at)::float8, 0) end as closed
    from seen
    where not drill
      and raised_at >= to_timestamp(cast(:since as float8)) and raised_at < to_timestamp(cast(:until as float8))
), drills as (
    select count(*) as number from raised
    where platform_id = :platform_id and drill
      and raised_at >= to_timestamp(cast(:since as float8)) and raised_at < to_timestamp(cast(:until as float8))
), counted as (
    select case when grouping(level) = 0 then 'level'
                when grouping(rule) = 0 then 'rule'
                when grouping(language) = 0 then 'language'
                else 'all' end as by,
           coalesce(level, rule, language, '') as name, count(*) as raised, count(delivered) as delivered, count(taken) as taken,
           count(closed) as closed,
           percentile_cont(array[0.5, 0.95]) within group (order by delivered) as until_delivered,
           percentile_cont(array[0.5, 0.95]) within group (order by taken) as until_taken,
           percentile_cont(array[0.5, 0.95]) within group (order by closed) as until_closed
    from found
    group by grouping sets ((), (level), (rule), (language))
)
select by, name, raised, delivered, taken, closed, until_delivered[1], until_delivered[2], until_taken[1], until_taken[2],
       until_closed[1], until_closed[2], drills.number
from counted cross join drills
