"""Webhooks: each job's end, and each edited or unsent message, is sent to its platform."""
