-- What platforms are told of messages beside their answers: a patient has edited one, or has unsent one. A row has all that its
-- event says, so each try says the same. No text is in it.
--
-- The previous release reads the outbox alone. So it takes no such row for the end of a job, and this release delivers them.
alter table outbox add column kind text not null default 'ended';

-- All deliveries. This table has no rows of its own: the ends of jobs are in `outbox`, the others in `message_events`.
create table deliveries (
    platform_id     text not null,
    kind            text not null,
    job_id          uuid not null,
    conversation_id text not null,
    sequence        bigint not null,
    webhook_id      text not null,
    message_ids     text[] not null,
    status          text not null,
    attempts        integer not null,
    created_at      timestamptz not null,
    next_attempt_at timestamptz not null,
    give_up_at      timestamptz not null,
    claim_id        uuid,
    claimed_until   timestamptz,
    delivered_at    timestamptz,
    last_error      text
);

alter table outbox inherit deliveries;

-- `sequence` comes from the outbox's own numbers. So there is one order of all deliveries of a conversation. The job may have no
-- row: its first run may come after its message was unsent.
create table message_events (
    kind            text not null check (kind in ('edited', 'unsent')),
    sequence        bigint not null default nextval('outbox_sequence_seq'),
    status          text not null default 'pending' check (status in ('pending', 'delivered', 'dead')),
    attempts        integer not null default 0,
    next_attempt_at timestamptz not null default '-infinity',
    bot_id          text not null,
    correlation_id  text not null,
    happened_at     timestamptz not null,
    primary key (platform_id, webhook_id),
    foreign key (platform_id, conversation_id) references conversations on delete cascade
) inherits (deliveries);

create index message_events_pending on message_events (platform_id, conversation_id, sequence) where status = 'pending';
create index message_events_dead on message_events (platform_id, sequence) where status = 'dead';
create index message_events_claimed on message_events (platform_id, claimed_until) where claimed_until is not null;
create index message_events_by_end on message_events (coalesce(delivered_at, give_up_at)) where status <> 'pending';
create index message_events_by_conversation on message_events (platform_id, conversation_id);
