-- Takes one message out of a tenant's bucket, for all processes (see ../buckets.py).
--
-- Key 1: a hash of `tokens` (what is left) and `at` (Unix seconds). It expires after a minute, when the bucket is full
-- again.
-- Argument 1: messages per minute. Argument 2: the time (Unix seconds), or empty for the server's clock.
-- Returns as text: '0' if a message was taken, else the seconds until there is one to take.

local per_minute, now = tonumber(ARGV[1]), tonumber(ARGV[2])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end

local kept = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local at = math.max(now, tonumber(kept[2]) or now)
local refilled = (at - (tonumber(kept[2]) or at)) * per_minute / 60
local tokens = math.min(per_minute, (tonumber(kept[1]) or per_minute) + refilled)
if tokens < 0.999999 then
  return tostring((1 - tokens) * 60 / per_minute)
end
redis.call('HSET', KEYS[1], 'tokens', string.format('%.17g', tokens - 1), 'at', string.format('%.17g', at))
redis.call('EXPIRE', KEYS[1], 61)
return '0'
