"""Where conversations are coordinated (tiers) and where replies are arbitrated and kept (archives).

`port.py` is what the parts know; `redis.py` and `memory.py` are tiers, `postgres.py` and `memory.py`
archives. The contract tests in `tests/contract/` run over every one of them.
"""
