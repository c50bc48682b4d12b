"""How a job's end is delivered to its platform."""
