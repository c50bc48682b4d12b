-- The index of ends that were decided while the archive could not be written: `lacking` is the conversation of such a job.
alter table ended_jobs add column lacking text;

create index ended_jobs_lacking on ended_jobs (platform_id, expires_at) where lacking is not null;
