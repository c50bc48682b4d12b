"""What is kept for good, and which messages are settled: in Postgres, in memory, or nowhere."""
