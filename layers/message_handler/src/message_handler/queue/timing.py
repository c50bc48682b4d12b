"""How often a record is received, how long it is hidden, and when it comes back."""

from __future__ import annotations

#: A record is given up after it was received this often without success. The template's redrive policy has this number.
MAX_RECEIVE_COUNT = 5
#: Seconds until an unfinished record is received again, by how often it was received before. They grow, so that the few
#: receives outlast an outage.
RETRY_SECONDS = (10.0, 20.0, 60.0, 240.0, 720.0)
#: The hiding time: how long a worker that receives records hides them from other workers.
HIDING_SECONDS = 10.0
#: How often a living worker renews the hiding time.
EXTEND_SECONDS = 2.0
#: From this receive on, a record is worked on alone: it may be the one that kills its workers.
ALONE_FROM = 3
#: A worker itself waits up to this time for a patient who may still be typing: SQS delays by whole seconds only.
PATIENCE_SECONDS = 5.0
#: How long a dead letter that a sweep has received is hidden from the next sweep.
DEAD_LETTER_SECONDS = 50


def retry_delay(receive_count: int) -> float:
    """Seconds until an unfinished record that was received this often is received again."""
    return RETRY_SECONDS[min(receive_count, len(RETRY_SECONDS)) - 1]
