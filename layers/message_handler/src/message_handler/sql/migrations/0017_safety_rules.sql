-- How a tenant has changed the safety rules, and its own ones. Additive: code of an earlier version goes on working, with the
-- shipped rules alone.

-- `compiled` is made of the document's own rules by a release whose shipped rules have the version `compiled_for`. A later
-- release makes it anew, which is no change by an operator.
create table safety_rules (
    platform_id  text primary key references platforms on delete cascade,
    document     jsonb not null,
    compiled     text,
    compiled_for text not null,
    revision     bigint not null default floor(extract(epoch from clock_timestamp()) * 1000),
    updated_at   timestamptz not null default now()
);

create trigger next_revision before update of document on safety_rules
    for each row execute function next_revision();
