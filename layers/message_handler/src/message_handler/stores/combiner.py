"""What several threads ask of one store at the same moment goes there together, as commits do within databases.

    thread 1  asks ── goes at once, alone ──┐ heard
    thread 2      asks ── waits ────────────┴─ goes for all that wait ──┐ heard
    thread 3         asks ── waits ─────────────────────────────────────┘ heard

The records of a batch take their steps at about the same time: ten of them are one round trip, and one transaction.
Whoever is alone waits for nobody, and nobody waits long for a round trip that doesn't end: after `PATIENCE_SECONDS` it
goes by itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Literal

from message_handler.errors import Unavailable

#: So many go together at most: the records of a full batch.
MOST = 10
#: The longest that one waits for others' round trip before it goes too.
PATIENCE_SECONDS = 0.05
#: So long whoever goes next lets the threads run that are on their way here, if there were any the last time.
YIELD_SECONDS = 0.00005


@dataclass(slots=True, eq=False)
class _Asked:
    """What one thread asks. Its state is changed under the combiner's mutex, and once it is taken by who took it."""

    item: Any
    key: Hashable
    state: Literal["waiting", "leading", "taken", "answered"] = "waiting"
    answer: Any = None
    #: Held until its thread has to wake up: it leads, or it is answered.
    sleeping: threading.Lock = field(default_factory=threading.Lock)


class Combiner[Item, Answer]:
    """Combines calls of `run`, which answers each of the items that it is given, or raises for all of them.

    Of two items with the same key, unless that is None, the later one waits for the next round trip.
    """

    def __init__(self, run: Callable[[list[Item]], list[Answer | Exception]], most: int = MOST) -> None:
        self._run = run
        self._most = most
        self._mutex = threading.Lock()
        self._waiting: list[_Asked] = []
        #: How many threads go, or are about to.
        self._leading = 0
        self._crowded = False

    def ask(self, item: Item, key: Hashable = None) -> Answer:
        """The answer to `item`. Raises what `run` raised, or has answered for it."""
        mine = _Asked(item, key)
        with self._mutex:
            if self._leading:
                self._crowded = True
                mine.sleeping.acquire()
                self._waiting.append(mine)
            else:
                self._lead(mine)
        if mine.state != "leading":
            self._wait(mine)
        if mine.state == "leading":
            self._go(mine)
        if isinstance(mine.answer, Exception):
            raise mine.answer
        answer: Answer = mine.answer
        return answer

    def _wait(self, mine: _Asked) -> None:
        if mine.sleeping.acquire(timeout=PATIENCE_SECONDS):
            return
        with self._mutex:
            if mine.state == "waiting":
                self._waiting.remove(mine)
                self._lead(mine)
        if mine.state != "leading":
            mine.sleeping.acquire()

    def _lead(self, asked: _Asked) -> None:
        asked.state = "leading"
        self._leading += 1

    def _go(self, mine: _Asked) -> None:
        """Go, with all that wait, and tell each of them its answer."""
        self._let_others_come()
        with self._mutex:
            group = [mine, *self._taken(mine.key)]
        # A thread that is told to end learned nothing for the others either.
        answers: list[Answer | Exception] = [Unavailable("what was asked together")] * len(group)
        try:
            told = self._run([asked.item for asked in group])
            assert len(told) == len(group)
            answers = told
        except Exception as error:  # noqa: BLE001  each of them raises it
            answers = [error] * len(group)
        finally:
            with self._mutex:
                self._leading -= 1
                if self._waiting and not self._leading:
                    following = self._waiting.pop(0)
                    self._lead(following)
                    following.sleeping.release()
                for asked, answer in zip(group, answers, strict=True):
                    asked.answer = answer
                    if asked is not mine:
                        asked.state = "answered"
                        asked.sleeping.release()

    def _let_others_come(self) -> None:
        """Give way to the threads that are able to run, until none of them has come."""
        came = -1
        while self._crowded and came < len(self._waiting) < self._most - 1:
            came = len(self._waiting)
            time.sleep(YIELD_SECONDS)
        self._crowded = self._crowded and came != 0

    def _taken(self, leader: Hashable) -> list[_Asked]:
        """Take those out of the waiting that can go together with who leads."""
        keys, taken, left = {leader} - {None}, list[_Asked](), list[_Asked]()
        for asked in self._waiting:
            if len(taken) < self._most - 1 and asked.key not in keys:
                keys |= {asked.key} - {None}
                asked.state = "taken"
                taken.append(asked)
            else:
                left.append(asked)
        self._waiting = left
        return taken
