"""A process of the service, built as in production. Each call that leaves it goes through a port and is a step."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from message_handler.ai.port import AI, Completion, Prompt, Watch
from message_handler.bot_config import BotConfigService
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import AIError
from message_handler.drivers.breaker import CircuitBreaker
from message_handler.intake.intake import Intake
from message_handler.jobs import BackgroundJobManager
from message_handler.ports.archive import Archive
from message_handler.ports.queue import Queue
from message_handler.ports.tier import Tier
from message_handler.settings import Settings
from message_handler.tiers.failover import Failover
from message_handler.tiers.line_tier import LineTier
from message_handler.tiers.memory import MemoryLines
from message_handler.worker.worker import Worker
from tests.contract.world import AI_SECONDS
from tests.simulation.scheduler import Violation
from tests.simulation.stores import SharedLines

if TYPE_CHECKING:
    from tests.simulation.sqs import Delivery
    from tests.simulation.world import World

SETTINGS = Settings()
KEY = ConversationKey("default", "patient")


class Tiers:
    """A process's tier. Each load and save of the tier's step is a step of the simulation, under that step's name."""

    def __init__(self, world: World, tier: LineTier) -> None:
        self._world = world
        self._tier = tier

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._tier, name)
        if not callable(value):
            return value
        return lambda *args, **kwargs: self._world.does(self._tier.name, name, lambda: value(*args, **kwargs), args)


class Port:
    """Stands for any adapter of a process's port. Each call of its methods is a step."""

    def __init__(
        self,
        world: World,
        process: Process,
        label: str,
        target: Any,
        breaker: CircuitBreaker | None = None,
    ) -> None:
        self._world = world
        self._process = process
        self._label = label
        self._target = target
        self._breaker = breaker

    @property
    def away(self) -> bool:
        return self._breaker is not None and self._breaker.is_open

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if not callable(value):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            if name == "save" and isinstance(self._target, SharedLines):
                return self._target.take(self._world.doing, *args)
            return value(*args, **kwargs)

        def step(*args: Any, **kwargs: Any) -> Any:
            return self._world.step(
                self._process, self._label, name, self._breaker, lambda: call(*args, **kwargs), args
            )

        return step


class Process:
    """A warm Lambda environment. Its breakers, caches and memory end with it."""

    def __init__(self, world: World, name: str) -> None:
        clock, self.name = world.clock, name
        self.alive = True
        #: The record that the process works on.
        self.delivery: Delivery | None = None
        self.redis_away = False
        redis = CircuitBreaker("Redis", SETTINGS.store_retry_after, clock)
        postgres = CircuitBreaker("Postgres", SETTINGS.store_retry_after, clock)
        memory = MemoryLines(SETTINGS, clock, unclaimed_seconds=SETTINGS.heartbeat_stale)

        def port(label: str, target: Any, breaker: CircuitBreaker | None = None) -> Any:
            return Port(world, self, label, target, breaker)

        def tier(label: str, target: MemoryLines, breaker: CircuitBreaker | None = None) -> Tier:
            # A pause after a conflict takes no time, but other actors may go on.
            made = LineTier(port(label, target, breaker), SETTINGS, clock, sleep=lambda _: world.scheduler.pause())
            return cast(Tier, Tiers(world, made))

        self.tiers = Failover(
            tier("redis", world.redis, redis), tier("postgres", world.postgres, postgres), tier("memory", memory)
        )
        self.archive = cast(Archive, port("archive", world.archive, postgres))
        self.queue = cast(Queue, port("queue", world.queue))
        ai = cast(AI, port("ai", world.ai))
        bots = BotConfigService(self.tiers, self.archive, SETTINGS, clock)
        self.intake = Intake(self.tiers, self.archive, self.queue, bots, SETTINGS, clock)
        worker = Worker(self.tiers, self.archive, self.queue, bots, lambda _: ai, SETTINGS, clock)
        self.worker = replace(worker, sleep=world.scheduler.sleep)
        self.jobs = BackgroundJobManager(self.tiers, self.archive, self.queue, self.intake, platform_id=KEY.platform_id)


class SlowAI:
    """Answers after a while with a JSON list: the messages and a number, so that no two answers are equal.

    `[fail]` in a message makes the call fail.
    """

    def __init__(self, world: World, looks: int) -> None:
        self._world = world
        self._looks = looks
        self.calls = 0

    def complete(self, prompt: Prompt, watch: Watch) -> Completion:
        self.calls += 1
        asked = [message.content for message in prompt.messages]
        said = [turn.content for turn in prompt.context if turn.role == "user"]
        if len(set(asked + said)) < len(asked + said):
            raise Violation(f"the AI is sent the same message twice: {said} {asked}")
        self._world.note("is asked", asked, said)
        for _ in range(self._looks):
            self._world.scheduler.sleep(AI_SECONDS / self._looks)
            watch("")
        if any("[fail]" in content for content in asked):
            raise AIError("ai_failed", "The AI was asked to fail.")
        return Completion(json.dumps([*asked, f"answer {self.calls}"]))
