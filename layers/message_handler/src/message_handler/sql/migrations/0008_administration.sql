-- What operators did, and which version of a record they saw. Additive: code of an earlier version goes on working.

-- `revision` goes up with each write of a record, whoever makes it: an earlier version of the code, or somebody at a
-- prompt. It starts at the time (Unix milliseconds), so that a record which is deleted and written anew gets no number
-- that an earlier one had.
alter table platforms add column revision bigint not null default floor(extract(epoch from clock_timestamp()) * 1000);
alter table core_ai add column revision bigint not null default floor(extract(epoch from clock_timestamp()) * 1000);
alter table bots add column revision bigint not null default floor(extract(epoch from clock_timestamp()) * 1000);

create function next_revision() returns trigger language plpgsql as $$
begin
    new.revision := old.revision + 1;
    return new;
end
$$;

-- What deliveries note of a platform is no change of its configuration.
create trigger next_revision before update of name, description, base_url, auth_required, meta_data on platforms
    for each row execute function next_revision();
create trigger next_revision before update on core_ai for each row execute function next_revision();
create trigger next_revision before update on bots for each row execute function next_revision();

-- Who did what, when: one row for each change, written in its transaction. `before` and `after` are records without
-- their secrets. A conversation's or a job's id may be a `record_id`; what people said is nowhere in it.
create table audit (
    platform_id text not null,
    id          bigint not null generated always as identity,
    at          timestamptz not null default clock_timestamp(),
    actor       text not null,
    action      text not null,
    kind        text not null,
    record_id   text not null,
    before      jsonb,
    after       jsonb,
    primary key (platform_id, id)
);

create index audit_by_kind on audit (platform_id, kind, id);

-- When the messages of a failed job were opened again, for another job to answer: once.
alter table jobs add column retried_at timestamptz;

-- Operators look for the newest jobs, for those that nobody was answered by, and for a conversation's.
create index jobs_by_creation on jobs (platform_id, created_at, job_id);
create index jobs_unanswered on jobs (platform_id, status, created_at, job_id) where status in ('failed', 'cancelled');
create index jobs_by_conversation on jobs (platform_id, conversation_id, created_at, job_id);
