-- The rows of a job and its chain of successors. The chain may end with a mere name, which has no row.
create or replace function chain_of_v1(of_platform text, of_job uuid)
returns table (job_id uuid, superseded_by uuid, copy_of uuid) language sql stable as $$
    with recursive chain as (
        select jobs.job_id, jobs.superseded_by, jobs.copy_of
        from jobs
        where jobs.platform_id = of_platform and jobs.job_id = of_job
        union
        select jobs.job_id, jobs.superseded_by, jobs.copy_of
        from jobs join chain on jobs.job_id = chain.superseded_by
        where jobs.platform_id = of_platform
    )
    select chain.job_id, chain.superseded_by, chain.copy_of from chain
$$;
