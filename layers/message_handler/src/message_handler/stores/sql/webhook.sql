-- Where a platform is told of its replies, and what that is signed with.
select base_url, meta_data from platforms where platform_id = :platform_id and base_url <> ''
