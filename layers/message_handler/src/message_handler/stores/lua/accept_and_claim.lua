-- What a record says is accepted again, then its conversation's head is taken: both steps in one, for nothing that comes in
-- between would change either. What stands for the two scripts is replaced by them.
-- KEYS[4], KEYS[5] and ARGV[1] are those of accept, as a worker calls it, and of claim.
-- Returns  what claim returns
local function accept_again()
  ACCEPT
end
local lock_id = input.lock_id
input.lock_id = nil
local accepted = accept_again()
if type(accepted) == 'table' then
  return accepted  -- an error
end
input.lock_id = lock_id
CLAIM
