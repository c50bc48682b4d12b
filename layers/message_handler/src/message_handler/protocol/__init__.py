"""The protocol: what each step does to a conversation's line of jobs, as pure functions."""
