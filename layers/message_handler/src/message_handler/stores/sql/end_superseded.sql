-- See migrations/0011_functions.sql.
select end_superseded(:platform_id, :conversation_id)
