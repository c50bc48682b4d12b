-- The conversation whose delivery was the last to fail in a way that may be its own fault or its platform's: only when
-- another one's fails too, with no success in between, has the platform as such failed.
alter table platforms add column webhook_suspect text;

-- How many deliveries of a platform are being made is counted at each claim.
create index outbox_claimed on outbox (platform_id, claimed_until) where claimed_until is not null;
