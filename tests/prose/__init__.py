"""Plain English, as far as it can be counted."""
