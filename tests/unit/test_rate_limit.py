"""A tenant above its rate limit gets a 429, and its message is not kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from message_handler import MessageHandler
from message_handler.bot_config import BotConfigService
from message_handler.domain.errors import Contended, RateLimited, Unavailable
from message_handler.intake import shares
from message_handler.metrics import MOST_PLATFORMS, OTHER_PLATFORMS, Meter
from message_handler.tiers.failover import Failover
from message_handler.tiers.line_tier import LineTier
from message_handler.tiers.memory import MemoryTier
from tests.unit.service import CANARY, Answer, ConfiguredArchive, Service, bot


def limit(service: Service, per_minute: int | None) -> None:
    """Set the rate limit of the tenant's platform."""
    platform = bot("default")["platform"] | {"meta_data": {"rate_limit_per_minute": per_minute} if per_minute else {}}
    archive = ConfiguredArchive(default=bot("default", platform=platform), nurse=bot("nurse", platform=platform))
    tiers = service.parts.tiers
    bots = BotConfigService(tiers, archive, service.parts.settings)
    service.use(archive=archive, bots=bots, intake=replace(service.parts.intake, archive=archive, bots=bots))


def post(service: Service, message_id: str, conversation_id: str = "conv_123", **more: Any) -> Answer:
    message = {"role": "user", "content": f"{CANARY} hello", "message_id": message_id}
    return service.post({"messages": [message], **more}, conversation_id)


