"""The whole product over stores and processes that tests can break, and the record of all events."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from local.runtime import Environment
from local.stack import FunctionError, LocalStack
from tests.chaos.clients import Platform
from tests.chaos.history import (
    AFTERMATH_SECONDS,
    ENDED,
    Asked,
    Fault,
    History,
    JobRow,
    Part,
    Rest,
    SettledRow,
    TurnRow,
)
from tests.chaos.stores import FaultyPostgres, FaultyValkey

#: Deadlines much shorter than production's. They nest alike: AI 8 s < run 20 s < lock 40 s.
QUICK = {
    "SIMULATED_AI_DELAY_MS": "300-900",
    "AI_TIMEOUT": "8",
    "RUN_SECONDS": "20",
    "LOCK_TTL": "40",
    "HEARTBEAT_EVERY": "1",
    "HEARTBEAT_STALE": "3",
    "WAKE_AFTER": "5",
    "JOIN_DELAY": "6",
    "REDIS_TIMEOUT_MS": "500",  # production's 200, and the cost of the proxies on a machine with two cores
    "STORE_RETRY_AFTER": "1",
    "STORE_BACK_OFF": "4",
    "DATABASE_TIMEOUT": "1",
    "CONFIGURATION_TTL": "1",
}
_HURRY_EVERY_SECONDS = 5.0
_QUEUES = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed")


class Deployment:
    """The template on the local host, its stores behind proxies. `history` keeps all events.

    `settings` are the functions' variables. The sweep runs on its schedule and every `sweep_every` seconds (0: on its
    schedule alone). A record that was received, but that no worker began with, comes back after `visibility` seconds
    (None: the template's).
    """

    def __init__(
        self,
        *,
        template: Path = Path("template.yaml"),
        settings: Mapping[str, str] = QUICK,
        sweep_every: float = 2.0,
        visibility: int | None = 30,
        log_file: Path | None = None,
    ) -> None:
        self._template = template
        self._settings = settings
        self._sweep_every = sweep_every
        self._visibility = visibility
        self._log_file = log_file
        self._cleanup = ExitStack()
        self._stopping = threading.Event()
        self._receipts: dict[str, str] = {}  # of received records that are not deleted
        self.receives: dict[str, int] = {}  # how often each record was received
        self.history = History()
        self.platform = Platform(self.history, self._stopping)
        self.poison = 0  # records in the dead letters that the run itself made
        self.valkey: FaultyValkey
        self.postgres: FaultyPostgres
        self.stack: LocalStack

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._cleanup.close()

    def _start(self) -> None:
        folder = Path(self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="message-handler-chaos-")))
        folder.chmod(0o711)  # Postgres may run as another user
        self.valkey = FaultyValkey(folder / "valkey")
        self._cleanup.callback(self.valkey.stop)
        self.postgres = FaultyPostgres(folder / "postgres")
        self._cleanup.callback(self.postgres.stop)
        stores = {"REDIS_URL": self.valkey.url, "DATABASE_URL": self.postgres.url}
        self.stack = LocalStack(self._template, environment=stores, settings=self._settings, log_file=self._log_file)
        self._cleanup.enter_context(self.stack)
        self.platform.url = self.stack.url
        self._cleanup.callback(self._stopping.set)  # before the stack goes
        events = self.stack.sqs.meta.events
        events.register("after-call.sqs.ReceiveMessage", self._received)
        events.register("provide-client-params.sqs.DeleteMessageBatch", self._deleted)
        if self._visibility is not None:
            self._set_visibility(self._visibility)
        if self._sweep_every:
            threading.Thread(target=self._sweep, name="sweep", daemon=True).start()

    # ── What breaks ──────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def fault(self, part: Part, name: str) -> Iterator[None]:
        """Record a fault for the length of the `with` block."""
        at = time.time()
        try:
            yield
        finally:
            self.history.faults.append(Fault(at, time.time() + AFTERMATH_SECONDS, part, name))

    def processes(self, function: str, conversation: str = "") -> list[Environment]:
        """The function's processes; with `conversation`, those that work on it."""
        found = self.stack.environments(function)
        return [each for each in found if not conversation or conversation.encode() in (each.event or b"")]

    def working_on(self, conversation: str, seconds: float = 15) -> Environment:
        """Wait for a worker process that works on the conversation, and return it."""
        deadline = time.monotonic() + seconds
        while not (found := self.processes("WorkerFunction", conversation)):
            assert time.monotonic() < deadline, f"no worker came for {conversation}"
            time.sleep(0.02)
        return found[0]

    def sweep(self) -> bool:
        """Run the sweep now. False if it failed, as it may while a store is away."""
        try:
            self.stack.invoke("AdminFunction", {"action": "sweep"})
        except FunctionError:
            return False
        return True

    def _sweep(self) -> None:
        while not self._stopping.wait(self._sweep_every):
            self.sweep()

    def hurry(self) -> None:
        """Show all hidden records at once: those put back for later, and those whose worker died.

        A record that a worker is working on is delivered once more.
        """
        from botocore.exceptions import ClientError

        for receipt in tuple(self._receipts.values()):
            with suppress(ClientError):  # it is back already
                self.stack.sqs.change_message_visibility(
                    QueueUrl=self.stack.queue_url("JobQueue"), ReceiptHandle=receipt, VisibilityTimeout=0
                )

    def _received(self, parsed: dict[str, Any], **_: Any) -> None:
        for message in parsed.get("Messages", ()):
            self._receipts[message["MessageId"]] = message["ReceiptHandle"]
            self.receives[message["MessageId"]] = int(message["Attributes"]["ApproximateReceiveCount"])

    def _deleted(self, params: dict[str, Any], **_: Any) -> None:
        gone = {entry["ReceiptHandle"] for entry in params["Entries"]}
        for message_id, receipt in tuple(self._receipts.items()):
            if receipt in gone:
                del self._receipts[message_id]

    def _set_visibility(self, seconds: int) -> None:
        url = self.stack.queue_url("JobQueue")
        self.stack.sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": str(seconds)})

    # ── How it ends ──────────────────────────────────────────────────────────────────────────────

    def settled(self) -> dict[str, SettledRow]:
        """The settled versions of messages, by their inner ids. The first version's is the message's id."""
        rows = self.postgres.query(
            "select conversation_id, message_id, cast(job_id as text), kind, extract(epoch from settled_at)::float8"
            " from settled"
        )
        return {row[1]: SettledRow(*row) for row in rows}

    def waiting(self) -> set[str]:
        """The accepted messages of which no version is settled in Postgres."""
        settled = {row.message_id for row in self.settled().values()}
        return {event.message_id for event in tuple(self.history.posted) if event.accepted} - settled

    def await_settled(self, seconds: float, prefix: str = "") -> set[str]:
        """Wait until all accepted messages are settled, in conversations whose names begin with `prefix`.

        Returns those that are not.
        """
        deadline = time.monotonic() + seconds
        while True:
            accepted = {
                e.message_id for e in tuple(self.history.posted) if e.accepted and e.conversation.startswith(prefix)
            }
            waiting = accepted & self.waiting()
            if not waiting or time.monotonic() > deadline:
                return waiting
            time.sleep(0.25)

    def await_rest(self, seconds: float, tell: Callable[[Rest, int], None] = lambda rest, waiting: None) -> Rest:
        """Wait until the work is done: all settled, no lock, empty queues. Returns the state at the end.

        The sweep brings back or removes the dead letters of an outage. Hidden records are shown at once when all
        messages are settled. Meanwhile `tell` gets the state and the number of waiting messages.
        """
        deadline = time.monotonic() + seconds
        hurried = time.monotonic()
        while True:
            rest, waiting = self.rest(), self.waiting()
            if not (rest.locked or rest.queued or rest.dead_letters or waiting) or time.monotonic() > deadline:
                return rest
            if not (rest.locked or waiting) and time.monotonic() - hurried > _HURRY_EVERY_SECONDS:
                hurried = time.monotonic()
                self.hurry()
            tell(rest, len(waiting))
            time.sleep(0.5)

    def rest(self) -> Rest:
        status, answer = self.platform.call("GET", "/admin/locks")
        locks = answer["locks"] if status == 200 else [{"conversation_id": "unknown: the locks can't be listed"}]
        return Rest(
            [lock["conversation_id"] for lock in locks],
            self.count("JobQueue"),
            self.count("DeadLetterQueue") - self.poison,
        )

    def count(self, queue: str) -> int:
        """The number of records in a queue: visible, delayed or hidden."""
        url = self.stack.queue_url(queue)
        found = self.stack.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(_QUEUES))["Attributes"]
        return sum(int(found[name]) for name in _QUEUES)

    def collect(self, rest: Rest) -> History:
        """The history, with the data of Postgres and the log at the end."""
        history = self.history
        history.rest = rest
        history.settled = list(self.settled().values())
        history.jobs = {
            row[0]: JobRow(*row)
            for row in self.postgres.query(
                "select cast(job_id as text), conversation_id, status, fence, reply, error_code,"
                " cast(superseded_by as text), cast(copy_of as text) from jobs"
            )
        }
        history.turns = [
            TurnRow(*row)
            for row in self.postgres.query(
                "select conversation_id, position, role, content, cast(job_id as text),"
                " extract(epoch from created_at)::float8 from turns order by 1, 2"
            )
        ]
        history.asked, history.fenced_out, history.away = [], [], []
        history.leaks = [leak for leak in history.leaks if not leak.endswith("log")]
        history.read_log(self.stack.log_file)
        return history

    def calls(self, jobs: set[str | None]) -> list[Asked]:
        """The AI calls for these jobs so far."""
        seen = History()
        seen.read_log(self.stack.log_file)
        return [call for call in seen.asked if call.job_id in jobs]

    def look_at_jobs(self, conversation: str = "") -> None:
        """Ask the API for each job that was promised to a client and not yet seen ended."""
        ended = {event.job_id for event in self.history.seen if event.status in ENDED}
        promised = {
            (event.conversation, event.job_id)
            for event in tuple(self.history.posted)
            if event.accepted and event.job_id and event.conversation.startswith(conversation)
        }
        for name, job_id in sorted(promised):
            if job_id and job_id not in ended:
                self.platform.job(name, job_id)
