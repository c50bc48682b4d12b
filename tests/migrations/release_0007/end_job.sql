-- Nothing runs under this job any more.
update jobs set status = 'cancelled', finished_at = now()
where platform_id = :platform_id and job_id = cast(:job_id as uuid) and status = 'processing'
