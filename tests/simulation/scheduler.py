"""Actors that take turns: each is a coroutine that runs until it pauses, so a schedule is a list of choices.

    worker-1 ──●  pause ─────────────────────▶●──          ● a choice: which actor goes on?
    intake   ─────────▶●── pause ──▶ …

All share one clock. It moves by a tick with each step, and jumps ahead when all actors wait for a later time. The
actors are greenlets: a run has dozens of turns, and to wake a thread for each would take a quarter of the run's time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

from greenlet import greenlet

from tests.contract.chat import Clock

#: The duration of a step in seconds: any two steps have different times.
TICK = 0.01


class Stop(BaseException):
    """The run is over: ends an actor that still waits. No `except` of the service may catch this."""


class Violation(BaseException):
    """A promise was broken. No `except` of the service may catch this on its way to the test."""


def _now() -> float:
    return 0.0


class Actor:
    """Does `work` one step at a time. `ready` tells from which time on (Unix seconds) it can go on."""

    def __init__(self, name: str, work: Callable[[], None], ready: Callable[[], float]) -> None:
        self.name = name
        self.work = work
        self.ready = ready
        self.turns: greenlet | None = None


class Scheduler:
    """Runs actors in the order that `choose` decides.

    `choose` gets the actors that can go on, whether the first of them is the running one, and the seconds until another
    actor can go on. It returns an actor, or None to let that time pass.
    """

    def __init__(
        self, clock: Clock, choose: Callable[[list[Actor], bool, float], Actor | None], max_steps: int
    ) -> None:
        self.clock = clock
        self.steps = 0
        self.current: Actor | None = None
        self.failure: BaseException | None = None
        self._choose = choose
        self._max_steps = max_steps
        self._actors: list[Actor] = []
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self._main = greenlet.getcurrent()

    def add(self, name: str, work: Callable[[], None], ready: Callable[[], float]) -> None:
        """Add an actor whose work begins once it is `ready`."""
        self._actors.append(Actor(name, work, ready))

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Call `action` once so much time has passed."""
        self._timers.append((self.clock() + seconds, action))

    def run(self) -> None:
        """Run until no actor can go on any more. Raises the error of an actor that failed."""
        self._main = greenlet.getcurrent()
        chosen = self._next()
        while chosen is not None:
            chosen = self._turn_of(chosen)
        for actor in self._actors:
            if actor.turns:
                actor.turns.throw(Stop)
        if self.failure:
            raise self.failure

    def _turn_of(self, actor: Actor) -> Actor | None:
        """Let the actor go on until it pauses or ends. Returns the one that is chosen next."""
        if actor.turns is None:
            actor.turns = greenlet(self._live, self._main)
            return cast(Actor | None, actor.turns.switch(actor))
        return cast(Actor | None, actor.turns.switch())

    def pause(self, ready: Callable[[], float] | None = None) -> None:
        """A point at which other actors may go on. The running one goes on once it is `ready` (default: now)."""
        actor = self.current
        assert actor is not None
        self.steps += 1
        if self.steps > self._max_steps:
            raise Violation(f"does not settle within {self._max_steps} steps")
        self.clock.now += TICK
        actor.ready = ready or _now
        chosen = self._next()
        if chosen is actor:
            return
        self._main.switch(chosen)

    def sleep(self, seconds: float) -> None:
        until = self.clock() + seconds
        self.pause(lambda: until)

    def _next(self) -> Actor | None:
        """The actor that goes on now; None if none ever will."""
        while True:
            now = self.clock()
            for timer in [timer for timer in self._timers if timer[0] <= now]:
                self._timers.remove(timer)
                timer[1]()
            moments = [(actor.ready(), actor) for actor in self._actors]
            able = [actor for at, actor in moments if at <= now]
            later = [at for at, _ in moments if at > now] + [at for at, _ in self._timers]
            soonest = min(later, default=math.inf)
            if able:
                running = self.current in able
                if running:
                    able.sort(key=lambda actor: actor is not self.current)
                chosen = self._choose(able, running, soonest - now)
                if chosen:
                    self.current = chosen
                    return chosen
            elif soonest == math.inf:
                self.current = None
                return None
            if soonest < math.inf:
                self.clock.now = soonest

    def _live(self, actor: Actor) -> Actor | None:
        """The actor's whole work. Returns the actor that is chosen at its end."""
        try:
            actor.work()
        except Stop:
            return None
        except BaseException as failure:  # noqa: BLE001  whatever it is, the run has failed with it
            self.failure = failure
            return None
        self._actors.remove(actor)
        return self._next()
