-- What platforms are still to be told: one row for each committed end of a conversation whose platform has a webhook.
-- No text is in it: the event is made of the job, which never changes once it has ended, and goes with it.

-- `sequence` is the order of commits within a conversation, because each commit holds the conversation's row.
-- `claim_id` is compared by whoever reports what became of a claim; `message_ids` are the platform's own.
create table outbox (
    platform_id     text not null,
    job_id          uuid not null,
    conversation_id text not null,
    sequence        bigint not null generated always as identity,
    webhook_id      text not null,
    message_ids     text[] not null,
    status          text not null default 'pending' check (status in ('pending', 'delivered', 'dead')),
    attempts        integer not null default 0,
    created_at      timestamptz not null,
    next_attempt_at timestamptz not null default '-infinity',
    give_up_at      timestamptz not null,
    claim_id        uuid,
    claimed_until   timestamptz,
    delivered_at    timestamptz,
    last_error      text,
    primary key (platform_id, job_id),
    unique (platform_id, webhook_id),
    foreign key (platform_id, job_id) references jobs on delete cascade
);

create index outbox_pending on outbox (platform_id, conversation_id, sequence) where status = 'pending';
create index outbox_dead on outbox (platform_id, sequence) where status = 'dead';

-- Failures in a row of a platform as such, not of one delivery: until `webhook_retry_at` nothing is sent to it, and then
-- one delivery alone, until one succeeds.
alter table platforms
    add column webhook_failures integer not null default 0,
    add column webhook_retry_at timestamptz not null default '-infinity';
