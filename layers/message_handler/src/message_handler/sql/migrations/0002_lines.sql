-- The tier that takes over while Redis is away: what waits for answers, one row a conversation. It may forget all.

-- `document` is the line (stores/line_documents.py); the columns beside it are what statements look for in it.
-- `version` is written anew by every step, and compared by the next one: no lock is ever held between two statements.
-- Times are Unix seconds. A line without jobs has an `expires_at` and a line with jobs hasn't: it ends when it is
-- answered. No index holds a time that a heartbeat moves, and each page keeps room: such an update stays on its page.
create table lines (
    platform_id     text not null,
    conversation_id text not null,
    version         uuid not null,
    document        text not null,
    current_id      uuid,
    next_id         uuid,
    message_ids     text[] not null,
    due_at          float8 not null,
    acquired_at     float8 not null,
    heartbeat_at    float8,
    expires_at      float8,
    primary key (platform_id, conversation_id)
) with (fillfactor = 60);

create index lines_by_current on lines (current_id) where current_id is not null;
create index lines_by_next on lines (next_id) where next_id is not null;
create index lines_by_end on lines (expires_at) where expires_at is not null;

-- Jobs that ended in this tier, as their readers find them for an hour.
create table ended_jobs (
    platform_id text not null,
    job_id      uuid not null,
    document    text not null,
    expires_at  float8 not null,
    primary key (job_id, platform_id)
);

create index ended_jobs_by_end on ended_jobs (expires_at);

-- A chain of successors that can't lead to a job, because that job's own chain leads into it, leads to a copy of it.
alter table jobs add column copy_of uuid;

create index jobs_that_wait on jobs (platform_id, conversation_id) where status = 'processing';
