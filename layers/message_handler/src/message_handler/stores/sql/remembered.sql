-- What is remembered of the messages of a conversation, or of :message_id alone.
select key, value
from line_states, jsonb_each_text(remembered)
where platform_id = :platform_id and conversation_id = :conversation_id
  and (cast(:message_id as text) is null or key = :message_id)
  and (expires_at is null
       or expires_at > coalesce(cast(:clock as float8), extract(epoch from clock_timestamp())))
