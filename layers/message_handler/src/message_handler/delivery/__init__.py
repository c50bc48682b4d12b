"""Webhooks: each job's end, each edited or unsent message, and each found danger is sent to its platform."""
