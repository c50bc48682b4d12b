"""The time of a POST while Redis is stopped (SIGSTOP), beside a stack without Redis. It prints figures, no verdict.

A function that finds Redis away waits for one timeout. From then on only one call in five seconds waits: it probes. So
the slowest request should take one timeout and Postgres' time. The median should be that of the stack without Redis.
Both stacks run at the same time and are measured in turns, on the same machine.
"""

from __future__ import annotations

import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

from local.stack import LocalStack
from local.stores import start_valkey
from message_handler.settings import Settings
from tests.chaos.clients import new_name
from tests.chaos.history import text_of

_CLIENTS = 4
_ROUNDS = 5
_ROUND_SECONDS = 6.0
#: Production's settings, except the AI's.
_SETTINGS = {"SIMULATED_AI_DELAY_MS": "100"}


def measure(template: Path) -> int:
    """Print the figures. Returns 0, or 1 if a request failed."""
    with tempfile.TemporaryDirectory(prefix="message-handler-chaos-") as folder:
        valkey = start_valkey(Path(folder))
        try:
            # Each has its own Postgres. Its processes are idle while the other stack is measured.
            with (
                LocalStack(template, environment={"REDIS_URL": valkey.url}, settings=_SETTINGS) as frozen,
                LocalStack(template, environment={}, settings=_SETTINGS, redis=False) as without,
            ):
                return _compare(frozen, without, lambda number: valkey.process.send_signal(number))
        finally:
            valkey.process.send_signal(signal.SIGCONT)
            valkey.stop()


def _compare(frozen: LocalStack, without: LocalStack, send: Callable[[signal.Signals], None]) -> int:
    print(f"{_CLIENTS} clients at a time, {_ROUNDS} rounds of {_ROUND_SECONDS:g} s each; milliseconds of a POST")
    _load(frozen)
    _load(without)
    _print("Redis there", _load(frozen))
    send(signal.SIGSTOP)
    first = _load(frozen)
    _print("Redis stopped, the first seconds", first)
    during, compared = _Requests(), _Requests()
    for _ in range(_ROUNDS):
        during += _load(frozen)
        compared += _load(without)
    _print("Redis stopped, breakers open", during)
    _print("without Redis from the start", compared)
    send(signal.SIGCONT)
    time.sleep(Settings().store_retry_after + 1)
    after = _load(frozen)
    _print("Redis goes on", after)
    timeout = Settings().redis_timeout_ms
    slowest, acquire = max(first.milliseconds + during.milliseconds), max(compared.milliseconds)
    bound = f"timeout {timeout} ms + slowest without Redis {acquire:.0f} ms = {timeout + acquire:.0f} ms"
    print(f"slowest {slowest:.0f} ms; {bound}")
    ratio = statistics.median(during.milliseconds) / statistics.median(compared.milliseconds)
    print(f"p50 with the breaker open / p50 without Redis = {ratio:.2f}", flush=True)
    return 1 if first.failed + during.failed + compared.failed + after.failed else 0


class _Requests:
    """The milliseconds of accepted requests, and the number of others."""

    def __init__(self) -> None:
        self.milliseconds: list[float] = []
        self.failed = 0
        self.degraded = 0

    def __iadd__(self, other: _Requests) -> _Requests:
        self.milliseconds += other.milliseconds
        self.failed += other.failed
        self.degraded += other.degraded
        return self


def _load(stack: LocalStack) -> _Requests:
    """One round: each client posts to its own conversations, one request after the other."""
    found, mutex, until = _Requests(), threading.Lock(), time.monotonic() + _ROUND_SECONDS

    def client(_number: int) -> None:
        with requests.Session() as session:
            session.trust_env = False
            while time.monotonic() < until:
                body = {"history": f"<USER>{text_of(new_name('m'))}</USER><br>"}
                began = time.perf_counter()
                response = session.post(f"{stack.url}/conversations/{new_name('c')}/messages", json=body, timeout=40)
                took = (time.perf_counter() - began) * 1000
                with mutex:
                    found.failed += response.status_code != 202
                    found.degraded += response.status_code == 202 and bool(response.json().get("degraded"))
                    found.milliseconds.append(took)

    with ThreadPoolExecutor(_CLIENTS) as clients:
        list(clients.map(client, range(_CLIENTS)))
    return found


def _print(name: str, found: _Requests) -> None:
    ordered = sorted(found.milliseconds)
    p50, p95, p99 = (ordered[int(len(ordered) * share)] for share in (0.5, 0.95, 0.99))
    times = f"p50 {p50:6.1f}  p95 {p95:6.1f}  p99 {p99:6.1f}  max {ordered[-1]:6.1f}"
    answers = f"{len(ordered):5} requests, {found.degraded} degraded, {found.failed} failed"
    print(f"  {name:<34} {times}  {answers}", flush=True)
