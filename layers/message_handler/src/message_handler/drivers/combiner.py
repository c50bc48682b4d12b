"""Combines what several threads ask of one store at the same moment, as databases combine commits.

    thread 1  asks ── goes at once, alone ──┐ answered
    thread 2      asks ── waits ────────────┴─ goes for all that wait ──┐ answered
    thread 3         asks ── waits ─────────────────────────────────────┘ answered

The records of a batch take their steps at about the same time: ten of them need one round trip, and one transaction.
A thread that is alone waits for no other. A thread waits at most `COMPANY_SECONDS` for another's round trip; then it
goes itself. One thread's trouble is not another's: a thread that got no answer with the others asks again, alone.
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
#: A thread that is about to go yields this long to others on their way here, if the last round trip had company.
YIELD_SECONDS = 0.00005


class Alone(Enum):
    """In place of an answer: this item must go by itself."""

    ALONE = "alone"


ALONE: Final = Alone.ALONE


@dataclass(slots=True, eq=False)
class _Asked:
    """One thread's item, and its answer."""

    item: Any
    key: Hashable
    answer: Any = ALONE
    #: The other threads' items that this thread takes along.
    followers: list[_Asked] = field(default_factory=list)
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
        self._waiting: list[_Asked] = []
        self._leading: set[_Asked] = set()
        self._crowded = False

    @property
    def waiting(self) -> int:
        """How many items wait for the next round trip."""
        return len(self._waiting)

    def ask(self, item: Item, key: Hashable = None) -> Answer:
        """The answer to `item`. Raises what `run` raised, or the error that it returned for this item."""
        mine = _Asked(item, key)
        if self._most > 1:
            try:
                self._go_or_wait(mine)
            finally:
                # Also if this thread is interrupted: no other thread may be left waiting for it.
                self._leave(mine)
        if mine.answer is ALONE:
            (mine.answer,) = self._run([item])
        if isinstance(mine.answer, Exception):
            raise mine.answer
        answer: Answer = mine.answer
        return answer

    def _go_or_wait(self, mine: _Asked) -> None:
        with self._mutex:
            if self._leading:
                self._crowded = True
                mine.sleeping.acquire()
                self._waiting.append(mine)
            else:
                self._leading.add(mine)
        if mine not in self._leading:
            self._wait(mine)
        if mine in self._leading:
            self._go(mine)

    def _wait(self, mine: _Asked) -> None:
        if mine.sleeping.acquire(timeout=COMPANY_SECONDS):
            return
        with self._mutex:
            if mine in self._waiting:
                self._waiting.remove(mine)
                self._leading.add(mine)
        if mine not in self._leading:
            mine.sleeping.acquire(timeout=TAKEN_SECONDS)

    def _go(self, mine: _Asked) -> None:
        """Go with all that wait, and note each one's answer."""
        self._let_others_come()
        with self._mutex:
            self._take(mine)
        group = [mine, *mine.followers]
        try:
            answers = self._run([asked.item for asked in group])
        except Exception as error:  # noqa: BLE001  each thread raises it
            answers = [error] * len(group)
        for asked, answer in zip(group, answers, strict=True):
            asked.answer = answer

    def _leave(self, mine: _Asked) -> None:
        """Stop waiting and leading. Wake the followers, and if no thread leads now, the one that waited longest."""
        with self._mutex:
            if mine in self._waiting:
                self._waiting.remove(mine)
            if mine not in self._leading:
                return
            self._leading.remove(mine)
            if self._waiting and not self._leading:
                following = self._waiting.pop(0)
                self._leading.add(following)
                following.sleeping.release()
            for follower in mine.followers:
                follower.sleeping.release()

    def _let_others_come(self) -> None:
        """Yield to threads that are ready to run, until no further one has come.

        Without the mutex, which the coming threads need. A count that is read too early only costs one more turn.
        """
        came = -1
        while self._crowded and came < self.waiting < self._most - 1:
            came = self.waiting
            time.sleep(YIELD_SECONDS)
        self._crowded = self._crowded and came != 0

    def _take(self, leader: _Asked) -> None:
        """Move the waiting items that may go together with the leader's to its followers."""
        keys, taken, left = {leader.key} - {None}, list[_Asked](), list[_Asked]()
        for asked in self._waiting:
            if len(taken) < self._most - 1 and asked.key not in keys:
                keys |= {asked.key} - {None}
                taken.append(asked)
            else:
                left.append(asked)
        leader.followers, self._waiting = taken, left
