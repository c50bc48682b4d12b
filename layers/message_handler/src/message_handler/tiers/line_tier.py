"""The tier port, implemented once: the steps of `accepting.py` and `steps.py` over a store that compares and sets.

    the line as this process saw it last ── take the step ── save, if its version is still the one that was seen
                    ▲                                                 │ another process was faster
                    └──────────── the line as it is now ──────────────┘

A conversation that was never seen is taken for a new one: the save says if it is not, and brings the line. So the first
step of all costs one round trip, and any other one or two. No lock is held in between: a process that stops in the
middle of a step stops nobody else.

A version is a random token of the save that wrote it, never a number: after a failover that lost writes a number
repeats, and a stale save would pass. Steps compare times, so a save carries the time that its step was computed with:
a host whose clock is wrong, or that was frozen in between, is told the server's time and tries again.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.documents import as_text, from_text, job_from_json, job_to_json
from message_handler.domain.errors import Contended, RequestError
from message_handler.domain.identifiers import new_id
from message_handler.domain.jobs import Job, Progress
from message_handler.domain.messages import Request
from message_handler.drivers.combiner import ALONE, Alone, Combiner
from message_handler.ports.line_store import LineStore, Save, Saved, Snapshot
from message_handler.protocol import accepting, steps
from message_handler.protocol.line import LIVE_TTL_SECONDS, Line
from message_handler.protocol.line_documents import (
    STRUCTURE,
    add_references,
    answered_of,
    answered_to_text,
    changed_fields,
    digests_of,
    line_of,
    progress_to_text,
    text_field,
    texts_of,
    with_texts,
)
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

#: A step that met another so often is given up. With the pauses below that takes some 18 s; a request has 29 s.
MAX_TRIES = 36
#: After every second try a pause, of at most so many seconds: each time twice as long, up to a bound. A thousand
#: processes need seconds, or they would meet again and again; fifty are through after 0.1 s.
FIRST_PAUSE, LONGEST_PAUSE = 0.008, 4.0
#: Steps that threads take at the same moment go together, up to so many.
MOST_TOGETHER = 50
#: Lines that a process remembers having seen, each with no more characters in its messages than this.
MOST_SEEN, MOST_SEEN_TEXT = 100, 65_536


@dataclass(slots=True)
class _Step:
    """A step, and what it looks up: messages by `ids`, the name of a job, or when the holder was last heard of."""

    take: Callable[[Line, float], Any]
    ids: Collection[str] = ()
    name: str | None = None
    looks_at_heartbeat: bool = False


@dataclass(frozen=True, slots=True)
class _Beat:
    """A heartbeat: it compares the claim's own lock_id, so that messages that join can't starve it."""

    lock_id: str
    progress: Progress | None


@dataclass(slots=True)
class _Seen:
    """A line as this process saw it last: as it was saved or brought, and as its text. It is never changed."""

    line: Line
    text: str = "{}"
    version: str = ""


@dataclass(slots=True)
class _Try:
    """The steps that go together on one line, taken once: what they gave, and the save that makes them true."""

    save: Save
    line: Line
    text: str
    results: list[Any]
    #: When it was taken, by this host's clock.
    at: float


class _Conflict:
    """No answer: another process was faster."""


_CONFLICT = _Conflict()


class LineTier:
    """See `Tier`. `clock` is this host's (Unix seconds).

    `together`: what threads ask at the same moment goes out together, and the steps on one conversation as one. Only
    where no thread is ever interrupted.
    """

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
        self._settings = settings
        self._clock = clock
        self._sleep = sleep
        #: How far the store's clock is ahead when a save arrives there, as far as known.
        self._ahead = 0.0
        self._seen: dict[ConversationKey, _Seen] = {}
        most = MOST_TOGETHER if together else 1
        self._steps = Combiner[tuple[ConversationKey, _Step | _Beat], Any](self._try_each, most)
        self._looks = Combiner[ConversationKey, dict[str, str]](lambda keys: list(store.read(keys, ["version"])), most)

    # The steps.

    def accept(self, request: Request, *, job_id: str, lock_id: str) -> Accepted:
        step = partial(accepting.accept, request=request, job_id=job_id, lock_id=lock_id, settings=self._settings)
        return self._take(request.key, lambda line, now: step(line, now=now), ids=_ids_of(request))

    def accept_again(self, request: Request, *, job_id: str, spare_id: str) -> None:
        again = AcceptAgain(request, job_id, spare_id)
        self._take(request.key, partial(self._accept_again, again), ids=_ids_of(request), name=job_id)

    def _accept_again(self, again: AcceptAgain, line: Line, now: float) -> None:
        accepting.accept_again(line, again, now=now, settings=self._settings)

    def undo(self, key: ConversationKey, message_ids: Iterable[str]) -> None:
        posted = tuple(message_ids)
        self._take(key, lambda line, _: accepting.undo(line, posted))

    def claim(
        self, key: ConversationKey, lock_id: str, again: AcceptAgain | None = None
    ) -> Claim | ClaimRefused | None:
        def step(line: Line, now: float) -> Claim | ClaimRefused | None:
            if again:
                self._accept_again(again, line, now)
            return steps.claim(line, lock_id, now=now, settings=self._settings)

        ids, name = (_ids_of(again.request), again.job_id) if again else ((), None)
        claim: Claim | ClaimRefused | None = self._take(
            key,
            step,
            ids=ids,
            name=name,
            looks_at_heartbeat=True,  # guard: step claim, heartbeat
        )
        return claim

    def adopt(self, key: ConversationKey, lock_id: str, settled_ids: Iterable[str], ended: Job | None) -> Job | None:
        settled = tuple(settled_ids)
        step = partial(steps.adopt, lock_id=lock_id, settled_ids=settled, ended=ended, settings=self._settings)
        return self._take(key, lambda line, now: step(line, now=now))

    def heartbeat(
        self, key: ConversationKey, lock_id: str, progress: Progress | None = None, *, seen: int | None = None
    ) -> LeaseState:
        beat: tuple[str, float] | None = self._retried(key, _Beat(lock_id, progress)) if lock_id else None
        if beat is None:
            return "lost"
        version, at = beat
        line = self._line_at(key, version)
        known = self._seen.get(key)
        if known and known.version == version and line.lease and line.lock_id == lock_id:
            # Another thread may be at a step on the line that was seen: it stays as it is.
            beaten = line.copy()
            beaten.lease, beaten.progress = line.lease._replace(heartbeat_at=at), progress
            self._remember(key, _Seen(beaten, known.text, version))
        return steps.look(line, lock_id, seen)

    def look(self, key: ConversationKey, lock_id: str, *, seen: int | None = None) -> LeaseState:
        version = self._looks.ask(key).get("version", "")
        return steps.look(self._line_at(key, version), lock_id, seen)

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
        return self._take(key, lambda line, now: step(line, now=now))

    def finish(self, key: ConversationKey, lock_id: str | None, job: Job) -> Finished:
        step = partial(steps.finish, lock_id=lock_id, job=job, spare_id=key.new_job_id(), settings=self._settings)
        return self._take(key, lambda line, now: step(line, now=now))

    def release(self, key: ConversationKey, lock_id: str) -> bool:
        step = partial(steps.release, lock_id=lock_id, settings=self._settings)
        return self._take(key, lambda line, now: step(line, now=now))

    def cancel(self, key: ConversationKey, job_id: str) -> Job | None:
        return self._take(key, lambda line, _: steps.cancel(line, job_id))

    def forget(self, key: ConversationKey, message_id: str) -> None:
        self._take(key, lambda line, _: steps.forget(line, message_id), ids=(message_id,))

    def hand_off(self, key: ConversationKey, *, human: bool) -> None:
        self._take(key, lambda line, _: steps.hand_off(line, human=human))

    def force_release(self, key: ConversationKey) -> Job | None:
        return self._take(key, lambda line, _: steps.force_release(line))

    def sweep(self, *, older_than: float, platform_id: str | None = None) -> list[Job]:
        def step(line: Line, now: float) -> Job | None:
            return steps.sweep(line, older_than=older_than, now=now, settings=self._settings)

        def sweep_one(key: ConversationKey) -> Job | None:
            job: Job | None = self._take(
                key,
                step,
                looks_at_heartbeat=True,  # guard: step sweep, heartbeat
            )
            return job

        due = [
            key
            for key in self.store.due(older_than)
            if platform_id in (None, key.platform_id)  # guard: invariant 13, sweep
        ]
        return steps.sweep_each(due, sweep_one)

    def erase(self, key: ConversationKey, job_ids: Iterable[str] = ()) -> bool:
        named, found = set(job_ids), False
        for tried in range(MAX_TRIES):
            (fields,), remembered = self.store.read([key], STRUCTURE), self.store.remembered(key)
            line = line_of(key, fields)
            known = named | {answered_of(text).job_id for text in remembered.values()} | {line.interrupted} - {""}
            known |= {job.job_id for job in (*line.jobs(), line.last) if job}
            found = found or bool(fields or remembered) or any(self._has_ended(key, job_id) for job_id in named)
            at = self._clock()
            save = Save(key, fields.get("version", ""), at + self._ahead, erases=True, jobs=dict.fromkeys(known))
            self._seen.pop(key, None)
            (answer,) = self.store.save([save])
            if isinstance(answer, Exception):
                raise answer
            if isinstance(answer, Saved):
                return found
            self._ahead = answer.now - at
            self._pause(tried)
        raise Contended

    def archived(self, key: ConversationKey, job_id: str) -> None:
        ended, document = self.job(job_id), None
        if ended and ended.unarchived:
            document = as_text(job_to_json(replace(ended, unarchived=False)))
        self.store.archived(key, job_id, document, self._settings.job_ttl)

    # What others look at.

    def ended_by(self, key: ConversationKey, message_id: str) -> str | None:
        was = self.store.remembered(key, message_id).get(message_id)
        return answered_of(was).job_id if was else None

    def job(self, job_id: str) -> Job | None:
        # A job may end between the two reads: then its end is found at the second look.
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
        """A line, and its texts by their digests."""
        (fields,) = self.store.read([key])
        return line_of(key, fields), texts_of(fields)

    def _has_ended(self, key: ConversationKey, job_id: str) -> bool:
        found = self.store.find(job_id)
        return isinstance(found, str) and job_from_json(from_text(found)).key == key

    def _line_at(self, key: ConversationKey, version: str) -> Line:
        """The line, which is read if this process hasn't seen this version of it."""
        seen = self._seen.get(key) or _Seen(Line(key))
        if seen.version != version:  # guard: step look, the line as it is
            (fields,) = self.store.read([key], STRUCTURE)
            seen = self._see(key, fields)
        return seen.line

    def _see(self, key: ConversationKey, fields: dict[str, str], looked_up: Snapshot | None = None) -> _Seen:
        line = line_of(key, fields)
        if looked_up:
            line.answered = {id_: answered_of(text) for id_, text in looked_up.remembered.items()}
            line.taken = looked_up.taken
        return self._remember(key, _Seen(line, fields.get("line", "{}"), fields.get("version", "")))

    def _remember(self, key: ConversationKey, seen: _Seen) -> _Seen:
        self._seen.pop(key, None)
        if sum(len(message.content) for message in seen.line.waiting()) <= MOST_SEEN_TEXT:
            self._seen[key] = seen
        if len(self._seen) > MOST_SEEN:
            for oldest in list(self._seen)[:-MOST_SEEN]:
                self._seen.pop(oldest, None)
        return seen

    # What its store does as it is.

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

    def admit(self, platform_id: str, per_minute: int) -> float:
        return self.store.admit(platform_id, per_minute)

    # How a step is taken.

    def _take[T](self, key: ConversationKey, take: Callable[[Line, float], T], **looked_up: Any) -> T:
        taken: T = self._retried(key, _Step(take, **looked_up))
        return taken

    def _retried(self, key: ConversationKey, step: _Step | _Beat) -> Any:
        """The answer to a step, tried again while other processes are faster. Raises Contended, Unavailable."""
        for tried in range(MAX_TRIES):
            answer = self._steps.ask((key, step))
            if answer is not _CONFLICT:
                return answer
            if tried < MAX_TRIES - 1:
                self._pause(tried)
        raise Contended

    def _pause(self, tried: int) -> None:
        # What was brought with a conflict is fresh: the next try follows at once. After that the others are many.
        if tried % 2:
            self._sleep(random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (tried // 2))))  # noqa: S311  # nosec B311  # no secret

    def _try_each(self, asked: list[tuple[ConversationKey, _Step | _Beat]]) -> list[Any | Alone | Exception]:
        """One try for each of the steps, those on one line folded into one; all of it in one round trip."""
        groups: dict[tuple[ConversationKey, int | None], list[int]] = defaultdict(list)
        for number, (key, step) in enumerate(asked):
            groups[key, number if isinstance(step, _Beat) else None].append(number)
        answers: list[Any | Alone | Exception] = [ALONE] * len(asked)
        tries: list[tuple[list[int], _Try]] = []
        for (key, _), numbers in groups.items():
            try:
                tries.append((numbers, self._try(key, [asked[number][1] for number in numbers])))
            except Exception as error:  # noqa: BLE001  nobody knows whose fault it is: each goes by itself
                answers[numbers[0]] = error if len(numbers) == 1 else ALONE
        saved = self.store.save([made.save for _, made in tries]) if tries else []
        for (numbers, made), answer in zip(tries, saved, strict=True):
            try:
                results = self._answers(made, answer)
            except Exception as error:  # noqa: BLE001  an answer that can't be read is no other line's concern
                results = [error] * len(numbers)
            for number, result in zip(numbers, results, strict=True):
                answers[number] = result
        return answers

    def _try(self, key: ConversationKey, asked: list[Any]) -> _Try:
        seen, at = self._seen.get(key) or _Seen(Line(key)), self._clock()
        now = at + self._ahead
        if isinstance(asked[0], _Beat):
            return _Try(self._beating(key, asked[0], now), seen.line, seen.text, [None], at)
        before, line, results = seen.line, seen.line.copy(), []
        for step in asked:
            try:
                results.append(step.take(line, now))
            except RequestError as refused:  # it has changed nothing
                results.append(refused)
        add_references(line)
        save = Save(key, seen.version, now)
        ids, names = {id_ for step in asked for id_ in step.ids}, {step.name for step in asked if step.name}
        known, taken = ids & before.answered.keys(), names & before.taken
        save.unknown_ids, save.known_ids = [*(ids - known)], [*known]
        save.unused_names, save.taken_names = [*(names - taken)], [*taken]
        if any(step.looks_at_heartbeat for step in asked):
            save.heartbeat_at = repr(before.lease.heartbeat_at) if before.lease else ""
        self._write(save, before, seen.text, line)
        save.wanted = [text_field(digest) for digest in {*digests_of(results)}]
        return _Try(save, line, save.fields.get("line") or seen.text, results, at)

    def _write(self, save: Save, before: Line, text: str, line: Line) -> None:
        """What the steps have changed, if they have."""
        fields, known = changed_fields(before, text, line), before.answered
        save.remembered = {id_: answered_to_text(was) for id_, was in line.answered.items() if known.get(id_) != was}
        save.remembered |= dict.fromkeys(known.keys() - line.answered.keys())
        if not fields and not save.remembered:
            save.due_at = "as it is" if line.current else None
            return
        fields["version"] = new_id()
        save.fields = fields
        due_at = line.lease.heartbeat_at + self._settings.heartbeat_stale if line.lease else line.due_at
        save.due_at = due_at if line.current else None
        job_ttl, jobs = self._settings.job_ttl, line.jobs()
        waits = (
            line.handed_off  # guard: step hand off, as long as a record
            or line.current
        )
        save.ttl = LIVE_TTL_SECONDS if waits else job_ttl
        if save.expected and not before.current and not line.current and line.handed_off is before.handed_off:
            # An idle line is forgotten an hour after its last job ended, whatever comes late.
            save.ttl = None
        save.remembered_ttl = job_ttl
        known_ids = {job.job_id for job in before.jobs()}
        save.jobs = {job.job_id: None for job in jobs if job.job_id not in known_ids}
        for job in line.ends:
            ttl = LIVE_TTL_SECONDS if job.unarchived else job_ttl  # guard: invariant 1, unarchived -> job_ttl
            save.jobs[job.job_id] = (as_text(job_to_json(job)), ttl)
            save.remembered_ttl = max(save.remembered_ttl, ttl)
        save.unarchived = [job.job_id for job in line.ends if job.unarchived]  # guard: step archive, index -> []
        save.waiting = tuple([message.message_id for job in jobs for message in job.messages])
        save.line_jobs = tuple([job.job_id for job in jobs])

    def _beating(self, key: ConversationKey, beat: _Beat, now: float) -> Save:
        fields = {"heartbeat_at": repr(now), "progress": progress_to_text(beat.progress)}
        due_at = now + self._settings.heartbeat_stale
        save = Save(key, beat.lock_id, now, "holder", fields=fields, due_at=due_at, ttl=LIVE_TTL_SECONDS)
        save.wanted = ["version"]
        return save

    def _answers(self, made: _Try, answer: Saved | Snapshot | Exception) -> list[Any]:
        """What the steps of one try are told."""
        key, save, line, results = made.save.key, made.save, made.line, made.results
        if isinstance(answer, Exception):
            return [answer] * len(results)
        if isinstance(answer, Snapshot):
            self._ahead = answer.now - made.at
            if save.compared == "holder":
                # Of its own lock only the time can have been another.
                return [_CONFLICT if answer.fields.get("holder") == save.expected else None]
            self._see(key, answer.fields, answer)
            return [_CONFLICT] * len(results)
        if save.compared == "holder":
            return [(answer.fields.get("version", ""), save.now)]
        line.answered, line.taken, line.ends = {}, frozenset(), ()
        if save.wanted:
            texts = texts_of(answer.fields)
            results = [with_texts(result, texts) for result in results]
            # A worker asks for them again at each step of its run.
            if line.lease and line.current and {*digests_of(line.current)} <= texts.keys():
                line.current = with_texts(line.current, texts)
        self._remember(key, _Seen(line, made.text, save.fields.get("version") or save.expected))
        return results


def _ids_of(request: Request) -> list[str]:
    return [id_ for message in request.messages for id_ in message.ids]
