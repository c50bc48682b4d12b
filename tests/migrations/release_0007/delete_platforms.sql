delete from platforms where platform_id = :platform_id and platform_id = :id
