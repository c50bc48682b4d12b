"""The Postgres tier: it takes over while Redis is away. The steps are those of `steps.py`, on a row per conversation.

    read the line ── take the step on it ── write it, if its version is still the one that was read
          ▲                                            │ another step came in between
          └────────────────────────────────────────────┘

Two statements, and no lock between them: a process that is stopped in the middle of a step stops nobody else, a
connection that dies there leaves all or nothing, and no session state pins a proxy's connection. Each write leaves a
token of its own in `version`, so that a write whose answer was lost is known for one's own when it is repeated.
Times come from the server's clock.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from message_handler.errors import Unavailable
from message_handler.models import (
    Accepted,
    Claim,
    ConversationKey,
    Job,
    Lock,
    Progress,
    Refused,
    Request,
    shard_of_job,
)
from message_handler.settings import Settings
from message_handler.stores import accepting, steps
from message_handler.stores.buckets import Buckets
from message_handler.stores.database import Database
from message_handler.stores.documents import as_text, job_from_json, job_to_json
from message_handler.stores.line import Line
from message_handler.stores.line_documents import line_from_text, line_to_text
from message_handler.stores.port import Again, Finished, Held, Sealed, TierName

#: Of any number of steps at once one succeeds: nobody needs as many tries as there are others, unless these are many.
MAX_TRIES = 100


@dataclass(frozen=True, slots=True)
class _Row:
    """A conversation's row as it was read at `now`. `taken`: the job asked for has ended here."""

    now: float
    line: Line
    version: str | None
    expires_at: float | None
    taken: bool


