-- The rows of these conversations, always in the same order: no two groups of jobs wait for each other.
-- No row is returned: what follows in the transaction returns its own.
select 1
from (
    select from conversations
    join unnest(cast(:platform_ids as text[]), cast(:conversation_ids as text[])) as job(platform_id, conversation_id)
         using (platform_id, conversation_id)
    order by platform_id, conversation_id
    for no key update of conversations
) as locked
having count(*) < 0
