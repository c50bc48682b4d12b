"""One conversation with all that surrounds it: a platform, a queue, workers, the sweep, and faults.

Time is virtual. An AI call takes `AI_SECONDS` of it. Each call of a port is a step at which an event can happen.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

from message_handler.ai.port import AI, Completion, Prompt, Watch
from message_handler.archive.memory import MemoryArchive
from message_handler.bot_config import BotConfigService
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.edits import end_of, named
from message_handler.domain.errors import AIError, Conflict, NotFound, Rejected, Unavailable
from message_handler.domain.jobs import Job, JobStatus
from message_handler.domain.messages import Message
from message_handler.domain.records import ArchiveRecord, Outcome, Record
from message_handler.intake import unsending
from message_handler.intake.intake import Intake
from message_handler.intake.requests import MessageRequest, parse_request
from message_handler.intake.responses import rejection
from message_handler.jobs import BackgroundJobManager
from message_handler.operations import interventions, sweeping
from message_handler.ports.archive import Archive
from message_handler.ports.queue import DeadLetter, Queue
from message_handler.ports.tier import Tier
from message_handler.queue.codec import decode, encode
from message_handler.queue.timing import ALONE_FROM, HIDING_SECONDS, MAX_RECEIVE_COUNT, retry_delay
from message_handler.settings import Settings
from message_handler.tiers.failover import Failover
from message_handler.tiers.memory import MemoryLines, MemoryTier
from message_handler.worker.worker import Worker
from tests.contract.chat import Clock
from tests.versions import message_of

AI_SECONDS = 6
#: How long a worker function may run.
FUNCTION_SECONDS = 120.0
SWEEP_SECONDS = 60.0

Side = Literal["before", "after"]


def hiding(receives: int) -> float:
    """How long a record is hidden after its worker died, as `Hiding` has it."""
    return HIDING_SECONDS if receives < ALONE_FROM else retry_delay(receives)


class Crash(BaseException):
    """The process dies between two steps. No `except` of the service may catch this."""


@dataclass
class Steps:
    """Counts the calls of all ports, and lets events happen before or after any of them."""

    names: list[str] = field(default_factory=list)
    plan: dict[tuple[Side, int], Callable[[], None]] = field(default_factory=dict)
    hooks: dict[tuple[Side, str], list[Callable[[], None]]] = field(default_factory=dict)
    muted: bool = False
    #: Is called with the name, arguments and result of each call that returned.
    watch: Callable[[str, tuple[Any, ...], Any], None] = lambda *_: None

    def call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        number = 0
        if not self.muted:
            self.names.append(name)
            number = len(self.names)
            self._happens("before", number, name)
        result = function(*args, **kwargs)
        self.watch(name, args, result)
        if number:
            self._happens("after", number, name)
        return result

    def _happens(self, side: Side, number: int, name: str) -> None:
        for hook in self.hooks.pop((side, name), ()):
            hook()
        if action := self.plan.pop((side, number), None):
            with self.silently():
                action()

    @contextmanager
    def silently(self) -> Iterator[None]:
        """Calls inside are those of other processes: they are not counted, and no event happens at them."""
        before, self.muted = self.muted, True
        try:
            yield
        finally:
            self.muted = before


class Port:
    """Stands for any adapter of a port. Each call of its methods is a step."""

    def __init__(self, label: str, target: Any, steps: Steps) -> None:
        self.label = label
        self.target = target
        self.steps = steps
        self.away = False

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.target, name)
        if not callable(value):
            return value

        def reached(*args: Any, **kwargs: Any) -> Any:
            if self.away:
                raise Unavailable(self.label)
            return getattr(self.target, name)(*args, **kwargs)

        return lambda *args, **kwargs: self.steps.call(f"{self.label}.{name}", reached, *args, **kwargs)


@dataclass
class Delivery:
    """A record in the queue, the time at which it becomes visible, and how often it was received."""

    record: Record | ArchiveRecord
    visible_at: float
    receives: int = 0


@dataclass
class FakeQueue:
    """SQS in virtual time. It delivers at least once, and deletes a record only when its worker says so."""

    clock: Clock
    waiting: list[Delivery] = field(default_factory=list)
    sent: list[tuple[Record | ArchiveRecord, int]] = field(default_factory=list)
    name: str = "fake"
    #: Workers and intake share one memory tier, as in a single process.
    in_process: bool = True

    def ping(self) -> None: ...

    def close(self) -> None: ...

    def dead_letters(self) -> list[DeadLetter]:
        return []

    def count_dead_letters(self) -> int | None:
        return None

    def remove(self, letter: DeadLetter) -> None: ...

    def send(self, record: Record | ArchiveRecord, *, delay: int = 0) -> None:
        copy = decode(encode(record), self.clock())
        assert copy == record
        self.sent.append((copy, delay))
        self.waiting.append(Delivery(copy, self.clock() + delay))

    def next(self) -> Delivery | None:
        return min(self.waiting, key=lambda delivery: delivery.visible_at, default=None)

    def delete(self, delivery: Delivery) -> None:
        self.waiting = [other for other in self.waiting if other is not delivery]


@dataclass
class ScriptedAI:
    """Answers with the JSON list of the messages. `[fail]` in a message makes the call fail."""

    clock: Clock
    prompts: list[Prompt] = field(default_factory=list)
    #: The times at which it was asked.
    asked: list[float] = field(default_factory=list)
    #: The seconds between two calls of `watch`, and what happens before each.
    tick: float = 1.0
    meanwhile: Callable[[], None] = lambda: None
    #: The times at which calls were closed before their end.
    closed: list[float] = field(default_factory=list)
    #: Whether `[fail]` makes it fail.
    fails: bool = True

    def complete(self, prompt: Prompt, watch: Watch) -> Completion:
        self.prompts.append(prompt)
        self.asked.append(self.clock())
        asked = [message.content for message in prompt.messages]
        said = [turn.content for turn in prompt.context if turn.role == "user"]
        assert len(set(asked + said)) == len(asked + said), "the AI is sent the same message twice"
        reply = json.dumps(asked)
        looks = round(AI_SECONDS / self.tick)
        for number in range(1, looks + 1):
            self.clock.advance(self.tick)
            self.meanwhile()
            try:
                watch(reply[: len(reply) * number // looks])
            except BaseException:
                self.closed.append(self.clock())
                raise
        if self.fails and any("[fail]" in content for content in asked):
            raise AIError("ai_failed", "The AI was asked to fail.")
        return Completion(reply)


class SettlingTier(MemoryTier):
    """A memory tier in place of the Postgres tier: its sweep forgets messages that were answered on another tier."""

    def __init__(self, archive: MemoryArchive, settings: Settings, clock: Clock) -> None:
        super().__init__(settings, clock)
        self.name = "postgres"
        self._archive = archive

    def sweep(self, *, older_than: float, platform_id: str | None = None) -> list[Job]:
        store = cast(MemoryLines, self.store)
        for key in list(store.due_at):
            (line,) = self._lines([key])
            alive = line.lease and line.lease.heartbeat_at + self._settings.heartbeat_stale > store.clock()
            if not alive and all(self._archive.settled_by(key, m.message_id) for m in line.waiting()):
                del store.due_at[key], store.lines.kept[key]
        return super().sweep(older_than=older_than, platform_id=platform_id)


@dataclass
class World:
    """The parts under test, with what the platform was told and may expect."""

    tier: Tier
    archive: Archive
    lose: Callable[[World], None]
    clock: Clock
    settings: Settings
    key: ConversationKey
    steps: Steps = field(default_factory=Steps)
    told: dict[str, list[str]] = field(default_factory=dict)
    contents: dict[str, str] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    cancelled: set[str] = field(default_factory=set)
    #: The messages that the platform took back, each with what was answered by then.
    unsent: dict[str, list[str]] = field(default_factory=dict)
    #: The contents that the tier accepted, in that order, and how often each was posted.
    accepted: dict[str, int] = field(default_factory=dict)
    most_receives: int = 0
    #: Records that workers have received and neither kept nor deleted yet.
    in_hand: list[Delivery] = field(default_factory=list)
    orderly: bool = True
    #: The tiers that take over when the first one is away, in this order.
    others: tuple[Tier, ...] = ()

    def __post_init__(self) -> None:
        self.queue = FakeQueue(self.clock)
        self.ai = ScriptedAI(self.clock)
        self.steps.watch = self._watch
        self.store = Port("tier", self.tier, self.steps)
        self.tier = cast(Tier, self.store)
        self.kept = Port("archive", self.archive, self.steps)
        self.archive = cast(Archive, self.kept)
        self.fallbacks = [Port(tier.name, tier, self.steps) for tier in self.others]
        self.sender = cast(Queue, Port("queue", self.queue, self.steps))
        ai = cast(AI, Port("ai", self.ai, self.steps))
        self.tiers = Failover(self.tier, *(cast(Tier, port) for port in self.fallbacks))
        bots = BotConfigService(self.tiers, self.archive, self.settings, self.clock)
        self.worker = Worker(
            self.tiers,
            self.archive,
            self.sender,
            bots,
            lambda _: ai,
            self.settings,
            self.clock,
            sleep=self.clock.advance,
        )
        self.intake = Intake(self.tiers, self.archive, self.sender, bots, self.settings, self.clock)
        self.jobs = BackgroundJobManager(
            self.tiers, self.archive, self.sender, self.intake, platform_id=self.key.platform_id
        )

    def _watch(self, name: str, arguments: tuple[Any, ...], result: Any) -> None:
        if name.endswith(".accept"):
            for message in arguments[0].messages:
                self.accepted[message.content] = self.accepted.get(message.content, 0) + 1
        elif name.endswith(".undo"):
            for message_id in arguments[1]:
                content = self._content_of(message_id)
                self.accepted[content] -= 1
                if not self.accepted[content]:
                    del self.accepted[content]

    def _content_of(self, message_id: str) -> str:
        """The content of the version with this id."""
        found = {id_: content for name, content in self.contents.items() for id_ in version(name, content).possible_ids}
        return self.contents.get(message_id) or found[message_id]

    # What the platform, workers and operators do.

    def posts(self, *message_ids: str, text: str = "", tries: int = 3, **options: Any) -> dict[str, Any] | None:
        """The platform posts messages in one request, and tries again until the answer is `202` or `409`.

        `m0~1` is an edit of m0, which is posted under the same id. It takes half a second to edit a message.
        """
        messages = []
        if any(message_of(name) != name for name in message_ids):
            self.clock.advance(0.5)
        for message_id in message_ids:
            content = self.contents.setdefault(message_id, text or f"text of {message_id}")
            messages.append({"role": "user", "content": content, "message_id": version(message_id, content).message_id})
        request: MessageRequest = parse_request({"messages": messages, **options})
        for _ in range(tries):
            try:
                told = self.intake.handle(self.key, request)
            except (Crash, Unavailable):
                self.clock.advance(1)
            except Rejected as rejected:
                return rejection(rejected)
            else:
                for message_id in message_ids:
                    self.told.setdefault(message_id, [])
                # The response is about the request's own message, its last.
                self.told[message_ids[-1]].append(told["ai_job_id"])
                return told
        return None

    def cancels(self, job_id: str) -> Job | None:
        """The platform cancels a job. None if the answer was `409` or `404` (the tier forgot), or if none came."""
        try:
            job = self.jobs.cancel(job_id)
        except (Conflict, NotFound, Crash, Unavailable):
            return None
        self.cancelled.add(job_id)
        return job

    def unsends(self, message_id: str) -> str | None:
        """The platform takes a message back: `unsent`, `answered`, or `unknown`; None if no answer came."""
        try:
            told = unsending.unsend(self.tiers, self.archive, self.sender, self.key, message_id, self.clock)
        except Conflict:
            return "answered"
        except NotFound:
            return "unknown"
        except (Crash, Unavailable):
            return None
        with self.steps.silently():
            self.unsent.setdefault(message_id, [content for reply in self.replies() for content in reply])
        return str(told["status"])

    def sweeps(self) -> int:
        try:
            sweeping.rescue(self.worker)
            return sweeping.sweep(self.tiers, self.sender)
        except (Crash, Unavailable):
            return 0

    def releases(self) -> bool:
        try:
            return interventions.force_release(self.tiers, self.archive, self.sender, self.key)
        except (Crash, Unavailable):
            return False

    def lock_is_free(self) -> None:
        """The lock was taken away from a silent worker, and no other worker has claimed the job yet."""
        with self.steps.silently():
            self.tier.force_release(self.key)

    def tier_lost(self) -> None:
        """The tier forgets everything."""
        self.orderly = False
        self.lose(self)

    def redis(self, *, away: bool) -> None:
        self.store.away = away

    def postgres(self, *, away: bool) -> None:
        """Also the tier that is in the same database."""
        for port in (self.kept, *self.fallbacks):
            port.away = away and port.label != "memory"

    def outlasts_an_outage(self) -> None:
        """Postgres is away while a worker gets the waiting record 20 times. No record loses one of its few receives."""
        self.postgres(away=True)
        for _ in range(20):
            delivery = self.queue.next()
            assert delivery is not None
            self.delivers(delivery)
        assert self.most_receives == 1
        self.postgres(away=False)

    def delivers(self, delivery: Delivery | None = None, *, seconds: float = FUNCTION_SECONDS) -> Outcome | None:
        """A worker receives a record, by default the next one, and keeps or deletes it. None if the worker died."""
        delivery = delivery or self.queue.next()
        assert delivery is not None
        self.clock.advance(max(0.0, delivery.visible_at - self.clock()))
        delivery.receives += 1
        self.most_receives = max(self.most_receives, delivery.receives)
        delivery.visible_at = math.inf
        self.in_hand.append(delivery)
        try:
            outcome = self.worker.process(delivery.record, self.clock() + seconds, delivery.receives)
        except Crash:
            delivery.visible_at = self.clock() + hiding(delivery.receives)
            return None
        finally:
            self.in_hand.remove(delivery)
        self.outcomes.append(outcome)
        if outcome.retry_in is None:
            self.queue.delete(delivery)
        else:
            delivery.visible_at = self.clock() + outcome.retry_in
        return outcome

    def delivers_all_due(self) -> None:
        """Other workers receive each visible record once."""
        for delivery in [d for d in self.queue.waiting if d.visible_at <= self.clock()]:
            self.delivers(delivery)

    def settles(self) -> World:
        """Let time pass, with workers and the sweep, until no record and no message waits."""
        swept_at = self.clock()
        for _ in range(500):
            delivery, locked = self.queue.next(), self._locked()
            if delivery is None and not locked:
                return self
            if not locked or (delivery and delivery.visible_at <= swept_at + SWEEP_SECONDS):
                self.delivers(delivery)
            else:
                swept_at = max(self.clock(), swept_at + SWEEP_SECONDS)
                self.clock.advance(swept_at - self.clock())
                self.sweeps()
        raise AssertionError("the conversation does not settle")

    def _locked(self) -> bool:
        with self.steps.silently():
            return any(self.tiers.each(lambda tier: tier.lock(self.key)))

    def worker_pauses(self) -> None:
        """The worker pauses for longer than its lease and its record's hiding time. Others do its work meanwhile."""
        for delivery in self.in_hand:
            delivery.visible_at = self.clock() + hiding(delivery.receives)
        self.clock.advance(max([self.settings.heartbeat_stale, *(hiding(d.receives) for d in self.in_hand)]) + 1)
        self.sweeps()
        self.delivers_all_due()

    # The outcome.

    def replies(self) -> list[list[str]]:
        """The contents that each archived reply answers, in order."""
        found = self.archive.conversation(self.key)
        assert found is not None
        return [_answered_in(turn.content) for turn, *_ in found.turns if turn.role == "assistant"]

    def answered(self, *groups: str) -> bool:
        """Whether the replies answer exactly these messages. A string has the ids of one reply, separated by blanks."""
        return self.replies() == [
            [self.contents.get(message_id, message_id) for message_id in group.split()] for group in groups
        ]

    def _later_versions(self, message_id: str) -> list[str]:
        """The contents of the versions that were posted after this one."""
        base = message_of(message_id)
        return [content for name, content in self.contents.items() if message_of(name) == base and name > message_id]

    def job(self, job_id: str) -> Job:
        return self.jobs.find(job_id)

    def end_of(self, message_id: str) -> Job:
        """The job that settled a message, or this version of it."""
        own = version(message_id, self.contents[message_id])
        settled = self.archive.settled(self.key, own.possible_ids)
        (name,) = named([own], (), settled, again=True)
        end = end_of(name, settled)
        assert end is not None, f"{message_id} is open"
        job = self.archive.job(self.key.platform_id, end.job_id)
        assert job is not None
        return job

    def chain(self, job_id: str) -> list[Job]:
        """A job and those that it leads to."""
        jobs = [self.job(job_id)]
        while (successor := jobs[-1].superseded_by) and len(jobs) < 50:
            jobs.append(self.job(successor))
        return jobs

    def checked(self) -> World:
        """Assert all promises: no message is lost or answered twice, and each promised job leads to its answer."""
        self.steps.muted = True
        assert not self.queue.waiting
        assert not any(self.tiers.each(lambda tier: tier.lock(self.key)))
        replies = self.replies()
        answered = [content for reply in replies for content in reply]
        assert len(set(answered)) == len(answered), f"answered twice: {replies}"
        found = self.archive.conversation(self.key)
        assert found is not None
        said = [turn.content for turn, *_ in found.turns if turn.role == "user"]
        assert len(set(said)) == len(said), f"archived twice: {said}"
        for message_id, jobs in self.told.items():
            end = self.end_of(message_id)
            content = self.contents[message_id]
            assert end.status.ended
            replaced = content not in said
            assert not replaced or any(later in said for later in self._later_versions(message_id))
            if replaced:
                assert content not in answered
            elif end.status is JobStatus.COMPLETED:
                assert content in answered, f"{message_id} was not answered"
                assert content in _answered_in(end.reply or "")
            else:
                assert content not in answered
            if message_of(message_id) in self.unsent:
                assert content not in answered or content in self.unsent[message_of(message_id)]
                continue
            for told in jobs:
                chain = self.chain(told)
                assert all(job.status.ended for job in chain), [job.status for job in chain]
                ids = [job.job_id for job in chain]
                assert len(set(ids)) == len(ids), "jobs lead in a circle"
                same = any((job.status, job.reply, job.error) == (end.status, end.reply, end.error) for job in chain)
                assert end.job_id in ids or same, f"{message_id} was promised a job that does not lead to its end"
        for job_id in self.cancelled:
            assert self.job(job_id).status.ended
        if self.orderly:
            # An edit may have the place of the version that it replaces.
            order = [content for content in self.accepted if message_of(content) == content]
            assert [c for c in answered if c in order] == sorted(filter(order.__contains__, answered), key=order.index)
        assert self.most_receives <= MAX_RECEIVE_COUNT, "a record would go to the dead letters"
        self.steps.muted = False
        return self


def version(name: str, content: str) -> Message:
    """The version of a message with this name: `m0` is m0's first version, and `m0~1` an edit of it."""
    return Message(message_of(name), content, given=True)


def last_message(record: Record) -> Record:
    """The record as an older release wrote it: with its own message alone."""
    return replace(record, request=replace(record.request, messages=record.request.messages[-1:]))


def records(world: World) -> list[Delivery]:
    """The records of messages that wait in the queue."""
    return [delivery for delivery in world.queue.waiting if isinstance(delivery.record, Record)]


def archive_records(world: World) -> list[Delivery]:
    """The archive records that wait in the queue for Postgres."""
    return [delivery for delivery in world.queue.waiting if isinstance(delivery.record, ArchiveRecord)]


def _answered_in(reply: str) -> list[str]:
    """The contents that a reply answers. In a raised conversation, the way to a human stands behind them."""
    contents: list[str] = json.loads(reply.partition("\n\n")[0])
    return contents
