-- Take one message out of a tenant's bucket (see ../buckets.py), over all processes.
--
-- KEYS[1]  hash: tokens (what is left) and at (Unix seconds); gone after a minute, when the bucket would be full again
-- ARGV[1]  messages per minute          ARGV[2]  now (Unix seconds; empty: the server's clock)
-- Returns  the seconds until there is one to take, as text; 0 if one was taken

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
