"""How Postgres, Redis, AWS and other hosts are reached, and what their errors mean."""
