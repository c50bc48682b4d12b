"""Whether an erasure voids what was accepted at a time (Unix seconds).

The clocks of hosts differ, so an erasure voids what was accepted until its own time and one margin more. `until` is
that moment; None where nothing was erased.
"""

from __future__ import annotations

from collections.abc import Callable

from message_handler.ports.archive import ERASURE_MARGIN

Rule = Callable[[float | None, float], bool]


def is_void(until: float | None, accepted_at: float) -> bool:
    """Whether it was accepted before the erasure, or within its margin."""
    return until is not None and accepted_at <= until


def is_void_by_its_own_time(until: float | None, accepted_at: float) -> bool:
    """Whether it was accepted before the erasure, by the time that it names itself."""
    return until is not None and accepted_at <= until - ERASURE_MARGIN


def is_void_on_any_clock(until: float | None, accepted_at: float) -> bool:
    """Whether it was accepted before the erasure, however much the two clocks may differ."""
    return until is not None and accepted_at <= until - 2 * ERASURE_MARGIN
