"""The tier port, implemented once for all stores: the steps of the protocol over the lines of a `LineStore`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.documents import as_text, from_text, job_from_json, job_to_json
from message_handler.domain.errors import Contended, Unavailable
from message_handler.domain.jobs import Job, Progress
from message_handler.domain.messages import Request
from message_handler.ports.line_store import LineStore
from message_handler.protocol import accepting, steps
from message_handler.protocol.line import Line
from message_handler.protocol.line_documents import STRUCTURE, answered_of, line_of, texts_of, with_texts
from message_handler.protocol.results import (
    AcceptAgain,
    Accepted,
    Claim,
    ClaimRefused,
    Finished,
    LeaseState,
    Lock,
    Sealed,
)
from message_handler.settings import Settings
from message_handler.tiers.stepper import Stepper

_log = logging.getLogger(__name__)


class LineTier:
    """See the port `Tier`. `clock` is this host's (Unix seconds); see `Stepper` for `together`."""

    def __init__(
        self,
        store: LineStore,
        settings: Settings,
        clock: Callable[[], float] = time.time,
        *,
        together: bool = False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.store = store
        self.name = store.name
        self._stepper = Stepper(store, settings, clock, together=together, sleep=sleep)
        self._settings = settings

    # The steps.

    def accept(self, request: Request, *, job_id: str, lock_id: str) -> Accepted:
        step = partial(accepting.accept, request=request, job_id=job_id, lock_id=lock_id, settings=self._settings)
        return self._stepper.take(request.key, lambda line, now: step(line, now=now), ids=_ids_of(request))

    def accept_again(self, request: Request, *, job_id: str, spare_id: str) -> None:
        again = AcceptAgain(request, job_id, spare_id)
        self._stepper.take(request.key, partial(self._accept_again, again), ids=_ids_of(request), name=job_id)

    def _accept_again(self, again: AcceptAgain, line: Line, now: float) -> None:
        accepting.accept_again(line, again, now=now, settings=self._settings)

    def undo(self, key: ConversationKey, message_ids: Iterable[str]) -> None:
        posted = tuple(message_ids)
        self._stepper.take(key, lambda line, _: accepting.undo(line, posted))

    def claim(
        self, key: ConversationKey, lock_id: str, again: AcceptAgain | None = None
    ) -> Claim | ClaimRefused | None:
        def step(line: Line, now: float) -> Claim | ClaimRefused | None:
            if again:
                self._accept_again(again, line, now)
            return steps.claim(line, lock_id, now=now, settings=self._settings)

        ids, name = (_ids_of(again.request), again.job_id) if again else ((), None)
        claim: Claim | ClaimRefused | None = self._stepper.take(
            key,
            step,
            ids=ids,
            name=name,
            looks_at_heartbeat=True,  # guard: step claim, heartbeat
        )
        return claim

    def adopt(
        self,
        key: ConversationKey,
        lock_id: str,
        settled_ids: Iterable[str],
        ended: Job | None,
        edits: Mapping[str, str] | None = None,
    ) -> Job | None:
        step = partial(
            steps.adopt,
            lock_id=lock_id,
            settled_ids=tuple(settled_ids),
            ended=ended,
            edits=edits or {},
            settings=self._settings,
        )
        return self._stepper.take(key, lambda line, now: step(line, now=now))

    def heartbeat(
        self, key: ConversationKey, lock_id: str, progress: Progress | None = None, *, seen: int | None = None
    ) -> LeaseState:
        line = self._stepper.heartbeat(key, lock_id, progress)
        return steps.look(line, lock_id, seen) if line else "lost"

    def look(self, key: ConversationKey, lock_id: str, *, seen: int | None = None) -> LeaseState:
        return steps.look(self._stepper.newest(key), lock_id, seen)

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
        step = partial(
            steps.seal,
            lock_id=lock_id,
            answered=tuple(answered),
            next_id=next_id,
            fenced=fenced,
            may_restart=may_restart,
            may_seal=may_seal,
            settings=self._settings,
        )
        return self._stepper.take(key, lambda line, now: step(line, now=now))

    def finish(self, key: ConversationKey, lock_id: str | None, job: Job) -> Finished:
        step = partial(steps.finish, lock_id=lock_id, job=job, spare_id=key.new_job_id(), settings=self._settings)
        return self._stepper.take(key, lambda line, now: step(line, now=now))

    def release(self, key: ConversationKey, lock_id: str) -> bool:
        step = partial(steps.release, lock_id=lock_id, settings=self._settings)
        return self._stepper.take(key, lambda line, now: step(line, now=now))

    def cancel(self, key: ConversationKey, job_id: str) -> Job | None:
        return self._stepper.take(key, lambda line, _: steps.cancel(line, job_id))

    def unsend(self, key: ConversationKey, message_ids: Iterable[str], job_id: str) -> None:
        step = partial(steps.unsend, message_ids=tuple(message_ids), job_id=job_id, settings=self._settings)
        self._stepper.take(key, lambda line, now: step(line, now=now))

    def forget(self, key: ConversationKey, message_ids: Iterable[str]) -> None:
        ids = tuple(message_ids)
        self._stepper.take(key, lambda line, _: steps.forget(line, ids), ids=ids)

    def hand_off(self, key: ConversationKey, *, human: bool) -> None:
        self._stepper.take(key, lambda line, _: steps.hand_off(line, human=human))

    def force_release(self, key: ConversationKey) -> Job | None:
        return self._stepper.take(key, lambda line, _: steps.force_release(line))

    def sweep(self, *, older_than: float, platform_id: str | None = None) -> list[Job]:
        def step(line: Line, now: float) -> Job | None:
            return steps.sweep(line, older_than=older_than, now=now, settings=self._settings)

        def sweep_one(key: ConversationKey) -> Job | None:
            job: Job | None = self._stepper.take(
                key,
                step,
                looks_at_heartbeat=True,  # guard: step sweep, heartbeat
            )
            return job

        return sweep_each(self.store.due(older_than, platform_id), sweep_one)

    def erase(self, key: ConversationKey, job_ids: Iterable[str] = ()) -> bool:
        return self._stepper.erase(key, job_ids)

    def archived(self, key: ConversationKey, job_id: str) -> None:
        ended, document = self.job(job_id), None
        if ended and ended.unarchived:
            document = as_text(job_to_json(replace(ended, unarchived=False)))
        self.store.archived(key, job_id, document, self._settings.job_ttl)

    # What readers ask for.

    def ended_by(self, key: ConversationKey, message_id: str) -> str | None:
        remembered = self.store.remembered(key, message_id).get(message_id)
        return answered_of(remembered).job_id if remembered else None

    def job(self, job_id: str) -> Job | None:
        # A job may end between the two reads. Then the second round finds its end.
        for _ in range(2):
            found = self.store.find(job_id)
            if not isinstance(found, ConversationKey):
                return job_from_json(from_text(found)) if found else None
            line, texts = self._read(found)
            if job := line.job(job_id):
                whole: Job = with_texts(job, texts)
                return whole
        return None

    def waiting(self, key: ConversationKey) -> Job | None:
        return next(iter(self.jobs(key)), None)

    def jobs(self, key: ConversationKey) -> tuple[Job, ...]:
        line, texts = self._read(key)
        jobs: tuple[Job, ...] = with_texts(line.jobs(), texts)
        return jobs

    def owner(self, key: ConversationKey, lock_id: str) -> str | None:
        (line,) = self._lines([key])
        return line.current.job_id if line.current and line.locked_by(lock_id) else None

    def lock(self, key: ConversationKey) -> Lock | None:
        (line,) = self._lines([key])
        return line.lock(self.name, self._settings)

    def locks(self, platform_id: str) -> list[Lock]:
        lines = self._lines(self.store.live(platform_id))
        locks = [lock for line in lines if (lock := line.lock(self.name, self._settings))]
        return sorted(locks, key=lambda lock: lock.acquired_at)

    def _lines(self, keys: list[ConversationKey]) -> list[Line]:
        return [line_of(key, fields) for key, fields in zip(keys, self.store.read(keys, STRUCTURE), strict=True)]

    def _read(self, key: ConversationKey) -> tuple[Line, dict[str, str]]:
        """The conversation's line, and its texts by their digests."""
        (fields,) = self.store.read([key])
        return line_of(key, fields), texts_of(fields)

    # What the store does by itself.

    def ping(self) -> None:
        self.store.ping()

    def close(self) -> None:
        self.store.close()

    def unarchived(self) -> list[tuple[ConversationKey, str]]:
        return self.store.unarchived()

    def cached(self, name: str) -> str | None:
        return self.store.cached(name)

    def cache(self, name: str, text: str, seconds: float) -> None:
        self.store.cache(name, text, seconds)

    def admit(self, name: str, per_minute: int, count: int = 1) -> float:
        return self.store.admit(name, per_minute, count)

    def begin_wait(self, platform_id: str, wait_id: str, *, most: int, most_in_all: int) -> bool:
        return self.store.begin_wait(platform_id, wait_id, most=most, most_in_all=most_in_all)

    def end_wait(self, platform_id: str, wait_id: str) -> None:
        self.store.end_wait(platform_id, wait_id)


def sweep_each(keys: Iterable[ConversationKey], sweep_one: Callable[[ConversationKey], Job | None]) -> list[Job]:
    """Sweep the conversations one after the other. Returns the jobs that need a record.

    A conversation that can't be swept is passed over. If the store goes away, the jobs found so far are returned.
    Raises Unavailable only if there are none.
    """
    jobs: list[Job] = []
    for key in keys:
        try:
            job = sweep_one(key)
        except Unavailable:
            if not jobs:
                raise
            break
        except Contended:
            continue  # other processes work on it; the next sweep looks again
        except Exception as error:  # noqa: BLE001  a conversation in a broken state must not stop the sweep
            _log.error("a conversation can't be swept; the sweep goes on", extra={"error": type(error).__name__})
            continue
        if job:
            jobs.append(job)
    return jobs


def _ids_of(request: Request) -> list[str]:
    return [id_ for message in request.messages for id_ in message.possible_ids]
