-- Operators look at what ended lately, however long ago it began: after an outage that is hours.
create index jobs_by_end on jobs (platform_id, finished_at) where finished_at is not null;
