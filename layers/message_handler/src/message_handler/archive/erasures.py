"""Whether an erasure voids what was accepted at a given time (Unix seconds).

The clocks of hosts differ. So an erasure voids what was accepted up to its own time plus one margin. This sum is
`until`; it is None if nothing was erased.
"""

from __future__ import annotations

from collections.abc import Callable

from message_handler.ports.archive import ERASURE_MARGIN

Rule = Callable[[float | None, float], bool]


def is_void(until: float | None, accepted_at: float) -> bool:
    """Whether it was accepted before the erasure, or within the margin after it."""
    return until is not None and accepted_at <= until


def is_void_by_its_own_time(until: float | None, accepted_at: float) -> bool:
    """Whether it was accepted before the erasure, if both clocks agree."""
    return until is not None and accepted_at <= until - ERASURE_MARGIN


def is_void_on_any_clock(until: float | None, accepted_at: float) -> bool:
    """Whether it was certainly accepted before the erasure, however the clocks differ within the margin."""
    return until is not None and accepted_at <= until - 2 * ERASURE_MARGIN
