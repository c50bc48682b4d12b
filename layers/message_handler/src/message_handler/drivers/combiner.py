"""What several threads ask of one store at the same moment goes there together, as commits do within databases.

    thread 1  asks ── goes at once, alone ──┐ heard
    thread 2      asks ── waits ────────────┴─ goes for all that wait ──┐ heard
    thread 3         asks ── waits ─────────────────────────────────────┘ heard

The records of a batch take their steps at about the same time: ten of them are one round trip, and one transaction.
Whoever is alone waits for nobody, and nobody waits long for a round trip that doesn't end: after `COMPANY_SECONDS` it
goes by itself. Nor is one's trouble another's: whoever got no answer with the others asks again, alone, in its own
thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

#: So many go together at most: the records of a full batch.
MOST = 10
#: The longest that one waits for others' round trip before it goes too.
COMPANY_SECONDS = 0.05
#: The longest that one waits for an answer after others went for it too: longer than any store's timeout.
TAKEN_SECONDS = 60.0
#: So long whoever goes next lets the threads run that are on their way here, if there were any the last time.
YIELD_SECONDS = 0.00005


class Alone(Enum):
    """No answer: this one has to go by itself."""

    ALONE = "alone"


ALONE: Final = Alone.ALONE


@dataclass(slots=True, eq=False)
class _Asked:
    """What one thread asks."""

    item: Any
    key: Hashable
    answer: Any = ALONE
    #: Those that this one goes for too.
    followers: list[_Asked] = field(default_factory=list)
    #: Held until its thread has to wake up: it leads, or nobody goes for it any more.
    sleeping: threading.Lock = field(default_factory=threading.Lock)


class Combiner[Item, Answer]:
    """Combines calls of `run`, which answers each of the items that it is given, or raises for all of them.

    Of two items with the same key, unless that is None, the later one waits for the next round trip. With `most` 1 each
    goes by itself.
    """

    def __init__(self, run: Callable[[list[Item]], list[Answer | Alone | Exception]], most: int = MOST) -> None:
        self._run = run
        self._most = most
        self._mutex = threading.Lock()
        # Under the mutex each that asks is in one of the two, or in a leading one's followers.
        self._waiting: list[_Asked] = []
        self._leading: set[_Asked] = set()
        self._crowded = False

    def ask(self, item: Item, key: Hashable = None) -> Answer:
        """The answer to `item`. Raises what `run` raised, or has answered for it."""
        mine = _Asked(item, key)
        if self._most > 1:
            try:
                self._go_or_wait(mine)
            finally:
                # Also where this thread is told to end: nobody waits for it.
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
        """Go, with all that wait, and note each one's answer."""
        self._let_others_come()
        with self._mutex:
            self._take(mine)
        group = [mine, *mine.followers]
        try:
            answers = self._run([asked.item for asked in group])
        except Exception as error:  # noqa: BLE001  each of them raises it
            answers = [error] * len(group)
        for asked, answer in zip(group, answers, strict=True):
            asked.answer = answer

    def _leave(self, mine: _Asked) -> None:
        """Wait and lead no longer: who waits longest goes next if nobody goes, and those that followed wake up."""
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
        """Give way to the threads that are able to run, until none of them has come.

        Without the mutex: whoever comes needs it, and a count that is read an instant too early costs one turn more.
        """
        came = -1
        while self._crowded and came < len(self._waiting) < self._most - 1:
            came = len(self._waiting)
            time.sleep(YIELD_SECONDS)
        self._crowded = self._crowded and came != 0

    def _take(self, leader: _Asked) -> None:
        """Take those out of the waiting that can go together with who leads."""
        keys, taken, left = {leader.key} - {None}, list[_Asked](), list[_Asked]()
        for asked in self._waiting:
            if len(taken) < self._most - 1 and asked.key not in keys:
                keys |= {asked.key} - {None}
                taken.append(asked)
            else:
                left.append(asked)
        leader.followers, self._waiting = taken, left
