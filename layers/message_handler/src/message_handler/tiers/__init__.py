"""The tiers: Redis, Postgres or memory coordinates a conversation, and all take the same steps over their own lines."""
