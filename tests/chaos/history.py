"""The record of a run: from its clients, from the functions' log, and at the end from Postgres.

Times are Unix seconds. An edit of a message is a version of it, with its own name (`tests/versions.py`). A version's
text is its name and the canary (`text_of`). A reply quotes the versions that it answers, and so names them.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from message_handler.domain.messages import shown_id
from tests.versions import message_of

CANARY = "c4n4ry"
#: Words that the safety rules call an emergency.
DANGER = "I can't breathe"
ENDED = ("completed", "failed", "cancelled")
MESSAGE_ENDED = ("answered", "failed", "cancelled")

#: A function may still do without a store for this long after it is mended: its breaker, and a call under way.
AFTERMATH_SECONDS = 3.0

#: A working function may do without a store for this long after it gave it up. It asks again sooner.
_AWAY_SECONDS = 5

#: A "pair" is two faults together. Each of them is recorded by itself too.
Part = Literal["redis", "postgres", "both", "pair", "worker", "intake"]


def text_of(version: str, words: str = "") -> str:
    """The text of this version, which the platform posts. The simulated AI obeys some `words`."""
    return f"{version} {CANARY} {words}".rstrip()


@dataclass(frozen=True)
class Posted:
    """One try to post a version of a message. `status` is None if no answer came: it may have been accepted."""

    at: float
    until: float
    conversation: str
    version: str
    status: int | None
    job_id: str | None = None
    action: str | None = None
    duplicate: bool = False
    edited: bool = False
    degraded: bool = False
    #: Whether the words tell of danger, and the job of the notice that the answer named.
    danger: bool = False
    notice: str | None = None

    @property
    def message_id(self) -> str:
        return message_of(self.version)

    @property
    def accepted(self) -> bool:
        return self.status == 202

    def __str__(self) -> str:
        outcome = f"{self.action} {self.job_id}" if self.accepted else ""
        flags = "".join(f" {name}" for name in ("duplicate", "edited", "degraded") if getattr(self, name))
        return f"POST {self.version}: {self.status or 'no answer'} {outcome}{flags}"


@dataclass(frozen=True)
class Cancelled:
    """One try to cancel a job."""

    at: float
    until: float
    conversation: str
    job_id: str
    status: int | None

    def __str__(self) -> str:
        return f"DELETE job {self.job_id}: {self.status or 'no answer'}"


@dataclass(frozen=True)
class Unsent:
    """One try to unsend a message."""

    at: float
    until: float
    conversation: str
    message_id: str
    status: int | None

    @property
    def confirmed(self) -> bool:
        return self.status == 200

    def __str__(self) -> str:
        return f"DELETE message {self.message_id}: {self.status or 'no answer'}"


@dataclass(frozen=True)
class Told:
    """What a promised job told of its message, and the job in which the message ended."""

    message_id: str
    status: str
    job_id: str

    @property
    def ended(self) -> bool:
        return self.status in MESSAGE_ENDED


@dataclass(frozen=True)
class Seen:
    """A job as the API showed it. `asked_for` is the message that the client asked for, if any.

    `degraded`: the API could not ask Postgres, so this may be older than what it showed before.
    """

    at: float
    conversation: str
    job_id: str
    status: str
    reply: str | None = None
    error: str | None = None
    superseded_by: str | None = None
    messages: tuple[Told, ...] = ()
    asked_for: str | None = None
    degraded: bool = False

    def says(self, message_id: str) -> Told | None:
        """What the job tells a client that waits for this message: its end, or None while a version of it waits.

        A job whose messages have all ended must have ended too: a client that looks at its status would wait on.
        """
        told = [told for told in self.messages if told.message_id == message_id]
        lags = self.status not in ENDED and not self.asked_for and all(other.ended for other in self.messages)
        return told[-1] if told and not lags and all(version.ended for version in told) else None

    def __str__(self) -> str:
        messages = "".join(f", {told.message_id} {told.status}" for told in self.messages)
        degraded = ", degraded" if self.degraded else ""
        return f"GET job {self.job_id}: {self.status}, superseded by {self.superseded_by}{messages}{degraded}"


@dataclass(frozen=True)
class Asked:
    """An AI call. `fence` is None if the run had none."""

    at: float
    job_id: str
    fence: int | None
    messages: int

    def __str__(self) -> str:
        return f"AI asked for job {self.job_id} with fence {self.fence}: {self.messages} message(s)"


@dataclass(frozen=True)
class FencedOut:
    """A commit that Postgres refused."""

    at: float
    job_id: str
    fence: int | None

    def __str__(self) -> str:
        return f"commit of job {self.job_id} with fence {self.fence} refused"


@dataclass(frozen=True)
class Fault:
    """A broken part. At `until` it was mended and the functions knew it."""

    at: float
    until: float
    part: Part
    name: str

    def __str__(self) -> str:
        return f"FAULT {self.part}: {self.name} (for {self.until - self.at:.1f} s)"


@dataclass(frozen=True)
class JobRow:
    """A job in Postgres."""

    job_id: str
    conversation: str
    status: str
    fence: int | None
    reply: str | None
    error: str | None
    superseded_by: str | None
    copy_of: str | None = None


@dataclass(frozen=True)
class SettledRow:
    """A settled version of a message in Postgres. `inner_id` is the id that Postgres knows it by."""

    conversation: str
    inner_id: str
    job_id: str
    kind: str
    at: float

    @property
    def message_id(self) -> str:
        return shown_id(self.inner_id)

    def __str__(self) -> str:
        return f"Postgres: {self.inner_id} {self.kind} by job {self.job_id}"


@dataclass(frozen=True)
class TurnRow:
    """An archived turn. A conversation's turns are ordered by `position`."""

    conversation: str
    position: int
    role: str
    content: str
    job_id: str | None
    at: float = 0.0

    @property
    def quotes(self) -> list[str]:
        """The versions of messages that a reply of the simulated AI answers."""
        lines = [line.removeprefix("> ") for line in self.content.splitlines() if line.startswith("> ")]
        return [line.split()[0] for line in lines if CANARY in line]


