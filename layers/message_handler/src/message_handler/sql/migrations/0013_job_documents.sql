-- Facts of a job that are shown, but that no statement searches by, are one document (domain/documents.py). A new fact needs
-- no migration any more.
alter table jobs add column document jsonb;

-- A job's document. A row from before this migration has none; then it is made from the columns.
create function job_document(job jobs) returns jsonb language sql stable as $$
    select coalesce(job.document, jsonb_strip_nulls(jsonb_build_object(
        'bot_id', job.bot_id,
        'restarts', nullif(job.restarts, 0),
        'attempts', nullif(job.attempts, 0),
        'reply', job.reply,
        'error', case when job.error_code is not null then jsonb_build_object(
            'code', job.error_code, 'message', coalesce(job.error_message, ''), 'notice', job.error_notice) end,
        'usage', case when job.input_tokens is not null then jsonb_build_object(
            'input_tokens', job.input_tokens, 'output_tokens', coalesce(job.output_tokens, 0)) end,
        'correlation_id', nullif(job.correlation_id, ''))))
$$;

-- The previous release reads and writes a column for each of these facts. As long as it may run, a row has both, and they
-- say the same.
create function keep_columns_and_document() returns trigger language plpgsql as $$
declare
    known jsonb;
begin
    if new.document is distinct from old.document then
        new.bot_id := new.document ->> 'bot_id';
        new.restarts := coalesce(cast(new.document ->> 'restarts' as integer), 0);
        new.attempts := coalesce(cast(new.document ->> 'attempts' as integer), 0);
        new.reply := new.document ->> 'reply';
        new.error_code := new.document #>> '{error,code}';
        new.error_message := new.document #>> '{error,message}';
        new.error_notice := new.document #>> '{error,notice}';
        new.input_tokens := cast(new.document #>> '{usage,input_tokens}' as bigint);
        new.output_tokens := cast(new.document #>> '{usage,output_tokens}' as bigint);
        new.correlation_id := coalesce(new.document ->> 'correlation_id', '');
    else
        known := old.document;
        if tg_op = 'INSERT' and new.copy_of is not null then
            -- A copy has all that its original has, also what the previous release does not know.
            select document into known from jobs where platform_id = new.platform_id and job_id = new.copy_of;
        end if;
        new.document := null;
        new.document := coalesce(known, '{}')
            - array['bot_id', 'restarts', 'attempts', 'reply', 'error', 'usage', 'correlation_id'] || job_document(new);
    end if;
    return new;
end
$$;

create trigger keep_columns_and_document
    before insert or update of document, bot_id, restarts, attempts, reply, error_code, error_message, error_notice,
                               input_tokens, output_tokens, correlation_id
    on jobs for each row execute function keep_columns_and_document();

-- Ends that were decided while the archive could not be written. `lacking` is the conversation of such a job.
alter table ended_jobs add column lacking text;

create index ended_jobs_lacking on ended_jobs (platform_id, expires_at) where lacking is not null;
