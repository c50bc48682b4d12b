select conversations.bot_id, turns.role, turns.content, turns.message_id, extract(epoch from turns.created_at)::float8,
       cast(turns.job_id as text)
from conversations left join turns using (platform_id, conversation_id)
where platform_id = :platform_id and conversation_id = :conversation_id
order by turns.position
