-- See migrations/0011_functions.sql.
select * from commit_jobs(free_jobs(cast(:jobs as json), false))
