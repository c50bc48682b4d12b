-- See migrations/0011_functions.sql.
select * from take_fences(cast(:jobs as json))
