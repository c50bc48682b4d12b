-- End the jobs of a conversation that have a successor and no open message: the last one was just settled under another
-- job, so they need no run any more.
create or replace function end_superseded_v2(of_platform text, of_conversation text) returns void
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
begin
    update jobs set status = 'cancelled', finished_at = now()
    where platform_id = of_platform and conversation_id = of_conversation
      and status = 'processing'
      and superseded_by is not null
      and not is_open_v1(jobs);
end
$$;
