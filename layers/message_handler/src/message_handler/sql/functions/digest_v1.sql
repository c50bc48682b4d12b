-- The digest that stands for a text in the id of a webhook: 32 hexadecimal digits.
create or replace function digest_v1(content text) returns text language sql immutable as $$
    select left(encode(sha256(convert_to(content, 'UTF8')), 'hex'), 32)
$$;
