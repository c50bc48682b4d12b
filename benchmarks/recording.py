"""What our code asks of a client, so that the bare call can be made again with the same words."""

from __future__ import annotations

from collections.abc import Iterator
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
