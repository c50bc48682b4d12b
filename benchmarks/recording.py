"""What our code asks of a client, so that the bare call can be made again with the same words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Call:
    arguments: tuple[Any, ...]
    named: dict[str, Any]


@contextmanager
def recorded(client: Any, operation: str) -> Iterator[list[Call]]:
    """The calls of one of the client's methods, which are made all the same."""
    calls: list[Call] = []
    real = getattr(client, operation)

    def call(*arguments: Any, **named: Any) -> Any:
        calls.append(Call(arguments, named))
        return real(*arguments, **named)

    setattr(client, operation, call)
    try:
        yield calls
    finally:
        delattr(client, operation)  # the class's own is left


def bare_script(client: Any, step: Callable[[], object], by: Any = None) -> Callable[[], object]:
    """The one script that a step over Redis runs, to be run again with the same keys and arguments `by` some client, or
    by the same.

    The step is done, and what it wrote is deleted: to the script all will be as it was for the step.
    """
    again = by or client
    with recorded(client, "execute_command") as calls:
        step()
    scripts = [call.arguments for call in calls if call.arguments[0] == "EVALSHA"]
    ((_, sha, count, *words),) = scripts
    client.delete(*words[: int(count)])
    return lambda: again.evalsha(sha, count, *words)
