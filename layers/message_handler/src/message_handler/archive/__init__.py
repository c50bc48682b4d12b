"""The archives: what is kept for good, and which messages are settled. In Postgres, in memory, or nowhere."""
