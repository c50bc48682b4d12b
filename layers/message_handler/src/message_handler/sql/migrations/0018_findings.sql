-- Danger that the rules have found in a message which a worker has answered, or failed to answer: the strongest match in it.
-- `place` has the start and the end of each matched word in the message's newest text. No words of the patient are in it.
create table findings (
    platform_id     text not null,
    conversation_id text not null,
    job_id          uuid not null,
    message_id      text not null,
    level           text not null,
    rule            text not null,
    rules_version   text not null,
    place           jsonb not null,
    found_at        timestamptz not null,
    primary key (platform_id, conversation_id, job_id, message_id),
    foreign key (platform_id, conversation_id) references conversations on delete cascade
);

create index findings_urgent on findings (platform_id, found_at) where level = 'urgent';
