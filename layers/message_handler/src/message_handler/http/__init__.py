"""The HTTP edge: calls, callers, pages and lists."""
