"""What operators and the schedule do: sweep, hand off, retry, redrive, export, erase, purge, and show the health."""
