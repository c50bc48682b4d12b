-- What is kept for how long, and what was erased.

-- A conversation that was erased: whatever was accepted for it until `erased_at` is void, wherever it still is.
-- `name_hash` stands for its id (SHA-256). No run from before the erasure has a fence above `fence`.
create table erasures (
    platform_id text not null,
    name_hash   text not null,
    erased_at   timestamptz not null,
    fence       bigint not null,
    primary key (platform_id, name_hash)
);

create index erasures_by_time on erasures (erased_at);
create index audit_by_time on audit (at);

-- What is due is found without a scan.
create index conversations_by_activity on conversations (updated_at);
create index outbox_by_end on outbox (coalesce(delivered_at, give_up_at)) where status <> 'pending';
