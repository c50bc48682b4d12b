"""The execution environments of a function: one at the start, and more while requests wait, up to a limit."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future

from local.logs import FunctionLog
from local.runtime import MAXIMUM_PAYLOAD, Environment, Invocation, Outcome
from local.template import Function

_STOPPED = Outcome.error("Host.Stopped", "the host is stopping")
_HALTED = Outcome.error("Host.Halted", "the function was stopped to try an outage")


class Pool:
    """Gives each event to an idle environment, and starts an environment if none is idle.

    An environment that crashed or timed out is gone; the next invocation gets a new one. At the limit invocations wait
    in order, where AWS would answer 429.
    """

    def __init__(
        self,
        function: Function,
        variables: Mapping[str, str],
        concurrency: int,
        log: FunctionLog,
        *,
        isolated: bool = False,
    ) -> None:
        """`isolated`: the function sees only the packages on PYTHONPATH in `variables`, not those installed here."""
        self._command = [sys.executable, *(["-S"] if isolated else []), "-m", "awslambdaric", function.handler]
        self.function = function
        self.variables = variables
        self._concurrency = concurrency
        self._log = log
        self._changed = threading.Condition()
        self._waiting: deque[Invocation] = deque()
        self._starting: set[Environment] = set()  # have not asked for work yet
        self._idle: set[Environment] = set()  # wait for work
        self._environments: set[Environment] = set()  # these and the busy ones
        self._start_failure: Outcome | None = None
        self._stopped = False
        self._halted = False

    def warm(self) -> None:
        """Start one environment."""
        with self._changed:
            self._start()

    def await_warm(self, seconds: float) -> Outcome | None:
        """Wait until an environment is ready. Returns None, or the reason of a failure."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not self._idle:
                if self._start_failure is not None:
                    return self._start_failure
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    return Outcome.error("Runtime.InitTimeout", f"not ready after {seconds:.0f} seconds")
        return None

    def submit(self, event: bytes) -> Future[Outcome]:
        """Queue an event. In an environment its outcome comes within the function's timeout."""
        invocation = Invocation(event)
        if len(event) > MAXIMUM_PAYLOAD:
            message = f"The event is larger than {MAXIMUM_PAYLOAD} bytes"
            return _settled(invocation, Outcome.error("RequestEntityTooLarge", message))
        with self._changed:
            if self._stopped or self._halted:
                return _settled(invocation, _STOPPED if self._stopped else _HALTED)
            self._waiting.append(invocation)
            self._grow()
            self._changed.notify_all()
        return invocation.outcome

    def environments(self) -> list[Environment]:
        """The environments that run now: starting, idle or busy."""
        with self._changed:
            return list(self._environments)

    def halt(self) -> None:
        """Kill all environments in the middle of their work, and refuse events until `resume`."""
        with self._changed:
            self._halted = True
            abandoned, self._waiting = self._waiting, deque()
            for environment in self._environments:
                environment.kill()
            self._changed.wait_for(lambda: not self._environments, 5)
        for invocation in abandoned:
            _settled(invocation, _HALTED)

    def resume(self) -> None:
        """Accept events again, and start one environment."""
        with self._changed:
            self._halted = False
            self._start_failure = None
            self._start()

    def stop(self, grace_seconds: float) -> None:
        """End all environments: idle ones at once, busy ones after the grace. Returns when all have ended."""
        with self._changed:
            self._stopped = True
            abandoned, self._waiting = self._waiting, deque()
            for environment in self._idle | self._starting:
                environment.kill()
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._environments, grace_seconds)
            for environment in self._environments:
                environment.kill()
            self._changed.wait_for(lambda: not self._environments, 5)
        for invocation in abandoned:
            _settled(invocation, _STOPPED)

    def _grow(self) -> None:
        while len(self._waiting) > len(self._idle) + len(self._starting) and self._has_room():
            self._start()

    def _has_room(self) -> bool:
        return len(self._environments) < self._concurrency

    def _start(self) -> None:
        environment = Environment(
            self.function, self._command, self.variables, self._log, self._next_invocation, self._ended
        )
        self._environments.add(environment)
        self._starting.add(environment)

    def _next_invocation(self, environment: Environment) -> Invocation | None:
        with self._changed:
            self._starting.discard(environment)
            self._idle.add(environment)
            self._changed.notify_all()
            while environment in self._idle and not self._stopped:
                while self._waiting:
                    invocation = self._waiting.popleft()
                    if invocation.begin():
                        self._idle.remove(environment)
                        return invocation
                self._changed.wait()
        return None

    def _ended(self, environment: Environment) -> None:
        victim = None
        with self._changed:
            self._environments.discard(environment)
            self._idle.discard(environment)
            if environment in self._starting:
                # The handler can't be imported. As on AWS, the invocation that needed the environment fails.
                self._starting.remove(environment)
                self._start_failure = environment.failure
                victim = self._waiting.popleft() if self._waiting else None
            if not self._stopped:
                self._grow()
            self._changed.notify_all()
        if victim is not None and environment.failure is not None:
            _settled(victim, environment.failure)


def _settled(invocation: Invocation, outcome: Outcome) -> Future[Outcome]:
    if invocation.begin():
        invocation.outcome.set_result(outcome)
    return invocation.outcome
