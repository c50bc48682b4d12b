-- Conversations in which nothing happened since :before (Unix seconds) and nothing is under way, the longest idle first,
-- from behind :after on; each with the number of its turns.
select platform_id, conversation_id, turn_count, cast(updated_at as text)
from conversations
where updated_at < to_timestamp(cast(:before as float8)) and updated_at > cast(:after as timestamptz)
  and not exists (select from jobs where jobs.platform_id = conversations.platform_id
                  and jobs.conversation_id = conversations.conversation_id and jobs.status = 'processing')
  and not exists (select from held where held.platform_id = conversations.platform_id
                  and held.conversation_id = conversations.conversation_id)
  and not exists (select from outbox where outbox.platform_id = conversations.platform_id
                  and outbox.conversation_id = conversations.conversation_id and outbox.status = 'pending')
  and not exists (select from line_states where line_states.platform_id = conversations.platform_id
                  and line_states.conversation_id = conversations.conversation_id and due_at is not null)
order by updated_at
limit cast(:most as integer)
