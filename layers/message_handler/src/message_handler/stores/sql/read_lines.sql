-- The fields of lines, in their order; of :names alone, if there are any.
select (select jsonb_object_agg(key, value) from jsonb_each(fields)
        where cast(:names as text[]) is null or key = any(cast(:names as text[])))
from unnest(cast(:platform_ids as text[]), cast(:conversation_ids as text[]))
     with ordinality as named(platform_id, conversation_id, number)
left join line_states on line_states.platform_id = named.platform_id
     and line_states.conversation_id = named.conversation_id
     and (expires_at is null
          or expires_at > coalesce(cast(:clock as float8), extract(epoch from clock_timestamp())))
order by number
