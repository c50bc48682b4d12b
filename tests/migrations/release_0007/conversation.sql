select conversations.bot_id, turns.role, turns.content, turns.message_id, extract(epoch from turns.created_at)::float8,
       cast(turns.job_id as text), conversations.handed_off,
       (select array_agg(held.message_id) from held
        where held.platform_id = :platform_id and held.conversation_id = :conversation_id and answered_by is null
          and not exists (
              select from settled
              where settled.platform_id = :platform_id and settled.conversation_id = :conversation_id
                and settled.message_id = any(held.message_id || held.aliases)))
from conversations left join turns using (platform_id, conversation_id)
where platform_id = :platform_id and conversation_id = :conversation_id
order by turns.position
