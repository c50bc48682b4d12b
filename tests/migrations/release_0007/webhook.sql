-- Where a platform is told of its replies, and what that is signed with.
select base_url, case when jsonb_typeof(meta_data) = 'object' then meta_data else '{}' end
from platforms
where platform_id = :platform_id and base_url <> ''