@dataclass
class Rest:
    """The state at the end."""

    locked: list[str] = field(default_factory=list)  # conversations
    queued: int = 0  # records: visible, delayed or hidden
    dead_letters: int = 0  # without those that the run made on purpose


@dataclass
class History:
    """The whole record of a run. Threads append to it, and the checker reads it afterwards."""

    posted: list[Posted] = field(default_factory=list)
    cancelled: list[Cancelled] = field(default_factory=list)
    unsent: list[Unsent] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    polled: set[str] = field(default_factory=set)  # the jobs that clients asked for until they told the message's end
    asked: list[Asked] = field(default_factory=list)
    fenced_out: list[FencedOut] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    away: list[Fault] = field(default_factory=list)  # stores that functions gave up: a fault, or a loaded machine
    jobs: dict[str, JobRow] = field(default_factory=dict)
    settled: list[SettledRow] = field(default_factory=list)
    turns: list[TurnRow] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)  # the places of a patient's words, without the words
    rest: Rest = field(default_factory=Rest)
    mutex: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def only(self, prefix: str) -> History:
        """The history of the conversations whose names begin with `prefix`, with all faults."""
        jobs = {id_: job for id_, job in self.jobs.items() if job.conversation.startswith(prefix)}
        return History(
            posted=[event for event in self.posted if event.conversation.startswith(prefix)],
            cancelled=[event for event in self.cancelled if event.conversation.startswith(prefix)],
            unsent=[event for event in self.unsent if event.conversation.startswith(prefix)],
            seen=[event for event in self.seen if event.conversation.startswith(prefix)],
            polled=self.polled,
            asked=[event for event in self.asked if event.job_id in jobs],
            fenced_out=[event for event in self.fenced_out if event.job_id in jobs],
            faults=self.faults,
            away=self.away,
            jobs=jobs,
            settled=[row for row in self.settled if row.conversation.startswith(prefix)],
            turns=[row for row in self.turns if row.conversation.startswith(prefix)],
            rest=Rest([name for name in self.rest.locked if name.startswith(prefix)]),
        )

    def read_log(self, log: Path) -> None:
        """Read the AI calls, refused commits and lost stores from the functions' log. Look for leaks in it."""
        with log.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if CANARY in line:
                    self.leaks.append(f"line {number} of the functions' log")
                if '"asking the AI"' in line:
                    entry = json.loads(line)
                    at, job_id = _time(entry), entry["ai_job_id"]
                    self.asked.append(Asked(at, job_id, entry.get("fence"), entry["messages"]))
                elif '"a store went away"' in line:
                    entry = json.loads(line)
                    self._gave_up(entry["store"].lower(), _time(entry))
                elif '"fenced out"' in line:
                    entry = json.loads(line)
                    self.fenced_out.append(FencedOut(_time(entry), entry["ai_job_id"], entry.get("fence")))

    def _gave_up(self, part: Part, at: float) -> None:
        """Record the loss of a store. Losses in several processes at about the same time are one."""
        for known in self.away:
            if known.part == part and known.at <= at <= known.until:
                self.away.remove(known)
                self.away.append(replace(known, until=at + _AWAY_SECONDS))
                return
        self.away.append(Fault(at - 1, at + _AWAY_SECONDS, part, "given up by functions"))


def _time(entry: dict[str, Any]) -> float:
    return datetime.strptime(entry["timestamp"], "%Y-%m-%d %H:%M:%S,%f%z").timestamp()
