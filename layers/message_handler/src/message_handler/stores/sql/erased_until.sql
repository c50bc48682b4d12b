-- Until when what was accepted for a conversation is void (Unix seconds, rounded up); no row if it never was erased.
select extract(epoch from erased_at)::float8 + 0.001 from erasures
where platform_id = :platform_id and name_hash = :name_hash
