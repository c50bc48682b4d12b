"""The intake function, warm: from the gateway's event to its response, beside the two calls that it must make."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any

from benchmarks.clients import without_server
from benchmarks.figure import Figure, Round, Target, alternating
from benchmarks.functions import Context, post, variables, warm
from benchmarks.recording import bare_script, recorded
from benchmarks.stores import Stores

CONTEXT = Context("IntakeFunction")


def accepting(stores: Stores, *, stand_in: bool = True) -> Iterator[Round]:
    times = 20 if stores.quick else 50
    with warm(variables(stores, "intake"), "intake") as app:
        names = (f"conversation-{stand_in}-{number:07}" for number in itertools.count())
        redis, sqs = app.parts().tiers.tiers[0].store.client, app.parts().queue._client
        if not stand_in:
            without_server(sqs)
        while True:
            events = iter([post(next(names)) for _ in range(times)])
            floors = iter([_floor(app, redis, sqs, next(names)) for _ in range(times)])
            yield alternating(
                lambda events=events: _accepted(app, next(events)),  # type: ignore[misc]
                lambda floors=floors: next(floors)(),  # type: ignore[misc]
                times,
                scale=1e3,
            )


def _accepted(app: ModuleType, event: dict[str, Any]) -> None:
    assert app.handler(event, CONTEXT)["statusCode"] == 202


def _floor(app: ModuleType, redis: Any, sqs: Any, name: str) -> Callable[[], None]:
    """The two calls that accept a message of this conversation, as a function without arguments."""
    with recorded(sqs, "send_message") as sent:
        script = bare_script(redis, lambda: _accepted(app, post(name)))
    (message,) = sent

    def floor() -> None:
        script()
        sqs.send_message(**message.named)

    return floor


FIGURES = (
    Figure(
        "intake",
        "intake, warm / its floors",
        "the intake function's handler, from event to response, with Redis, Postgres and SQS in processes of their own",
        "its one EVALSHA and its one send_message, with the same arguments on the same clients",
        Target("≤", 1.5),
        accepting,
        unit="ms",
        seconds=12,
    ),
    Figure(
        "intake-alone",
        "the same without the stand-in of SQS",
        "the same, but the SQS client has its answers from within the process",
        "the same: what the stand-in takes, most of the floor above, is in neither",
        None,
        partial(accepting, stand_in=False),
        unit="ms",
        seconds=6,
    ),
)
