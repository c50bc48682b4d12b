-- Archive what a human said.
with place as (
    update conversations set turn_count = turn_count + 1
    where platform_id = :platform_id and conversation_id = :conversation_id
    returning turn_count - 1 as position
)
insert into turns (platform_id, conversation_id, position, role, content, message_id, created_at)
select :platform_id, :conversation_id, place.position + 1, 'sale', :content, :turn_id, now()
from place
