-- See migrations/0010_functions.sql.
select * from take_fences(cast(:jobs as json))
