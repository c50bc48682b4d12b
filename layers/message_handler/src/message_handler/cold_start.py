"""How a function's environment starts in Lambda: from nothing, or from a snapshot of an earlier one (SnapStart)."""

from __future__ import annotations

import gc
import os
import random
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from message_handler.wiring import IntakeParts


def prepare(parts: Callable[[], IntakeParts]) -> None:
    """Build a function's `parts`, which it keeps, before its first call; call this at the end of its module.

    Lambda gives a start more CPU than a call of it, and a snapshot has what was built before it was taken. Nothing is
    connected to. Outside of Lambda nothing is built: whoever imports a function there need not have its settings.

    A module that does `gc.disable()` before its other imports has the collector back afterwards: it would look several
    times through what is imported, of which nothing is garbage, and now it never will.

    Of what a snapshot holds, every environment that is restored from it has the same: those renew what must not be.
    """
    in_lambda = "AWS_LAMBDA_INITIALIZATION_TYPE" in os.environ
    if in_lambda:
        # Whatever is wrong, the first call finds it again, and answers with it; a start that fails says nothing.
        with suppress(Exception):
            parts()
    gc.freeze()
    gc.enable()
    if not in_lambda:
        return
    try:
        from snapshot_restore_py import register_after_restore
    except ImportError:  # a runtime without snapshots
        return
    register_after_restore(_renew, parts)


def _renew(parts: Callable[[], IntakeParts]) -> None:
    # Of jitter alone: what nobody may guess or have twice comes from the system, which is told of the restore.
    random.seed()
    # By the monotonic clock, which may have stood still, a connection that is long dead is a fresh one.
    with suppress(Exception):  # what could not be built has no connections
        parts().disconnect()
