"""How a function's environment starts in Lambda: from nothing, or from a snapshot of an earlier start (SnapStart)."""

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
    """Build a function's `parts` before its first call. The function calls this at the end of its module.

    Lambda gives a start more CPU than a call, and a snapshot contains the parts. They do not connect yet. Outside of
    Lambda nothing is built, because a process that imports a function there may lack its settings.

    A module may call `gc.disable()` before its other imports, and has the collector back afterwards. Imports make no
    garbage, so the collector would search them several times and find none. After `gc.freeze()` it never searches them.

    Environments restored from one snapshot share its state. Whatever must be unique is regenerated after a restore.
    """
    in_lambda = "AWS_LAMBDA_INITIALIZATION_TYPE" in os.environ
    if in_lambda:
        # The first call meets the same error, and can answer with it. A start that fails could not.
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
    # `random` only makes jitter. Ids and secrets come from the system's generator, which is told of the restore.
    random.seed()
    # The monotonic clock may have stood still: a connection that is long dead would look fresh.
    with suppress(Exception):  # parts that could not be built have no connections
        parts().disconnect()
