"""How a tier takes steps on lines: each step is taken on the line as last seen, and saved if that is still the line.

    the line as this process saw it last ── take the step ── save, if its version is still the one that was seen
                    ▲                                                 │ another process was faster
                    └──────────── the line as it is now ──────────────┘

A conversation that this process never saw is taken for a new one. If it is not new, the store refuses the save and
answers with the line. So a conversation's first step costs one round trip, and each later step one or two. No lock is
held between round trips: a process that stops in the middle of a step stops no other process.

A version is a random token of the save that wrote it, never a number: after a failover that lost writes, a number would
repeat, and a stale save would pass. Steps compare times, so a save carries the time that its step was computed with.
The store refuses it if a host's clock is wrong, or if the host was frozen meanwhile. Then the step is taken again with
the server's time.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.documents import from_text, job_from_json
from message_handler.domain.errors import Contended, RequestError
from message_handler.domain.jobs import Progress
from message_handler.drivers.combiner import ALONE, Alone, Combiner
from message_handler.ports.line_store import LineStore, Save, Saved, Snapshot
from message_handler.protocol.line import Line
from message_handler.protocol.line_documents import (
    STRUCTURE,
    add_references,
    answered_of,
    digests_of,
    line_of,
    text_field,
    texts_of,
    with_texts,
)
from message_handler.settings import Settings
from message_handler.tiers.saves import SeenLine, save_of_heartbeat, save_of_steps

#: A step is given up after this number of tries that met another process. With the pauses below, that takes about 18 s.
#: A request has 29 s.
MAX_TRIES = 36
#: After every second try comes a random pause (seconds). The first is at most `FIRST_PAUSE` long. The bound doubles
#: each time, up to `LONGEST_PAUSE`. Fifty processes that meet are done after 0.1 s. A thousand need seconds.
FIRST_PAUSE, LONGEST_PAUSE = 0.008, 4.0
#: The most steps of several threads that share a round trip.
MOST_TOGETHER = 50
#: The most lines that a process remembers, and the most characters in the messages of each.
MOST_SEEN, MOST_SEEN_TEXT = 100, 65_536


@dataclass(slots=True)
class _Step:
    """A step on a line, and what it looks up: messages by `ids`, a job's `name`, or the lease's last heartbeat.

    `take` gets the line, which it may change, and the time (Unix seconds). What it returns is the step's result.
    """

    take: Callable[[Line, float], Any]
    ids: Collection[str] = ()
    name: str | None = None
    looks_at_heartbeat: bool = False


@dataclass(frozen=True, slots=True)
class _Heartbeat:
    """A heartbeat of the worker whose lease has this `lock_id`."""

    lock_id: str
    progress: Progress | None


@dataclass(slots=True)
class _Try:
    """Steps on one line, taken together once: their results, and the save that makes them true."""

    save: Save
    line: Line
    text: str
    results: list[Any]
    #: When the try was made, by this host's clock (Unix seconds).
    at: float


class _Conflict:
    """In place of a result: another process was faster."""


_CONFLICT = _Conflict()


class Stepper:
    """Takes steps on the lines of a store, and tries again while other processes are faster.

    `together`: steps that threads take at the same moment share a round trip, and steps on one conversation share a
    save. This is for processes whose threads are never interrupted.
    """

    def __init__(
        self,
        store: LineStore,
        settings: Settings,
        clock: Callable[[], float],
        *,
        together: bool,
        sleep: Callable[[float], None],
    ) -> None:
        self.store = store
        self._sleep = sleep
        self._settings = settings
        self._clock = clock
        #: How far the store's clock was ahead when the last refused save arrived there (seconds).
        self._ahead = 0.0
        self._seen: dict[ConversationKey, SeenLine] = {}
        most = MOST_TOGETHER if together else 1
        self._combined = Combiner[tuple[ConversationKey, _Step | _Heartbeat], Any](self._try_each, most)
        self._versions = Combiner[ConversationKey, dict[str, str]](
            lambda keys: list(store.read(keys, ["version"])), most
        )

    def take[T](self, key: ConversationKey, take: Callable[[Line, float], T], **looked_up: Any) -> T:
        """Take a step on a conversation's line; see `_Step`. Raises what the step raises, Contended or Unavailable."""
        result: T = self._result_of(key, _Step(take, **looked_up))
        return result

    def heartbeat(self, key: ConversationKey, lock_id: str, progress: Progress | None) -> Line | None:
        """Renew the lease with this `lock_id`. Returns the line as it is then; None if the lease was lost."""
        beat: tuple[str, float] | None = self._result_of(key, _Heartbeat(lock_id, progress)) if lock_id else None
        if beat is None:
            return None
        version, at = beat
        line = self._line_of_version(key, version)
        seen = self._seen.get(key)
        if seen and seen.version == version and line.lease and line.lock_id == lock_id:
            # Another thread may be taking a step on the line that was seen. So that one stays as it is.
            renewed = line.copy()
            renewed.lease, renewed.progress = line.lease._replace(heartbeat_at=at), progress
            self._remember(key, SeenLine(renewed, seen.text, version))
        return line

    def newest(self, key: ConversationKey) -> Line:
        """The line as it is now. Only its version is read if this process has seen that version."""
        version = self._versions.ask(key).get("version", "")
        return self._line_of_version(key, version)

    def erase(self, key: ConversationKey, job_ids: Iterable[str]) -> bool:
        """Forget a line, what is remembered of its messages, and its jobs, those with `job_ids` too.

        Returns whether there was anything. Raises Contended or Unavailable.
        """
        named, found = set(job_ids), False
        for tried in range(MAX_TRIES):
            (fields,), remembered = self.store.read([key], STRUCTURE), self.store.remembered(key)
            line = line_of(key, fields)
            known = named | {answered_of(text).job_id for text in remembered.values()} | {line.interrupted} - {""}
            known |= {job.job_id for job in (*line.jobs(), line.last_answered) if job}
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

    def _has_ended(self, key: ConversationKey, job_id: str) -> bool:
        found = self.store.find(job_id)
        return isinstance(found, str) and job_from_json(from_text(found)).key == key

    # One try, and the next.

    def _result_of(self, key: ConversationKey, step: _Step | _Heartbeat) -> Any:
        for tried in range(MAX_TRIES):
            result = self._combined.ask((key, step))
            if result is not _CONFLICT:
                return result
            if tried < MAX_TRIES - 1:
                self._pause(tried)
        raise Contended

    def _pause(self, tried: int) -> None:
        # A conflict brings the newest line, so the next try follows at once. If that fails too, many processes meet.
        if tried % 2:
            self._sleep(random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (tried // 2))))  # noqa: S311  # nosec B311  # no secret

    def _try_each(self, asked: list[tuple[ConversationKey, _Step | _Heartbeat]]) -> list[Any | Alone | Exception]:
        """Try each of the steps once, all in one round trip. Steps on one line are taken together, with one save."""
        groups: dict[tuple[ConversationKey, int | None], list[int]] = defaultdict(list)
        for number, (key, step) in enumerate(asked):
            groups[key, number if isinstance(step, _Heartbeat) else None].append(number)
        answers: list[Any | Alone | Exception] = [ALONE] * len(asked)
        tries: list[tuple[list[int], _Try]] = []
        for (key, _), numbers in groups.items():
            try:
                tries.append((numbers, self._try(key, [asked[number][1] for number in numbers])))
            except Exception as error:  # noqa: BLE001  any of the steps may be broken, so each goes by itself
                answers[numbers[0]] = error if len(numbers) == 1 else ALONE
        saved = self.store.save([made.save for _, made in tries]) if tries else []
        for (numbers, made), answer in zip(tries, saved, strict=True):
            try:
                results = self._results(made, answer)
            except Exception as error:  # noqa: BLE001  an answer that can't be read fails this line's steps alone
                results = [error] * len(numbers)
            for number, result in zip(numbers, results, strict=True):
                answers[number] = result
        return answers

    def _try(self, key: ConversationKey, asked: list[Any]) -> _Try:
        """Take steps, or one heartbeat, on the line as it was last seen."""
        seen, at = self._seen.get(key) or SeenLine(Line(key)), self._clock()
        now = at + self._ahead
        if isinstance(asked[0], _Heartbeat):
            beat = asked[0]
            save = save_of_heartbeat(key, beat.lock_id, beat.progress, now=now, settings=self._settings)
            return _Try(save, seen.line, seen.text, [None], at)
        line, results = seen.line.copy(), []
        for step in asked:
            try:
                results.append(step.take(line, now))
            except RequestError as refused:  # the step has changed nothing
                results.append(refused)
        add_references(line)
        save = save_of_steps(
            seen,
            line,
            ids={id_ for step in asked for id_ in step.ids},
            names={step.name for step in asked if step.name},
            looks_at_heartbeat=any(step.looks_at_heartbeat for step in asked),
            now=now,
            settings=self._settings,
        )
        save.wanted = [text_field(digest) for digest in {*digests_of(results)}]
        return _Try(save, line, save.fields.get("line") or seen.text, results, at)

    def _results(self, made: _Try, answer: Saved | Snapshot | Exception) -> list[Any]:
        """The result of each step of a try, once the store has answered its save."""
        key, save, line, results = made.save.key, made.save, made.line, made.results
        if isinstance(answer, Exception):
            return [answer] * len(results)
        if isinstance(answer, Snapshot):
            self._ahead = answer.now - made.at
            if save.compared == "holder":
                # If the lease is still this worker's, only the time can have been refused.
                return [_CONFLICT if answer.fields.get("holder") == save.expected else None]
            self._remember_fields(key, answer.fields, answer)
            return [_CONFLICT] * len(results)
        if save.compared == "holder":
            return [(answer.fields.get("version", ""), save.now)]
        line.answered, line.taken, line.ends = {}, frozenset(), ()
        if save.wanted:
            texts = texts_of(answer.fields)
            results = [with_texts(result, texts) for result in results]
            # A worker needs its job's texts again at each step of its run.
            if line.lease and line.current and {*digests_of(line.current)} <= texts.keys():
                line.current = with_texts(line.current, texts)
        self._remember(key, SeenLine(line, made.text, save.fields.get("version") or save.expected))
        return results

    # The lines that this process has seen.

    def _line_of_version(self, key: ConversationKey, version: str) -> Line:
        """The line with this version, or a newer one. It is read if this process has not seen it."""
        seen = self._seen.get(key) or SeenLine(Line(key))
        if seen.version != version:  # guard: step look, the line as it is
            (fields,) = self.store.read([key], STRUCTURE)
            seen = self._remember_fields(key, fields)
        return seen.line

    def _remember_fields(
        self, key: ConversationKey, fields: dict[str, str], looked_up: Snapshot | None = None
    ) -> SeenLine:
        """Remember the line that a store's fields describe, and what the store looked up for it."""
        line = line_of(key, fields)
        if looked_up:
            line.answered = {id_: answered_of(text) for id_, text in looked_up.remembered.items()}
            line.taken = looked_up.taken
        return self._remember(key, SeenLine(line, fields.get("line", "{}"), fields.get("version", "")))

    def _remember(self, key: ConversationKey, seen: SeenLine) -> SeenLine:
        self._seen.pop(key, None)
        if sum(len(message.content) for message in seen.line.waiting()) <= MOST_SEEN_TEXT:
            self._seen[key] = seen
        if len(self._seen) > MOST_SEEN:
            for oldest in list(self._seen)[:-MOST_SEEN]:
                self._seen.pop(oldest, None)
        return seen
