-- As lock_conversation, for those of several jobs: always in the same order, so that no two such groups wait for each other.
insert into conversations (platform_id, conversation_id, bot_id)
select platform_id, conversation_id, bot_id
from json_to_recordset(cast(:jobs as json)) as job(platform_id text, conversation_id text, bot_id text)
order by platform_id, conversation_id
on conflict (platform_id, conversation_id) do update set updated_at = now()
