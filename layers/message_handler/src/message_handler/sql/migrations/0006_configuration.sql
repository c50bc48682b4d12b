-- The host that a token was stored for, with its port unless that is 443: the token is sent nowhere else.
alter table core_ai add column auth_host text;

update core_ai
set auth_host = lower(regexp_replace(
    substring(api_endpoint from '^https://([^/?#@\\[:space:]]+)(?:[/?#]|$)'), ':443$', ''))
where auth_token is not null;
