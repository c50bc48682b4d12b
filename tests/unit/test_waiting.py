"""Waiting for a job: how many clients may, and what the others get."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from message_handler.domain.errors import Unavailable
from message_handler.queue.codec import decode
from message_handler.settings import Settings
from message_handler.tiers.failover import Failover
from message_handler.tiers.memory import MemoryTier
from tests.unit.service import Service, accept_again


@pytest.fixture
def bounded(service: Service) -> Service:
    """One client of a tenant may wait, and two in all. A job waits for its worker."""
    settings = Settings(max_waits_per_tenant=1, max_waits=2, auth_required=False)
    service.use(settings=settings)
    accept_again(service, service.event("worker-one-record"))
    return service


def takes_place(service: Service, platform_id: str, name: str = "wait") -> None:
    """Let another client of the tenant wait."""
    tier = service.parts.tiers.tiers[0]
    assert tier.begin_wait(platform_id, name, most=100, most_in_all=100)


def no_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(_seconds: float) -> None:
        pytest.fail("it waits")

    monkeypatch.setattr("message_handler.jobs.time.sleep", sleep)


class TestBeyondTheBound:
    @pytest.mark.parametrize("others", [("default",), ("one", "two")], ids=["the tenant's", "all"])
    def test_the_job_is_shown_at_once_as_if_nothing_was_waited_for(
        self, bounded: Service, monkeypatch: pytest.MonkeyPatch, others: tuple[str, ...]
    ) -> None:
        for number, tenant in enumerate(others):
            takes_place(bounded, tenant, f"wait-{number}")
        no_sleep(monkeypatch)
        plain = bounded.event("status-get-job", queryStringParameters=None, multiValueQueryStringParameters=None)
        at_once = bounded.http("status", plain)
        refused = bounded.http("status", bounded.event("status-get-job"))
        assert (refused.status, refused.body) == (200, at_once.body)
        assert int(refused.headers["Retry-After"]) >= 1
        assert "Retry-After" not in at_once.headers
        assert bounded.output.metrics["WaitsRefused"] == [1.0]

    def test_a_job_that_has_ended_is_shown_without_a_place(
        self, bounded: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bounded.invoke("worker", bounded.event("worker-one-record"))
        takes_place(bounded, "default")
        monkeypatch.setattr(MemoryTier, "begin_wait", lambda *_, **__: pytest.fail("it asks for a place"))
        answer = bounded.http("status", bounded.event("status-get-job"))
        assert (answer.status, answer.body["status"]) == (200, "completed")
        assert "Retry-After" not in answer.headers

    def test_a_request_that_does_not_wait_needs_no_place(
        self, bounded: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(MemoryTier, "begin_wait", lambda *_, **__: pytest.fail("it asks for a place"))
        plain = bounded.event("status-get-job", queryStringParameters=None, multiValueQueryStringParameters=None)
        assert bounded.http("status", plain).status == 200


class TestWithAPlace:
    def test_a_client_waits_to_the_end_and_leaves_its_place(self, bounded: Service) -> None:
        tier = bounded.parts.tiers.tiers[0]
        waits, ended = threading.Event(), []
        begin, end = tier.begin_wait, tier.end_wait

        def begin_wait(*arguments: Any, **options: Any) -> bool:
            may_wait = begin(*arguments, **options)
            waits.set()
            return may_wait

        def end_wait(*arguments: Any) -> None:
            ended.append(arguments)
            end(*arguments)

        tier.begin_wait, tier.end_wait = begin_wait, end_wait  # type: ignore[method-assign]
        record = decode(bounded.event("worker-one-record")["Records"][0]["body"])
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(bounded.http, "status", bounded.event("status-get-job"))
            assert waits.wait(10)
            bounded.parts.worker.process(record, deadline=float("inf"))
            assert answer.result(15).body["status"] == "completed"
        assert "Retry-After" not in answer.result().headers
        assert len(ended) == 1
        takes_place(bounded, "default")

    def test_a_wait_that_fails_leaves_its_place(self, bounded: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        def sleep(_seconds: float) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr("message_handler.jobs.time.sleep", sleep)
        assert bounded.http("status", bounded.event("status-get-job")).status == 500
        tier = bounded.parts.tiers.tiers[0]
        assert tier.begin_wait("default", "next", most=1, most_in_all=1)

    def test_a_store_that_goes_away_meanwhile_spoils_no_answer(
        self, bounded: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(*_: object) -> None:
            raise Unavailable("Redis")

        monkeypatch.setattr(bounded.parts.tiers.tiers[0], "end_wait", away)
        event = bounded.event(
            "status-get-job", queryStringParameters={"wait": "1"}, multiValueQueryStringParameters={"wait": ["1"]}
        )
        answer = bounded.http("status", event)
        assert (answer.status, answer.body["status"]) == (200, "pending")

    def test_while_redis_is_away_the_next_tier_counts(self, bounded: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        def away(*_: object, **__: object) -> bool:
            raise Unavailable("Redis")

        first = bounded.parts.tiers.tiers[0]
        monkeypatch.setattr(first, "begin_wait", away)
        second = MemoryTier(bounded.parts.settings)
        bounded.use(tiers=Failover(first, second))
        assert second.begin_wait("default", "other", most=1, most_in_all=2)
        no_sleep(monkeypatch)
        answer = bounded.http("status", bounded.event("status-get-job"))
        assert (answer.status, "Retry-After" in answer.headers) == (200, True)
