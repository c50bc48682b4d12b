-- See migrations/0010_functions.sql.
select end_superseded(:platform_id, :conversation_id)
