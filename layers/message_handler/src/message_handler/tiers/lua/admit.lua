-- Takes messages out of a tenant's bucket, for all processes (see ../buckets.py).
--
-- Key 1: a hash of `tokens` (what is left) and `at` (Unix seconds). It expires after a minute, when the bucket is full
-- again.
-- Argument 1: messages per minute. Argument 2: the time (Unix seconds), or empty for the server's clock. Argument 3: how
-- many to take, but no more than the bucket can hold.
-- Returns as text: '0' if they were taken, else the seconds until they are there.

local per_minute, now = tonumber(ARGV[1]), tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end

local kept = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local at = math.max(now, tonumber(kept[2]) or now)
local refilled = (at - (tonumber(kept[2]) or at)) * per_minute / 60
local tokens = math.min(per_minute, (tonumber(kept[1]) or per_minute) + refilled)
local wanted = math.min(tonumber(ARGV[3]), per_minute)
if tokens < wanted - 0.000001 then
  return tostring((wanted - tokens) * 60 / per_minute)
end
redis.call('HSET', KEYS[1], 'tokens', string.format('%.17g', tokens - wanted), 'at', string.format('%.17g', at))
redis.call('EXPIRE', KEYS[1], 61)
return '0'
