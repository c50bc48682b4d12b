-- The log of actions in a tenant.

-- name: note_audit
-- Record an action, in the same transaction.
insert into audit (platform_id, actor, action, kind, record_id, before, after)
values (:platform_id, :actor, :action, :kind, :record_id, cast(:before as jsonb), cast(:after as jsonb))

-- name: audit
-- The entries of a tenant, newest first, older than :before_id if that is given.
select id, extract(epoch from at)::float8, actor, action, kind, record_id, before, after
from audit
where platform_id = :platform_id
  and (cast(:kind as text) is null or kind = cast(:kind as text))
  and (cast(:before_id as bigint) is null or id < cast(:before_id as bigint))
order by id desc
limit cast(:most as integer)