class TestPosting:
    def test_a_message_above_the_limit_is_429_with_a_time_to_retry(self, service: Service) -> None:
        limit(service, 3)
        assert [post(service, f"m{n}", f"conv_{n}").status for n in range(3)] == [202] * 3
        refused = post(service, "m3", "conv_3")
        assert refused.status == 429
        assert refused.body["title"] == "Too Many Requests"
        assert refused.headers["Retry-After"] == "20"
        assert service.output.metrics["MessagesThrottled"] == [1]

    def test_nothing_of_it_is_stored(self, service: Service) -> None:
        limit(service, 1)
        post(service, "m0")
        sent = len(service.queue.sent)
        assert post(service, "m1", "conv_9").status == 429
        assert len(service.queue.sent) == sent
        assert [lock.key.conversation_id for lock in service.parts.tiers.tiers[0].locks("default")] == ["conv_123"]

    def test_duplicates_count_too(self, service: Service) -> None:
        limit(service, 2)
        assert [post(service, "m0").status for _ in range(3)] == [202, 202, 429]

    def test_a_request_that_is_sent_round_to_the_conversations_bot_counts_once(self, service: Service) -> None:
        limit(service, 3)
        assert post(service, "m0", bot_id="nurse").status == 202
        forgetful = BotConfigService(service.parts.tiers, service.parts.archive, service.parts.settings)
        service.use(bots=forgetful, intake=replace(service.parts.intake, bots=forgetful))
        assert [post(service, f"m{n}").status for n in (1, 2, 3)] == [202, 202, 429]

    def test_a_request_that_is_wrong_counts_for_nothing(self, service: Service) -> None:
        limit(service, 1)
        assert service.post({"history": 1}).status == 400
        assert post(service, "m0", bot_id="nobody").status == 404
        assert post(service, "m0").status == 202

    def test_each_message_of_a_request_counts(self, service: Service) -> None:
        limit(service, 5)
        three = [{"role": "user", "content": f"{CANARY} {n}", "message_id": f"m{n}"} for n in range(3)]
        assert service.post({"messages": three}).status == 202
        refused = service.post({"messages": three}, "conv_9")
        assert (refused.status, refused.headers.get("Retry-After")) == (429, "12")
        assert service.post({"messages": three[:2]}, "conv_9").status == 202

    def test_a_message_without_words_counts_too(self, service: Service) -> None:
        limit(service, 1)
        photo = {"role": "user", "content": "", "message_id": "p1"}
        assert service.post({"messages": [photo]}).status == 202
        assert post(service, "m1").status == 429

    def test_a_request_with_more_messages_than_a_minutes_needs_all_of_them(self, service: Service) -> None:
        limit(service, 2)
        many = [{"role": "user", "content": f"{CANARY} {n}", "message_id": f"m{n}"} for n in range(9)]
        assert service.post({"messages": many}).status == 202
        refused = service.post({"messages": many}, "conv_9")
        assert (refused.status, refused.headers["Retry-After"]) == (429, "60")

    def test_a_tenant_without_a_limit_of_its_own_has_the_deployments(self, service: Service) -> None:
        settings = service.parts.settings.model_copy(update={"rate_limit_per_minute": 2})
        service.use(settings=settings, intake=replace(service.parts.intake, settings=settings))
        limit(service, None)
        assert [post(service, f"m{n}").status for n in range(3)] == [202, 202, 429]
        service.parts.tiers.tiers[0].store._buckets._buckets.clear()  # type: ignore[attr-defined]
        limit(service, 3)
        assert [post(service, f"n{n}").status for n in range(4)] == [202, 202, 202, 429]

    def test_each_tenants_messages_are_a_metric_of_their_own(self, service: Service) -> None:
        limit(service, 2)
        three = [{"role": "user", "content": f"{CANARY} {n}", "message_id": f"m{n}"} for n in range(3)]
        assert service.post({"messages": three[:2]}).status == 202
        assert service.post({"messages": three}, "conv_9").status == 429
        (line,) = [line for line in service.output.lines if "PlatformMessages" in line]
        (directive,) = line["_aws"]["CloudWatchMetrics"]
        assert sorted(*directive["Dimensions"]) == ["platform", "service"]
        assert (line["platform"], line["PlatformMessages"]) == ("default", [2])

    def test_without_a_limit_no_store_is_asked(self, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        limit(service, None)
        monkeypatch.setattr(MemoryTier, "admit", lambda *_: pytest.fail("it asks a store"))
        assert post(service, "m0").status == 202

    @pytest.mark.parametrize("error", [Unavailable("Redis"), RuntimeError(CANARY)])
    def test_a_limit_that_can_not_be_kept_blocks_no_message(
        self, service: Service, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        limit(service, 1)

        def fail(*_: object) -> float:
            raise error

        monkeypatch.setattr(MemoryTier, "admit", fail)
        assert [post(service, f"m{n}").status for n in range(3)] == [202] * 3
        assert any(
            line["message"] == "the rate limit can't be checked: the request passes" for line in service.output.logs
        )

    def test_while_redis_is_away_each_process_counts_for_itself(self, service: Service) -> None:
        class Away(MemoryTier):
            def admit(self, name: str, per_minute: int, count: int = 1) -> float:
                raise Unavailable("Redis")

        tiers = Failover(Away(service.parts.settings), MemoryTier(service.parts.settings))
        service.use(tiers=tiers, intake=replace(service.parts.intake, tiers=tiers))
        limit(service, 2)
        assert [post(service, f"m{n}").status for n in range(3)] == [202, 202, 429]


REQUESTS = [
    ("intake-get-conversation", "reads", {}),
    ("status-get-job", "reads", {"queryStringParameters": None, "multiValueQueryStringParameters": None}),
    ("status-get-job", "waits", {}),
    ("intake-handoff", "handoffs", {}),
    ("intake-delete-job", "cancels", {}),
    ("intake-delete-message", "cancels", {}),
]


class TestOtherRequests:
    """Each kind has a bucket of its own, at least 60 a minute. Messages go on."""

    @pytest.mark.parametrize(("name", "kind", "changes"), REQUESTS, ids=lambda value: value if value else "")
    def test_above_the_share_is_429_with_a_time_to_retry(
        self, service: Service, monkeypatch: pytest.MonkeyPatch, name: str, kind: str, changes: dict[str, Any]
    ) -> None:
        limit(service, 3)
        monkeypatch.setattr("message_handler.intake.shares.LEAST", 2)
        monkeypatch.setattr("message_handler.intake.shares.PER_MESSAGE", dict.fromkeys(shares.PER_MESSAGE, 1))
        monkeypatch.setattr("message_handler.jobs.time.sleep", lambda _seconds: pytest.fail("it waits"))
        function, event = name.partition("-")[0], service.event(name, **changes)
        assert [service.http(function, event).status == 429 for _ in range(4)] == [False] * 3 + [True]
        refused = service.http(function, event)
        assert refused.headers["Retry-After"] == "20"
        assert kind in refused.body["detail"]
        assert service.output.metrics["RequestsThrottled"] == [1, 1]
        assert post(service, "m0").status == 202

    def test_a_tenant_with_few_messages_still_reaches_a_person(self, service: Service) -> None:
        limit(service, 1)
        post(service, "m0")
        answers = [service.http("intake", service.event("intake-handoff")).status for _ in range(61)]
        assert answers == [200] * 60 + [429]

    def test_one_kind_takes_nothing_from_another(self, service: Service) -> None:
        limit(service, 1)
        post(service, "m0")
        for _ in range(61):
            handed = service.http("intake", service.event("intake-handoff"))
        assert handed.status == 429
        assert service.http("intake", service.event("intake-get-conversation")).status == 200

    def test_a_request_that_is_wrong_counts_for_nothing(self, service: Service) -> None:
        limit(service, 1)
        wrong = service.event("intake-handoff", body="{}")
        assert {service.http("intake", wrong).status for _ in range(70)} == {400}
        assert service.http("intake", service.event("intake-handoff")).status != 429


class TestOneConversation:
    """Too much for one conversation is a 429 for that conversation. No store counts as away."""

    def test_too_many_requests_at_the_same_moment(self, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        def contended(*_: object, **__: object) -> None:
            raise Contended

        with monkeypatch.context() as patch:
            patch.setattr(LineTier, "accept", contended)
            refused = post(service, "m0")
        assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
        assert "degraded" not in post(service, "m0").body

    def test_too_many_messages_that_wait(self, service: Service) -> None:
        settings = service.parts.settings.model_copy(update={"max_waiting": 2})
        tiers = Failover(MemoryTier(settings))
        service.use(tiers=tiers, intake=replace(service.parts.intake, tiers=tiers))
        assert [post(service, f"m{n}").status for n in range(3)] == [202, 202, 429]
        refused = post(service, "m2")
        assert refused.headers["Retry-After"] == "30"
        assert "2 messages" in refused.body["detail"]
        assert post(service, "m1").body["duplicate"]


def test_the_library_raises_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with MessageHandler() as handler:
        config = handler.bots.get_bot_config("conv_123")
        config["platform"]["meta_data"] = {"rate_limit_per_minute": 1}
        monkeypatch.setattr(handler.bots, "get_bot_config", lambda *_, **__: config)
        handler.handle_message_request("conv_123", "<USER>a</USER><br>")
        with pytest.raises(RateLimited) as limited:
            handler.handle_message_request("conv_123", "<USER>b</USER><br>")
    assert (limited.value.status, limited.value.retry_after) == (429, 60)


def test_a_process_names_a_bounded_number_of_tenants_in_metrics() -> None:
    meter, used = Meter(), dict[str, int]()
    for number in range(MOST_PLATFORMS + 5):
        meter.use(f"clinic-{number}", 2)
    meter.use("clinic-0", 1)
    meter.publish_use(used.__setitem__)
    assert len(used) == MOST_PLATFORMS + 1
    assert (used["clinic-0"], used[OTHER_PLATFORMS]) == (3, 10)
    meter.publish_use(lambda *_: pytest.fail("it is published again"))
