-- A job that never got as far as a fence, so that it can be linked to its successor.
insert into jobs (platform_id, job_id, conversation_id, bot_id, status, message_ids, created_at)
values (:platform_id, cast(:job_id as uuid), :conversation_id, :bot_id, 'processing', cast(:message_ids as text[]),
        to_timestamp(cast(:created_at as float8)))
on conflict do nothing
