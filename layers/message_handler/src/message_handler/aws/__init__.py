"""Calls of the functions by AWS itself, besides HTTP and queues."""
