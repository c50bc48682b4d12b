-- See migrations/0012_line_states.sql.
select * from save_lines(cast(:saves as json))
