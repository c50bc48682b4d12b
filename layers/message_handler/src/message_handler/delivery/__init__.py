"""How a platform is told of each job's end, and of edited and unsent messages."""
