-- See migrations/0010_functions.sql.
select * from commit_jobs(free_jobs(cast(:jobs as json), false))
