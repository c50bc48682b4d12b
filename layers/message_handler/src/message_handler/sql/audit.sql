-- What was done in a tenant.

-- name: note_audit
-- Note what was done, in the transaction of what is done.
insert into audit (platform_id, actor, action, kind, record_id, before, after)
values (:platform_id, :actor, :action, :kind, :record_id, cast(:before as jsonb), cast(:after as jsonb))

-- name: audit
-- What was done in a tenant, the newest first, from before an entry on.
select id, extract(epoch from at)::float8, actor, action, kind, record_id, before, after
from audit
where platform_id = :platform_id
  and (cast(:kind as text) is null or kind = cast(:kind as text))
  and (cast(:before_id as bigint) is null or id < cast(:before_id as bigint))
order by id desc
limit cast(:most as integer)
