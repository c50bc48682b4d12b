"""Combines what several threads ask of one store at the same moment, as databases combine commits.

    thread 1  asks ── goes at once, alone ──┐ answered
    thread 2      asks ── waits ────────────┴─ goes for all that wait ──┐ answered
    thread 3         asks ── waits ─────────────────────────────────────┘ answered

The records of a batch take their steps at about the same time: ten of them need one round trip, and one transaction.
A thread that is alone waits for no other. A thread waits at most `COMPANY_SECONDS` for another's round trip; then it
goes itself. An error of one item does not fail the others: a thread that got no answer together asks again, alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

#: At most this many items go together: the records of a full batch.
MOST = 10
#: The longest that a thread waits for another's round trip before it goes itself.
COMPANY_SECONDS = 0.05
#: The longest that a thread waits once another has gone with its item: longer than any store's timeout.
TAKEN_SECONDS = 60.0
#: How long a thread that is about to go yields at a time to others on their way here.
YIELD_SECONDS = 0.00005


class Alone(Enum):
    """In place of an answer: this item must go by itself."""

    ALONE = "alone"


ALONE: Final = Alone.ALONE


@dataclass(slots=True, eq=False)
class _Entry:
    """One thread's item, and its answer."""

    item: Any
    key: Hashable
    answer: Any = ALONE
    #: The entries of other threads that this thread takes along.
    followers: list[_Entry] = field(default_factory=list)
    #: Locked while its thread sleeps. It is released once the thread leads, or once its leader is done.
    sleeping: threading.Lock = field(default_factory=threading.Lock)


class Combiner[Item, Answer]:
    """Combines calls of `run`, which returns an answer for each of its items, or raises for all of them.

    Two items with the same key never go together: the later one waits for the next round trip. A key of None equals no
    other. With a `most` of 1 each item goes by itself.
    """

    def __init__(self, run: Callable[[list[Item]], list[Answer | Alone | Exception]], most: int = MOST) -> None:
        self._run = run
        self._most = most
        self._mutex = threading.Lock()
        # Under the mutex. Each open item is in one of these two, or among the followers of a leading one.
        self._waiting: list[_Entry] = []
        self._leading: set[_Entry] = set()
        self._had_company = False

    @property
    def waiting(self) -> int:
        """How many items wait for the next round trip."""
        return len(self._waiting)

    def ask(self, item: Item, key: Hashable = None) -> Answer:
        """The answer to `item`. Raises what `run` raised, or the error that it returned for this item."""
        own = _Entry(item, key)
        if self._most > 1:
            try:
                self._go_or_wait(own)
            finally:
                # Also if this thread is interrupted: no other thread may be left waiting for it.
                self._leave(own)
        if own.answer is ALONE:
            (own.answer,) = self._run([item])
        if isinstance(own.answer, Exception):
            raise own.answer
        answer: Answer = own.answer
        return answer

    def _go_or_wait(self, own: _Entry) -> None:
        with self._mutex:
            if self._leading:
                self._had_company = True
                own.sleeping.acquire()
                self._waiting.append(own)
            else:
                self._leading.add(own)
        if own not in self._leading:
            self._wait(own)
        if own in self._leading:
            self._go(own)

    def _wait(self, own: _Entry) -> None:
        if own.sleeping.acquire(timeout=COMPANY_SECONDS):
            return
        with self._mutex:
            if own in self._waiting:
                self._waiting.remove(own)
                self._leading.add(own)
        if own not in self._leading:
            own.sleeping.acquire(timeout=TAKEN_SECONDS)

    def _go(self, own: _Entry) -> None:
        """Go with all that wait, and note each one's answer."""
        self._let_others_come()
        with self._mutex:
            self._take(own)
        group = [own, *own.followers]
        try:
            answers = self._run([entry.item for entry in group])
        except Exception as error:  # noqa: BLE001  each thread raises it
            answers = [error] * len(group)
        for entry, answer in zip(group, answers, strict=True):
            entry.answer = answer

    def _leave(self, own: _Entry) -> None:
        """Stop waiting and leading. Wake the followers, and if no thread leads now, the one that waited longest."""
        with self._mutex:
            if own in self._waiting:
                self._waiting.remove(own)
            if own not in self._leading:
                return
            self._leading.remove(own)
            if self._waiting and not self._leading:
                following = self._waiting.pop(0)
                self._leading.add(following)
                following.sleeping.release()
            for follower in own.followers:
                follower.sleeping.release()

    def _let_others_come(self) -> None:
        """Yield to threads that are ready to run, until no further one has come.

        Without the mutex, which the coming threads need. A count that is read too early only costs one more turn.
        """
        came = -1
        while self._had_company and came < self.waiting < self._most - 1:
            came = self.waiting
            time.sleep(YIELD_SECONDS)
        self._had_company = self._had_company and came != 0

    def _take(self, leader: _Entry) -> None:
        """Move the waiting items that may go together with the leader's to its followers."""
        keys, taken, left = {leader.key} - {None}, list[_Entry](), list[_Entry]()
        for entry in self._waiting:
            if len(taken) < self._most - 1 and entry.key not in keys:
                keys |= {entry.key} - {None}
                taken.append(entry)
            else:
                left.append(entry)
        leader.followers, self._waiting = taken, left
