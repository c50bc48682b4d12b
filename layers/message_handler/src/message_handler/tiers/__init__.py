"""Who coordinates a conversation: the tier port over lines in Redis, Postgres or memory."""
