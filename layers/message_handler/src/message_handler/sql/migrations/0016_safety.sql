-- A job is a `reply` to messages, or a safety `notice` to the patient. A notice has no messages and settles none.
alter table jobs add column kind text not null default 'reply';

-- Danger that the rules have found in a conversation: one row for each conversation, level and hour. Its job is the notice.
-- `message_ids` are the platform's own. No words of the patient are in it. `delivered_at` is when the platform first answered the
-- webhook. `taken_by` cares for the patient since `taken_at`, and `closed_by` has said why that is over. While no
-- person takes it, the platform gets `reminders`.
create table raised (
    platform_id     text not null,
    conversation_id text not null,
    job_id          uuid not null,
    level           text not null,
    rule            text not null,
    rules_version   text not null,
    message_ids     text[] not null,
    raised_at       timestamptz not null,
    drill           boolean not null,
    delivered_at         timestamptz,
    taken_by        text,
    taken_at        timestamptz,
    closed_by       text,
    closed_at       timestamptz,
    closed_why      text,
    reminders       integer not null default 0,
    reminded_at     timestamptz,
    primary key (platform_id, job_id),
    foreign key (platform_id, conversation_id) references conversations on delete cascade
);

create index raised_by_time on raised (platform_id, raised_at, job_id);
create index raised_untaken on raised (raised_at) where taken_by is null and closed_by is null;
create index raised_by_conversation on raised (platform_id, conversation_id);

-- A platform is told of it, ahead of all else that waits for delivery. `reminder` is 1 and more if it was told before.
alter table message_events
    add column reminder integer not null default 0,
    drop constraint message_events_kind_check,
    add constraint message_events_kind_check check (kind in ('edited', 'unsent', 'raised'));
create index message_events_raised on message_events (platform_id, conversation_id, sequence)
    where status = 'pending' and kind = 'raised';
