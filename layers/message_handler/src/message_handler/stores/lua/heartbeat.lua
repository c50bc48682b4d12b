-- Say that the worker lives; learn whether it still should. Reads no job: it is called often.
-- ARGV[1]  + lock_id
-- Returns  'held', 'lost' or 'cancelling'
local held = redis.call('HMGET', KEYS[1], 'lock_id', 'heartbeat_at', 'current')
if held[1] ~= input.lock_id or not held[2] or not held[3] then
  return 'lost'
end
redis.call('HSET', KEYS[1], 'heartbeat_at', now, 'due_at', now + settings.heartbeat_stale)
redis.call('ZADD', KEYS[3], now + settings.heartbeat_stale, input.member)
return cjson.decode(held[3]).status == 'cancelling' and 'cancelling' or 'held'
