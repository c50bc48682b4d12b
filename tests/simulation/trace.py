"""A run for people to read: each step with its actor, its call and the result."""

from __future__ import annotations

from typing import Any

from message_handler.ai.port import Prompt
from message_handler.domain.jobs import Job
from message_handler.domain.messages import Message, Request, is_edit
from message_handler.domain.records import ArchiveRecord, Record
from message_handler.ports.archive import Committed, Fence, Unsent, Verdict
from message_handler.ports.line_store import Saved, Snapshot
from message_handler.protocol.results import AcceptAgain, Accepted, Claim, ClaimRefused, Finished, Sealed
from tests.simulation.simulation import Simulation


class Names:
    """Short names for ids in the order of their appearance: J1, J2, … and L1, L2, …"""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._numbers = {"J": 0, "L": 0}

    def of(self, id_: str, kind: str) -> str:
        if id_ not in self._names:
            self._numbers[kind] += 1
            self._names[id_] = f"{kind}{self._numbers[kind]}"
        return self._names[id_]


def written(simulation: Simulation, *, newest: int = 400) -> str:
    """The run's steps, one a line. Long lines are cut in the middle."""
    names = Names()
    lines = []
    for at, actor, what, arguments, outcome in simulation.trace:
        if what.endswith(".sweep") and outcome == []:
            continue
        said = ", ".join(part for part in (_said(value, names) for value in arguments) if part)
        answer = "" if outcome is None else f" → {_said(outcome, names)}"
        lines.append(f"{at - simulation.began:9.2f}  {actor:<14} {what}{f'({said})' if said else ''}{answer}")
    if len(lines) > 2 * newest:
        lines = [*lines[:newest], f"… {len(lines) - 2 * newest} steps …", *lines[-newest:]]
    return "\n".join(lines)


def _said(value: Any, names: Names) -> str:
    match value:
        case Job():
            flags = [flag for flag in ("sealed", "maybe_committed", "unarchived") if getattr(value, flag)]
            successor = [f"⇒ {names.of(value.superseded_by, 'J')}"] if value.superseded_by else []
            return " ".join([f"{names.of(value.job_id, 'J')}{_ids(value.messages)}", value.status, *flags, *successor])
        case Record():
            return f"record of {_id(value.message_id)} for {names.of(value.job_id, 'J')}{_ids(value.request.messages)}"
        case ArchiveRecord():
            return f"archive record of {_said(value.job, names)}"
        case Request():
            return _ids(value.messages)
        case AcceptAgain():
            return f"again {_ids(value.request.messages)} for {names.of(value.job_id, 'J')}"
        case Committed():
            return "committed"
        case Accepted():
            kind = "created" if value.lock_id else "known" if value.duplicate else "joined"
            return f"{kind} {names.of(value.job_id, 'J')}, pending {_ids(value.pending)}"
        case Claim():
            return f"claim {names.of(value.lock_id, 'L')} on {_said(value.job, names)}"
        case ClaimRefused():
            return f"refused for {value.wait:g} s"
        case Fence():
            waiting = f", waiting {_ids(value.waiting)}" if value.waiting else ""
            rest = f", rest under {names.of(value.successor_id, 'J')}" if value.successor_id else ""
            ended = f", ended {_said(value.ended, names)}" if value.ended else ""
            settled = f", settled {' '.join(map(_id, value.settled))}" if value.settled else ""
            return f"fence {value.number}{settled}{ended}{rest}{waiting}"
        case Sealed():
            return f"{value.verdict} {_said(value.job, names)}" if value.job else value.verdict
        case Saved():
            return "saved"
        case Snapshot():
            return "met another"
        case Finished():
            return f"{'done' if value.done else 'not done'}{', next waits' if value.waiting else ''}"
        case Unsent():
            return f"{value.outcome} {' '.join(map(_id, value.message_ids))}"
        case Verdict():
            return f"{'cancelled' if value.cancelled else 'nothing to cancel'}, {_said(value.job, names)}"
        case Message():
            return _id(value.message_id)
        case Prompt():
            return _ids(value.messages)
        case BaseException():
            return f"{type(value).__name__}: {value}"
        case str() if len(value) == 36 and value[14] == "8":
            return names.of(value, "J")
        case str() if len(value) == 36:
            return names.of(value, "L")
        case str() if value.startswith("{"):
            return "a document"
        case list() | tuple() | set() | frozenset() | dict():
            return f"[{' '.join(_said(item, names) for item in value)}]"
        case None:
            return "nothing"
        case str() if is_edit(value):
            return _id(value)
        case _:
            return "" if hasattr(value, "conversation_id") or callable(value) else str(value)


def _ids(messages: tuple[Message, ...]) -> str:
    return "{" + " ".join(_id(message.message_id) for message in messages) + "}"


def _id(message_id: str) -> str:
    """A message's id; an edit's with the beginning of its digest."""
    base, edit, digest = message_id.partition(" edit ")
    return f"{base}{edit and '~'}{digest[:3]}"
