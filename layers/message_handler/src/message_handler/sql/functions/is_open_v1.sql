-- Whether a message of a job is open: no job has settled it.
create or replace function is_open_v1(job jobs) returns boolean language sql stable as $$
    select exists (
        select from unnest(job.message_ids) as noted(message_id)
        where not exists (
            select from settled
            where settled.platform_id = job.platform_id and settled.conversation_id = job.conversation_id
              and settled.message_id = noted.message_id))
$$;
