-- Whoever hands out or reports a platform's deliveries does so alone, and locks this row before any of the outbox.
-- No row is returned: what follows in the transaction returns its own.
select 1
from (select from platforms where platform_id = :platform_id for no key update) as locked
having count(*) < 0
