"""What happens to a record: runs, and the rescue of ends that Postgres lacks."""
