-- Whoever changes a tenant's configuration is alone with it; who only refers to the platform isn't held up.
select platform_id from platforms where platform_id = :platform_id for no key update
