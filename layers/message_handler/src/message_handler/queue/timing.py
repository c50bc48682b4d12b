"""How long a record is hidden, how often it is tried, and when it comes back."""

from __future__ import annotations

#: After so many failed deliveries a record is given up, as the template's redrive policy has it.
MAX_RECEIVE_COUNT = 5
#: Seconds until a record that was not finished is tried again, by how often it was received: its few deliveries should
#: outlast what stands in its way.
RETRY_SECONDS = (10.0, 20.0, 60.0, 240.0, 720.0)
#: For so many seconds at a time a living worker hides its records from others, and how often it does so anew.
HIDING_SECONDS = 10.0
EXTEND_SECONDS = 2.0
#: From this delivery on a record is worked on alone: it may be what kills its workers.
ALONE_FROM = 3
#: A worker waits for a patient who may still be typing if it takes no longer than this: SQS counts whole seconds.
PATIENCE_SECONDS = 5.0
#: For so long a dead letter that was looked at is hidden from the next sweep.
DEAD_LETTER_SECONDS = 50


def retry_delay(receive_count: int) -> float:
    """Seconds until a record that was received so often, and not finished, is tried again."""
    return RETRY_SECONDS[min(receive_count, len(RETRY_SECONDS)) - 1]
