"""Which store serves: the circuit breaker, the order of the tiers, and the reports when one is away."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from message_handler.domain.errors import Unavailable
from message_handler.domain.messages import Message, Request
from message_handler.drivers.breaker import CircuitBreaker
from message_handler.metrics import UNITS, Meter
from message_handler.ports.tier import Tier
from message_handler.settings import Settings
from message_handler.tiers.failover import Failover
from message_handler.tiers.memory import MemoryTier
from tests.unit.service import CANARY, KEY, Service


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Store:
    """A store that counts its calls. It is away while `up` is False."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.breaker = CircuitBreaker("the store", 5, clock)
        self.up = True
        self.calls = 0

    def call(self) -> str:
        with self.breaker.guard():
            self.calls += 1
            if not self.up:
                raise Unavailable("the store")
            return "answer"

    def is_away(self) -> bool:
        try:
            self.call()
        except Unavailable:
            return True
        return False


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> Store:
    return Store(clock)


class TestCircuitBreaker:
    def test_a_store_that_went_away_is_called_once(self, store: Store) -> None:
        store.up = False
        assert all(store.is_away() for _ in range(10))
        assert store.calls == 1
        assert store.breaker.is_open

    def test_after_a_while_one_call_probes(self, store: Store, clock: Clock) -> None:
        store.up = False
        store.is_away()
        clock.now += 5
        assert all(store.is_away() for _ in range(10))
        assert store.calls == 2

    def test_a_probe_that_is_answered_closes_it(self, store: Store, clock: Clock) -> None:
        store.up = False
        store.is_away()
        store.up = True
        assert store.is_away()
        clock.now += 5
        assert store.call() == "answer"
        assert not store.breaker.is_open
        assert store.call() == "answer"

    def test_while_a_probe_is_under_way_no_other_call_waits(self, clock: Clock) -> None:
        breaker, probing, answered = CircuitBreaker("the store", 5, clock), threading.Event(), threading.Event()
        with pytest.raises(Unavailable), breaker.guard():
            raise Unavailable("the store")
        clock.now += 5

        def probe() -> None:
            with breaker.guard():
                probing.set()
                answered.wait(10)

        thread = threading.Thread(target=probe)
        thread.start()
        assert probing.wait(10)
        with pytest.raises(Unavailable), breaker.guard():
            pytest.fail("two probes at once")
        answered.set()
        thread.join()
        with breaker.guard():
            assert not breaker.is_open

    def test_a_refusal_is_an_answer(self, store: Store, clock: Clock) -> None:
        store.up = False
        store.is_away()
        clock.now += 5
        with pytest.raises(ValueError, match="refused"), store.breaker.guard():
            raise ValueError("refused")
        assert not store.breaker.is_open

    def test_a_call_that_was_interrupted_tells_nothing(self, store: Store, clock: Clock) -> None:
        store.up = False
        store.is_away()
        clock.now += 5
        with pytest.raises(KeyboardInterrupt), store.breaker.guard():
            raise KeyboardInterrupt
        assert store.breaker.is_open

    def test_each_change_of_state_is_one_warning(
        self, store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        logger, warnings = logging.getLogger("message_handler.drivers.breaker"), []
        monkeypatch.setattr(logger, "warning", lambda message, **_: warnings.append(message))
        store.up = False
        for _ in range(20):
            store.is_away()
            clock.now += 1
        store.up = True
        clock.now += 5
        for _ in range(20):
            store.call()
        assert warnings == ["a store went away", "a store is back"]


class Away(MemoryTier):
    """A tier that does not answer."""

    def __getattribute__(self, name: str) -> object:
        value = super().__getattribute__(name)
        if not callable(value) or name in ("close", "__class__"):
            return value

        def away(*_: object, **__: object) -> object:
            raise Unavailable(super(Away, self).__getattribute__("name"))

        return away


def tier(name: str, kind: type[MemoryTier] = MemoryTier) -> MemoryTier:
    made = kind(Settings())
    made.name = name  # type: ignore[assignment]
    return made


def request() -> Request:
    return Request(KEY, (Message("m0", CANARY, given=True),), (), "default")


def accepts(tier: Tier) -> str:
    return tier.accept(request(), job_id=KEY.new_job_id(), lock_id="lock").job_id


class TestFailover:
    def test_the_best_tier_that_is_there_serves(self) -> None:
        tiers = Failover(tier("redis", Away), tier("postgres"), tier("memory"))
        served, _ = tiers.first(accepts)
        assert served.name == "postgres"
        assert served.name != tiers.expected

    def test_what_a_lower_tier_knows_is_found(self) -> None:
        lower = tier("postgres")
        accepts(lower)
        found = Failover(tier("redis"), lower).find(lambda tier: tier.waiting(KEY))
        assert found is not None
        assert found[0] is lower

    def test_what_the_tier_that_is_away_may_know_is_not_unknown(self) -> None:
        with pytest.raises(Unavailable, match="redis"):
            Failover(tier("redis", Away), tier("memory")).find(lambda tier: tier.waiting(KEY))

    def test_what_no_tier_knows_is_unknown(self) -> None:
        assert Failover(tier("redis"), tier("memory")).find(lambda tier: tier.waiting(KEY)) is None

    def test_every_tier_that_is_there_is_asked(self) -> None:
        tiers = Failover(tier("redis", Away), tier("postgres"), tier("memory"))
        assert tiers.each(lambda tier: tier.name) == ["redis", "postgres", "memory"]
        assert len(tiers.each(lambda tier: tier.locks("default"))) == 2

    def test_without_any_tier_it_is_unavailable(self) -> None:
        with pytest.raises(Unavailable):
            Failover(tier("redis", Away)).each(lambda tier: tier.locks("default"))
        with pytest.raises(Unavailable):
            Failover(tier("redis", Away)).first(accepts)


class TestMemoryAsTheLastResort:
    """Workers of other processes never see the messages in this process's memory."""

    def test_what_no_worker_here_claims_is_dropped(self, clock: Clock) -> None:
        tier = MemoryTier(Settings(), clock, unclaimed_seconds=15)
        job_id = accepts(tier)
        clock.now += 14
        assert tier.job(job_id) is not None
        clock.now += 1
        assert tier.waiting(KEY) is None
        assert tier.lock(KEY) is None
        assert tier.job(job_id) is None

    def test_what_a_live_worker_holds_is_kept(self, clock: Clock) -> None:
        tier = MemoryTier(Settings(), clock, unclaimed_seconds=15)
        accepts(tier)
        tier.claim(KEY, "worker")
        for _ in range(5):
            clock.now += 14
            assert tier.heartbeat(KEY, "worker") == "valid"

    def test_what_was_answered_here_is_remembered(self, clock: Clock) -> None:
        tier = MemoryTier(Settings(), clock, unclaimed_seconds=15)
        job_id = accepts(tier)
        tier.claim(KEY, "worker")
        sealed = tier.seal(KEY, "worker", ["m0"], next_id="", fenced=False)
        assert sealed.job is not None
        tier.finish(KEY, "worker", sealed.job)
        clock.now += 600
        assert tier.ended_by(KEY, "m0") == job_id


class TestMeter:
    def test_values_are_published_once_with_their_units(self) -> None:
        meter, published = Meter(), []
        meter.add("TimeToLock", 1.5)
        meter.add("MessagesAccepted")
        meter.publish(lambda *value: published.append(value))
        meter.publish(lambda *value: published.append(value))
        assert published == [("TimeToLock", "Milliseconds", 1.5), ("MessagesAccepted", "Count", 1)]

    def test_unpublished_metrics_do_not_grow_without_end(self) -> None:
        meter, published = Meter(), []
        for number in range(25_000):
            meter.add("AITime", number)
        meter.publish(lambda *value: published.append(value))
        assert len(published) <= 10_000
        assert published[-1][2] == 24_999

    def test_there_is_no_unknown_metric(self) -> None:
        with pytest.raises(AssertionError):
            Meter().add("Typo")
        assert all(unit in ("Count", "Milliseconds", "None") for unit in UNITS.values())


class TestTheFunctions:
    def test_a_lower_tier_is_said_in_the_answer_in_the_status_and_in_a_metric(self, service: Service) -> None:
        tiers = Failover(tier("redis", Away), tier("postgres"), tier("memory"))
        parts = service.parts
        service.use(
            tiers=tiers,
            intake=replace(parts.intake, tiers=tiers, meter=service.meter),
        )
        answer = service.post({"history": f"<USER>{CANARY}</USER><br>"})
        assert (answer.status, answer.body["degraded"]) == (202, True)
        status = service.invoke("admin", {"action": "status"})
        assert status["status"] == "degraded"
        assert status["components"]["tier"] == "postgres"
        assert service.http("admin", service.event("admin-health")).status == 200
        assert service.output.metrics["Tier"] == [1]

    def test_what_is_refused_and_what_is_consolidated_is_counted(self, service: Service) -> None:
        for message_id in ("m1", "m2", "m2"):
            service.post({"history": f"<USER>{CANARY} {message_id}</USER><br>", "message_id": message_id})
        service.post({"history": ""})
        metrics = service.output.metrics
        assert metrics["MessagesAccepted"] == [1, 1, 1]
        assert metrics["MessagesConsolidated"] == [1]
        assert metrics["MessagesDuplicate"] == [1]
        assert metrics["MessagesRejected"] == [1]
        assert len(metrics["TimeToLock"]) == 3

    def test_a_run_is_measured(self, service: Service) -> None:
        service.post({"history": f"<USER>{CANARY}</USER><br>"})
        service.deliver()
        metrics = service.output.metrics
        for name in ("QueueWait", "AITime", "TimeToReply"):
            assert metrics[name][0] >= 0
        assert metrics["JobsCompleted"] == [1]

    def test_what_a_broken_ai_says_is_in_no_log(self, service: Service) -> None:
        def breaks(*_: object) -> str:
            raise RuntimeError(f"can't answer {CANARY}")

        service.ai.script = breaks
        service.post({"history": f"<USER>{CANARY}</USER><br>"})
        service.deliver()
        assert service.output.metrics["JobsFailed"] == [1]
        service.output.assert_private()
