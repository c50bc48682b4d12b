-- Out of the way, what was archived already but was said after :finished_at: `place_later_turns` puts it back.
-- (In two steps, because a position is unique at every moment.)
update turns set position = -position
where platform_id = :platform_id and conversation_id = :conversation_id
  and position >= (
      select min(position) from turns
      where platform_id = :platform_id and conversation_id = :conversation_id
        and created_at > to_timestamp(cast(:finished_at as float8)))
