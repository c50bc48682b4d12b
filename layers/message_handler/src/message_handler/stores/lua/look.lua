-- Learn whether the worker should go on; changes nothing, and is called often.
-- ARGV[1]  + lock_id, seen (how many messages its run has; absent: it does not ask for newer ones)
-- Returns  'held', 'lost', 'cancelling' or 'newer'
return look(input.lock_id, input.seen)
