-- What waits for the conversation in this tier, and which of it is settled.
select document, array(
    select message_id from settled
    where settled.platform_id = lines.platform_id and settled.conversation_id = lines.conversation_id
      and message_id = any(lines.message_ids))
from lines
where platform_id = :platform_id and conversation_id = :conversation_id and current_id is not null