class PostgresTier:
    """Lines in rows. `clock`: None for the server's, or the test's own (Unix seconds)."""

    name: TierName = "postgres"

    def __init__(self, database: Database, settings: Settings, clock: Callable[[], float] | None = None) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self._buckets = Buckets(clock or time.time)

    def ping(self) -> None:
        self._database.ping()

    def close(self) -> None:
        self._database.close()

    def accept(self, request: Request, *, job_id: str, lock_id: str) -> Accepted:
        def step(row: _Row) -> Accepted:
            return accepting.accept(
                row.line, request, job_id=job_id, lock_id=lock_id, now=row.now, settings=self._settings
            )

        return self._step(request.key, step, ended=lambda accepted: accepted.interrupted)

    def accept_again(self, request: Request, *, job_id: str, spare_id: str) -> None:
        again = Again(request, job_id, spare_id)
        self._step(request.key, lambda row: self._accept_again(row, again), job_id=job_id)

    def _accept_again(self, row: _Row, again: Again) -> None:
        taken = row.taken or any(job.job_id == again.job_id for job in row.line.jobs())
        name = again.spare_id if taken else again.job_id
        accepting.accept(row.line, again.request, job_id=name, lock_id=None, now=row.now, settings=self._settings)

    def undo(self, key: ConversationKey, message_ids: Iterable[str]) -> None:
        posted = tuple(message_ids)
        self._step(key, lambda row: accepting.undo(row.line, posted))

    def claim(self, key: ConversationKey, lock_id: str, again: Again | None = None) -> Claim | Refused | None:
        def step(row: _Row) -> Claim | Refused | None:
            if again:
                self._accept_again(row, again)
            return steps.claim(row.line, lock_id, now=row.now, settings=self._settings)

        return self._step(key, step, job_id=again.job_id if again else None)

    def adopt(self, key: ConversationKey, lock_id: str, settled_ids: Iterable[str], ended: Job | None) -> Job | None:
        settled, successor_id = tuple(settled_ids), ended.superseded_by if ended else None
        return self._step(
            key, lambda row: steps.adopt(row.line, lock_id, settled, successor_id, now=row.now), ended=lambda _: ended
        )

    def heartbeat(
        self, key: ConversationKey, lock_id: str, progress: Progress | None = None, *, seen: int | None = None
    ) -> Held:
        def step(row: _Row) -> Held:
            return steps.heartbeat(row.line, lock_id, progress, seen=seen, now=row.now, settings=self._settings)

        return self._step(key, step)

    def look(self, key: ConversationKey, lock_id: str, *, seen: int | None = None) -> Held:
        return steps.look(self._load(key).line, lock_id, seen)

    def seal(
        self,
        key: ConversationKey,
        lock_id: str,
        answered: Iterable[str],
        *,
        next_id: str,
        fenced: bool,
        may_restart: bool = True,
        may_seal: bool = True,
    ) -> Sealed:
        seen = tuple(answered)

        def step(row: _Row) -> Sealed:
            return steps.seal(
                row.line,
                lock_id,
                seen,
                next_id=next_id,
                fenced=fenced,
                may_restart=may_restart,
                may_seal=may_seal,
                now=row.now,
                settings=self._settings,
            )

        return self._step(key, step)

    def finish(self, key: ConversationKey, lock_id: str | None, job: Job) -> Finished:
        spare_id = key.new_job_id()

        def step(row: _Row) -> Finished:
            return steps.finish(row.line, lock_id, job, spare_id=spare_id, now=row.now, settings=self._settings)

        return self._step(key, step, ended=lambda _: job)

    def give_back(self, key: ConversationKey, lock_id: str) -> bool:
        def step(row: _Row) -> Job | None:
            return steps.give_back(row.line, lock_id, now=row.now, settings=self._settings)

        return self._step(key, step, ended=lambda job: job) is not None

    def archived(self, job_id: str) -> None:
        ended, now = self._find(job_id)
        if ended and ended.unarchived:
            values = {
                "job_id": job_id,
                "document": as_text(job_to_json(replace(ended, unarchived=False))),
                "expires_at": now + self._settings.job_ttl,
            }
            self._database.execute(values, "job_archived")

    def ended_by(self, key: ConversationKey, message_id: str) -> str | None:
        was = self._load(key).line.ended.get(message_id)
        return was.job_id if was else None

    def cancel(self, key: ConversationKey, job_id: str) -> Job | None:
        return self._step(key, lambda row: steps.cancel(row.line, job_id))

    def forget(self, key: ConversationKey, message_id: str) -> None:
        self._step(key, lambda row: row.line.ended.pop(message_id, None))

    def job(self, job_id: str) -> Job | None:
        return self._find(job_id)[0]

    def waiting(self, key: ConversationKey) -> Job | None:
        return self._load(key).line.current

    def jobs(self, key: ConversationKey) -> tuple[Job, ...]:
        return self._load(key).line.jobs()

    def owner(self, key: ConversationKey, lock_id: str) -> str | None:
        line = self._load(key).line
        return line.current.job_id if line.current and line.locked_by(lock_id) else None

    def lock(self, key: ConversationKey) -> Lock | None:
        return self._load(key).line.lock(self.name, self._settings)

    def locks(self, platform_id: str) -> list[Lock]:
        rows = self._database.execute({"platform_id": platform_id}, "live_lines")
        lines = [line_from_text(ConversationKey(platform_id, id_), document) for id_, document in rows]
        locks = [lock for line in lines if (lock := line.lock(self.name, self._settings))]
        return sorted(locks, key=lambda lock: lock.acquired_at)

    def hand_off(self, key: ConversationKey, *, human: bool) -> None:
        self._step(key, lambda row: steps.hand_off(row.line, human=human))

    def erase(self, key: ConversationKey, job_ids: Iterable[str] = ()) -> bool:
        first = key.shard << 118
        ids = {"first_id": str(uuid.UUID(int=first)), "last_id": str(uuid.UUID(int=first + (1 << 118) - 1))}
        values = {"platform_id": key.platform_id, "conversation_id": key.conversation_id} | ids
        return bool(self._database.execute(values, "erase_line")[0][0])

    def release(self, key: ConversationKey) -> Job | None:
        return self._step(key, lambda row: steps.release(row.line))

    def sweep(self, *, older_than: float, platform_id: str | None = None) -> list[Job]:
        """See the port. Forgets what was answered on another tier first: nobody need be woken for that."""
        now = self._now()
        times = {"now": now, "stale_before": now - self._settings.heartbeat_stale, "older_than": older_than}
        self._database.execute(times, "drop_ended")

        def step(row: _Row) -> Job | None:
            return steps.sweep(row.line, older_than=older_than, now=row.now, settings=self._settings)

        due = [ConversationKey(*key) for key in self._database.execute(times, "due_lines")]
        due = [key for key in due if platform_id in (None, key.platform_id)]
        return steps.sweep_each(due, lambda key: self._step(key, step))

    def cached(self, name: str) -> str | None:
        """Nothing: configuration comes from the same database, and the process has its own cache in front of it."""
        return None

    def cache(self, name: str, text: str, seconds: float) -> None:
        """See `cached`."""

    def admit(self, platform_id: str, per_minute: int) -> float:
        return self._buckets.take(platform_id, per_minute)

    def _step[T](
        self,
        key: ConversationKey,
        step: Callable[[_Row], T],
        *,
        ended: Callable[[T], Job | None] = lambda _: None,
        job_id: str | None = None,
    ) -> T:
        """Take a step on the conversation's line; the job that it `ended` is kept with it. Raises Unavailable."""
        version = str(uuid.uuid4())
        for _ in range(MAX_TRIES):
            row = self._load(key, job_id)
            idle, before = row.line.current is None, line_to_text(row.line)
            result = step(row)
            document = line_to_text(row.line)
            if document == before:
                return result
            # A line without jobs is forgotten an hour after its last one ended, whatever comes meanwhile.
            idle_until = row.now + self._settings.job_ttl
            if row.line.handed_off:
                idle_until = row.now + steps.UNARCHIVED_TTL_SECONDS
            elif idle and row.expires_at:
                idle_until = min(idle_until, row.expires_at)
            values = _line_values(row.line) | {
                "version": version,
                "seen": row.version,
                "document": document,
                "expires_at": None if row.line.current else idle_until,
            }
            if row.version is None:
                saved = self._database.execute(values, "insert_line")
            else:
                saved = self._database.execute(values | self._ended_values(ended(result), row.now), "update_line")
            if saved or self._load(key).version == version:
                return result
        raise Unavailable("Postgres")

    def _load(self, key: ConversationKey, job_id: str | None = None) -> _Row:
        values = {"platform_id": key.platform_id, "conversation_id": key.conversation_id, "job_id": job_id}
        server_time, version, document, expires_at, taken_until = self._database.execute(values, "load_line")[0]
        now = self._clock() if self._clock else server_time
        taken = taken_until is not None and taken_until > now
        if document is None or (expires_at is not None and expires_at <= now):
            return _Row(now, Line(key), version, None, taken)
        return _Row(now, line_from_text(key, document), version, expires_at, taken)

    def _find(self, job_id: str) -> tuple[Job | None, float]:
        """The job, live or ended, and the time."""
        if shard_of_job(job_id) is None:
            return None, 0.0
        for server_time, platform_id, conversation_id, document, expires_at in self._database.execute(
            {"job_id": job_id}, "tier_job"
        ):
            now = self._clock() if self._clock else server_time
            if platform_id is None:
                if expires_at > now:
                    return job_from_json(json.loads(document)), now
            else:
                line = line_from_text(ConversationKey(platform_id, conversation_id), document)
                return line.job(job_id), now
        return None, 0.0

    def _ended_values(self, ended: Job | None, now: float) -> dict[str, Any]:
        if ended is None:
            return {"ended_id": None, "ended": None, "ended_until": None}
        ttl = steps.UNARCHIVED_TTL_SECONDS if ended.unarchived else self._settings.job_ttl
        return {"ended_id": ended.job_id, "ended": as_text(job_to_json(ended)), "ended_until": now + ttl}

    def _now(self) -> float:
        return self._clock() if self._clock else float(self._database.execute({}, "now")[0][0])


def _line_values(line: Line) -> dict[str, Any]:
    """What statements look for in a line."""
    return {
        "platform_id": line.key.platform_id,
        "conversation_id": line.key.conversation_id,
        "current_id": line.current.job_id if line.current else None,
        "next_id": line.next.job_id if line.next else None,
        "message_ids": [message.message_id for message in line.waiting()],
        "due_at": line.due_at,
        "acquired_at": line.acquired_at,
        "heartbeat_at": line.hold.heartbeat_at if line.hold else None,
    }
