-- See migrations/0010_functions.sql; and what waits for the conversation in the Postgres tier, with which of it is settled,
-- for the jobs that drain it. (That is as it was when this began: what was settled since, the next fence finds.)
select fences.number, raised, settled_by, newest, human, erased_until,
       (select json_build_array(fields, array(
            select message_id from settled
            where settled.platform_id = line_states.platform_id
              and settled.conversation_id = line_states.conversation_id
              and message_id = any(line_states.message_ids)))
        from line_states
        where asked.drains and due_at is not null
          and line_states.platform_id = asked.platform_id and line_states.conversation_id = asked.conversation_id),
       bot
from take_fences(free_jobs(cast(:jobs as json), true)) as fences
join json_to_recordset(cast(:jobs as json)) as asked(
    number integer, platform_id text, conversation_id text, drains boolean) on asked.number = fences.number
