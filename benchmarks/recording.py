"""Record the calls of our code on a client, so that a benchmark can repeat the bare call with the same arguments."""

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
    """The calls of one method of the client. The method still makes them."""
    calls: list[Call] = []
    real = getattr(client, operation)

    def call(*arguments: Any, **named: Any) -> Any:
        calls.append(Call(arguments, named))
        return real(*arguments, **named)

    setattr(client, operation, call)
    try:
        yield calls
    finally:
        delattr(client, operation)  # so that the class's own is used again


def bare_script(client: Any, step: Callable[[], object], by: Any = None) -> Callable[[], object]:
    """A function that repeats the single script of a step over Redis with the same keys and arguments.

    `by` is the client that runs it; the default is the step's own. The step runs once, and what it wrote is deleted:
    the script finds Redis as the step did.
    """
    again = by or client
    with recorded(client, "execute_command") as calls:
        step()
    scripts = [call.arguments for call in calls if call.arguments[0] == "EVALSHA"]
    ((_, sha, count, *words),) = scripts
    client.delete(*words[: int(count)])
    return lambda: again.evalsha(sha, count, *words)
