-- Delete all that there is of a conversation; deliveries go with their jobs. Returns whether there was anything (a row
-- that this very transaction has made to lock it is nothing), and the ids of the jobs that a tier may still know.
with gone as (
    delete from conversations where platform_id = :platform_id and conversation_id = :conversation_id
    returning created_at <> now() as known
), said as (
    delete from turns where platform_id = :platform_id and conversation_id = :conversation_id
), settled_once as (
    delete from settled where platform_id = :platform_id and conversation_id = :conversation_id
), kept as (
    delete from held where platform_id = :platform_id and conversation_id = :conversation_id
), lines_of_the_release_before as (
    delete from lines where platform_id = :platform_id and conversation_id = :conversation_id
), ended as (
    delete from jobs where platform_id = :platform_id and conversation_id = :conversation_id
    returning cast(job_id as text) as job_id, finished_at
)
select exists (select from gone where known) or exists (select from ended),
       array(select job_id from ended where finished_at is null or finished_at > now() - interval '14 days')
