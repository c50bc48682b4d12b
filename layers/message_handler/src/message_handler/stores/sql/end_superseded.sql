-- End those jobs of the conversations that lead to another one, and wait for a run that nobody needs any more: the last of
-- their messages has just been settled under another name.
update jobs set status = 'cancelled', finished_at = now()
where (platform_id, conversation_id) in (
      select * from unnest(cast(:platform_ids as text[]), cast(:conversation_ids as text[])))
  and status = 'processing'
  and superseded_by is not null
  and not exists (
      select from unnest(jobs.message_ids) as noted(message_id)
      where not exists (
          select from settled
          where settled.platform_id = jobs.platform_id and settled.conversation_id = jobs.conversation_id
            and settled.message_id = noted.message_id))
