"""What was seen of a run: by its clients, in the functions' log, and at the end in Postgres.

Times are Unix seconds. A message's text is its id and the canary (`text_of`), so that a reply, which quotes
what it answers, tells which messages those were.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

CANARY = "c4n4ry"
ENDED = ("completed", "failed", "cancelled")
MESSAGE_ENDED = ("answered", "failed", "cancelled")

#: So long after a store has been mended a function may still do without it: its breaker, and a call on its way.
AFTERMATH_SECONDS = 3.0

#: So long after it gave a store up a function that goes on working may do without it: it asks again sooner.
_AWAY_SECONDS = 5

#: A "pair" is the whole of two faults, each of which is there by itself too.
Part = Literal["redis", "postgres", "both", "pair", "worker", "intake"]


def text_of(message_id: str) -> str:
    """What the patient says in this message. A test may add words that the simulated AI obeys."""
    return f"{message_id} {CANARY}"


@dataclass(frozen=True)
class Posted:
    """One try to hand in a message. `status` is None where nobody knows what became of it (no answer came)."""

    at: float
    until: float
    conversation: str
    message_id: str
    status: int | None
    job_id: str | None = None
    action: str | None = None
    duplicate: bool = False
    degraded: bool = False

    @property
    def accepted(self) -> bool:
        return self.status == 202

    def __str__(self) -> str:
        told = f"{self.action} {self.job_id}" if self.accepted else ""
        flags = "".join(f" {name}" for name in ("duplicate", "degraded") if getattr(self, name))
        return f"POST {self.message_id}: {self.status or 'no answer'} {told}{flags}"


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
class Told:
    """What a job said of a message that was promised it, and in which job that is so."""

    message_id: str
    status: str
    job_id: str

    @property
    def ended(self) -> bool:
        return self.status in MESSAGE_ENDED


@dataclass(frozen=True)
class Seen:
    """A job as the API showed it. `asked_for` is the message that the client asked for, if for one.

    `degraded`: the API said that it could not ask Postgres, so what it shows may be older than what it showed before.
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
        """What it tells somebody who waits for this message: how that ended; None while it waits.

        A job whose messages have all ended must have ended itself, or a client that looks at its status waits on.
        """
        told = next((told for told in self.messages if told.message_id == message_id and told.ended), None)
        lags = self.status not in ENDED and not self.asked_for and all(other.ended for other in self.messages)
        return None if lags else told

    def __str__(self) -> str:
        messages = "".join(f", {told.message_id} {told.status}" for told in self.messages)
        degraded = ", degraded" if self.degraded else ""
        return f"GET job {self.job_id}: {self.status}, superseded by {self.superseded_by}{messages}{degraded}"


@dataclass(frozen=True)
class Asked:
    """An AI call. `fence` is None if it was made without one."""

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
    """Something was broken. `until` is when all of it was as before, the functions' knowledge of it included."""

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
    """A message that needs no answer any more, in Postgres."""

    conversation: str
    message_id: str
    job_id: str
    kind: str
    at: float

    def __str__(self) -> str:
        return f"Postgres: {self.message_id} {self.kind} by job {self.job_id}"


@dataclass(frozen=True)
class TurnRow:
    """An archived turn; `position` orders a conversation's."""

    conversation: str
    position: int
    role: str
    content: str
    job_id: str | None
    at: float = 0.0

    @property
    def quotes(self) -> list[str]:
        """The ids of the messages that a reply of the simulated AI answers."""
        lines = [line.removeprefix("> ") for line in self.content.splitlines() if line.startswith("> ")]
        return [line.split()[0] for line in lines if CANARY in line]


@dataclass
class Rest:
    """How it stood at the end."""

    locked: list[str] = field(default_factory=list)  # conversations
    queued: int = 0  # records, waiting, delayed or being worked on
    dead_letters: int = 0  # without those that the run itself made


@dataclass
class History:
    """All of it. The recorder's threads append, the checker reads afterwards."""

    posted: list[Posted] = field(default_factory=list)
    cancelled: list[Cancelled] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    polled: set[str] = field(default_factory=set)  # the jobs that clients asked for until they told their messages
    asked: list[Asked] = field(default_factory=list)
    fenced_out: list[FencedOut] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    away: list[Fault] = field(default_factory=list)  # what functions found broken: those faults, or a loaded machine
    jobs: dict[str, JobRow] = field(default_factory=dict)
    settled: list[SettledRow] = field(default_factory=list)
    turns: list[TurnRow] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)  # where a patient's words were, without them
    rest: Rest = field(default_factory=Rest)
    mutex: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def only(self, prefix: str) -> History:
        """What concerns the conversations whose names begin so, and the faults."""
        jobs = {id_: job for id_, job in self.jobs.items() if job.conversation.startswith(prefix)}
        return History(
            posted=[event for event in self.posted if event.conversation.startswith(prefix)],
            cancelled=[event for event in self.cancelled if event.conversation.startswith(prefix)],
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
        """Take the AI calls, refused commits and lost stores from what the functions logged; look for leaks."""
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
        """One process's loss after the other is one."""
        for known in self.away:
            if known.part == part and known.at <= at <= known.until:
                self.away.remove(known)
                self.away.append(replace(known, until=at + _AWAY_SECONDS))
                return
        self.away.append(Fault(at - 1, at + _AWAY_SECONDS, part, "given up by functions"))


def _time(entry: dict[str, Any]) -> float:
    return datetime.strptime(entry["timestamp"], "%Y-%m-%d %H:%M:%S,%f%z").timestamp()
