-- See migrations/0011_functions.sql.
select * from take_fences(free_jobs(cast(:jobs as json), true))
