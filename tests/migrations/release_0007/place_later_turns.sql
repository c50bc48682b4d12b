-- Behind the turns that are to be archived before them.
update turns set position = -position + cardinality(cast(:roles as text[]))
where platform_id = :platform_id and conversation_id = :conversation_id and position < 0
