-- Configuration, conversations, replies. The tenant (platform_id) is part of every primary key.

create table platforms (
    platform_id   text primary key,
    name          text not null,
    description   text not null default '',
    base_url      text,
    auth_required boolean not null default false,
    meta_data     jsonb not null default '{}',
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now()
);

create table core_ai (
    platform_id     text not null references platforms,
    core_ai_id      text not null,
    name            text not null,
    api_endpoint    text not null default 'simulated://',
    auth_required   boolean not null default false,
    auth_token      text,
    timeout_seconds integer not null default 30 check (timeout_seconds between 1 and 120),
    meta_data       jsonb not null default '{}',
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    primary key (platform_id, core_ai_id)
);

create table bots (
    platform_id text not null references platforms,
    bot_id      text not null check (bot_id ~ '^[A-Za-z0-9._:@-]{1,255}$'),
    name        text not null,
    description text not null default '',
    language    text not null default 'vi',
    is_active   boolean not null default true,
    core_ai_id  text,
    meta_data   jsonb not null default '{}',
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),
    primary key (platform_id, bot_id),
    foreign key (platform_id, core_ai_id) references core_ai
);

insert into platforms (platform_id, name) values ('default', 'Default platform');

-- `fence` goes up whenever a run starts or is shut out: only the newest may commit. `turn_count` numbers the turns.
create table conversations (
    platform_id     text not null,
    conversation_id text not null,
    bot_id          text not null,
    fence           bigint not null default 0,
    turn_count      bigint not null default 0,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    primary key (platform_id, conversation_id)
);

create table jobs (
    platform_id     text not null,
    job_id          uuid not null,
    conversation_id text not null,
    bot_id          text not null,
    status          text not null check (status in ('processing', 'completed', 'failed', 'cancelled')),
    fence           bigint,
    message_ids     text[] not null,
    restarts        integer not null default 0,
    attempts        integer not null default 0,
    reply           text,
    error_code      text,
    error_message   text,
    superseded_by   uuid,
    created_at      timestamptz not null,
    started_at      timestamptz,
    finished_at     timestamptz,
    primary key (platform_id, job_id)
);

-- One row a message that needs no answer any more: the only truth about that.
create table settled (
    platform_id     text not null,
    conversation_id text not null,
    message_id      text not null,
    job_id          uuid not null,
    kind            text not null check (kind in ('answered', 'failed', 'cancelled')),
    settled_at      timestamptz not null default now(),
    primary key (platform_id, conversation_id, message_id)
);

create table turns (
    platform_id     text not null,
    conversation_id text not null,
    position        bigint not null,
    role            text not null check (role in ('user', 'assistant', 'sale')),
    content         text not null,
    message_id      text,
    job_id          uuid,
    created_at      timestamptz not null,
    primary key (platform_id, conversation_id, position)
);
