-- See migrations/0010_functions.sql.
select * from take_fences(free_jobs(cast(:jobs as json), true))
