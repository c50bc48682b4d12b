-- Conversations that the bot answers again, but of which something is still held.
select distinct platform_id, conversation_id
from held join conversations using (platform_id, conversation_id)
where not handed_off and answered_by is null
limit 100
