-- A conversation's line, the server's time, and whether a job of this name has ended in this tier.
select extract(epoch from clock_timestamp())::float8, cast(lines.version as text), lines.document, lines.expires_at,
       (select max(ended_jobs.expires_at) from ended_jobs
        where ended_jobs.platform_id = :platform_id and job_id = cast(:job_id as uuid))
from (values (1)) as always
left join lines on lines.platform_id = :platform_id and lines.conversation_id = :conversation_id
