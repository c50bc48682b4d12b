-- Archived SALE turns that may be those of a request.
select message_id, content from turns
where platform_id = :platform_id and conversation_id = :conversation_id and role = 'sale'
  and (message_id = any(cast(:turn_ids as text[])) or content = any(cast(:contents as text[])))
