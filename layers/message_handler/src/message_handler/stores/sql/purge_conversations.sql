-- Delete those of these conversations that nobody works on and in which nothing has happened since :before (Unix seconds),
-- or is under way; whoever waits for the row finds it gone, and begins anew. Deliveries go with their jobs. Returns how
-- many. (What is under way is what idle_conversations says. Whoever begins it while this runs has the row, or has
-- changed its time.)
with idle as (
    select platform_id, conversation_id
    from conversations
    join unnest(cast(:platform_ids as text[]), cast(:conversation_ids as text[])) as named(platform_id, conversation_id)
         using (platform_id, conversation_id)
    where updated_at < to_timestamp(cast(:before as float8))
      and not exists (select from jobs where jobs.platform_id = conversations.platform_id
                      and jobs.conversation_id = conversations.conversation_id and jobs.status = 'processing')
      and not exists (select from held where held.platform_id = conversations.platform_id
                      and held.conversation_id = conversations.conversation_id)
      and not exists (select from outbox where outbox.platform_id = conversations.platform_id
                      and outbox.conversation_id = conversations.conversation_id and outbox.status = 'pending')
      and not exists (select from line_states where line_states.platform_id = conversations.platform_id
                      and line_states.conversation_id = conversations.conversation_id and due_at is not null)
    for update of conversations skip locked
), said as (
    delete from turns using idle
    where turns.platform_id = idle.platform_id and turns.conversation_id = idle.conversation_id
), settled_once as (
    delete from settled using idle
    where settled.platform_id = idle.platform_id and settled.conversation_id = idle.conversation_id
), ended as (
    delete from jobs using idle
    where jobs.platform_id = idle.platform_id and jobs.conversation_id = idle.conversation_id
), gone as (
    delete from conversations using idle
    where conversations.platform_id = idle.platform_id and conversations.conversation_id = idle.conversation_id
    returning true
)
select count(*) from gone
