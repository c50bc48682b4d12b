insert into audit (platform_id, actor, action, kind, record_id, before, after)
values (:platform_id, :actor, :action, :kind, :record_id, cast(:before as jsonb), cast(:after as jsonb))
