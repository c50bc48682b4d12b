-- A job as a document, as all stores keep the end of one (domain/documents.py). Times are Unix seconds. Texts of messages
-- are left out: they stand in the turns.
create or replace function job_json_v1(job jobs) returns jsonb language sql stable as $$
    select job_document(job) || jsonb_build_object(
        'platform_id', job.platform_id,
        'conversation_id', job.conversation_id,
        'job_id', job.job_id,
        'kind', job.kind,
        'status', job.status,
        'messages', (
            select coalesce(jsonb_agg(jsonb_build_object('message_id', message_id, 'content', '') order by number), '[]')
            from unnest(job.message_ids) with ordinality as noted(message_id, number)),
        'superseded_by', job.superseded_by,
        'created_at', extract(epoch from job.created_at),
        'started_at', extract(epoch from job.started_at),
        'finished_at', extract(epoch from job.finished_at))
$$;
