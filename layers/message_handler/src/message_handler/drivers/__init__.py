"""Connections to Postgres, Redis, AWS and other hosts, and what their errors mean."""
