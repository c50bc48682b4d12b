"""What a worker does with a record: it runs its conversation's jobs, and rescues the ends that Postgres lacks."""
