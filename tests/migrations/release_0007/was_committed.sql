-- Whether this very end was committed before: the answer to the first commit may have been lost.
select exists (
    select from jobs
    where platform_id = :platform_id and job_id = cast(:job_id as uuid)
      and status = :status and fence = cast(:fence as bigint)
)
