-- A human answers: the bot is silent, and what patients say meanwhile is held until it is handed back.

-- `handoffs` counts how often: what was handed back is deleted only if nobody has handed off again meanwhile.
alter table conversations
    add column handed_off boolean not null default false,
    add column handoffs   bigint not null default 0;

-- `number` is the order. `job_id`: the job that the message had been promised. `context` and `resources` (JSON) are what
-- a job for it needs. `answered_by` is set for what a human has answered, which waits for nothing: a tier may have it under
-- another id.
create table held (
    platform_id     text not null,
    conversation_id text not null,
    message_id      text not null,
    number          bigint generated always as identity,
    content         text not null,
    given           boolean not null,
    aliases         text[] not null,
    context         text not null,
    resources       text not null,
    job_id          uuid,
    answered_by     uuid,
    held_at         timestamptz not null default now(),
    primary key (platform_id, conversation_id, message_id)
);
