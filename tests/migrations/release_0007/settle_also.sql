-- Further ids of what a human has answered.
insert into settled (platform_id, conversation_id, message_id, job_id, kind)
select :platform_id, :conversation_id, message_id, cast(:job_id as uuid), 'cancelled'
from unnest(cast(:ids as text[])) as message_id
on conflict do nothing
