-- Say that the worker lives, and how far it is; learn what look.lua tells.
-- ARGV[1]  + lock_id, seen (see look.lua), progress (JSON that is passed on unread; absent: none)
-- Returns  'held', 'lost', 'cancelling' or 'newer'
local held = look(input.lock_id, input.seen)
if held ~= 'lost' then
  redis.call('HSET', KEYS[1], 'heartbeat_at', now, 'due_at', now + settings.heartbeat_stale)
  redis.call('ZADD', KEYS[3], now + settings.heartbeat_stale, input.member)
  if input.progress then
    redis.call('HSET', KEYS[1], 'progress', input.progress)
  else
    redis.call('HDEL', KEYS[1], 'progress')
  end
end
return held
