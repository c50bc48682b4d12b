"""Which bot answers, and from where its configuration comes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from message_handler.bot_config import REDACTED, BotConfigService
from message_handler.errors import Conflict, NotFound
from message_handler.models import Job, JobStatus, Message
from message_handler.settings import Settings
from message_handler.stores.failover import Failover
from message_handler.stores.memory import MemoryTier
from tests.unit.service import CANARY, KEY, ConfiguredArchive, bot

pytestmark = pytest.mark.usefixtures("output")

BOT = {"bot_id", "name", "description", "language", "is_active", "core_ai_id", "platform_id", "meta_data"}
CORE_AI = {"core_ai_id", "name", "api_endpoint", "auth_required", "auth_token", "timeout_seconds", "meta_data"}
PLATFORM = {"platform_id", "name", "description", "base_url", "auth_required", "meta_data"}
CORE = {
    "core_ai_id": "gpt",
    "name": "GPT",
    "api_endpoint": "https://ai.example/v1",
    "auth_required": True,
    "auth_token": f"sk-{CANARY}",
    "timeout_seconds": 20,
    "meta_data": {},
}


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class SharedTier(MemoryTier):
    """A tier with a cache that several processes share, as Redis has one."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(Settings())
        self.now = clock
        self.kept: dict[str, tuple[float, str]] = {}

    def cached(self, name: str) -> str | None:
        until, text = self.kept.get(name, (0.0, ""))
        return text if until > self.now() else None

    def cache(self, name: str, text: str, seconds: float) -> None:
        self.kept[name] = (self.now() + seconds, text)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tier(clock: Clock) -> SharedTier:
    return SharedTier(clock)


@pytest.fixture
def archive() -> ConfiguredArchive:
    return ConfiguredArchive(nurse=bot("nurse"), asleep=bot("asleep", is_active=False))


@pytest.fixture
def bots(tier: SharedTier, archive: ConfiguredArchive, clock: Clock) -> BotConfigService:
    return BotConfigService(Failover(tier), archive, Settings(configuration_ttl=5), clock)


def another_process(tier: SharedTier, archive: ConfiguredArchive, clock: Clock) -> BotConfigService:
    return BotConfigService(Failover(tier), archive, Settings(configuration_ttl=5), clock)


def answered(archive: ConfiguredArchive, bot_id: str) -> None:
    """The conversation has a turn in the archive."""
    job = Job(KEY.new_job_id(), KEY, JobStatus.PROCESSING, (Message("m", CANARY),), bot_id)
    fence = archive.fence(job, successor_id=KEY.new_job_id(), turns=0)
    assert fence.number is not None
    assert archive.commit(replace(job, status=JobStatus.COMPLETED, reply=CANARY, finished_at=1.0), fence.number)


class TestShape:
    def test_the_default_bot_has_every_field(self, bots: BotConfigService) -> None:
        config = bots.get_bot_config("conv_123")
        assert set(config) == BOT | {"core_ai", "platform"}
        assert set(config["core_ai"]) == CORE_AI
        assert set(config["platform"]) == PLATFORM
        assert config == bots._get_default_bot_config()

    def test_a_configured_bot_has_every_field(self, bots: BotConfigService, archive: ConfiguredArchive) -> None:
        archive.bots["nurse"] = bot("nurse", core_ai_id="gpt", core_ai=CORE)
        config = bots.get_bot_config("conv_123", bot_id="nurse")
        assert set(config) == BOT | {"core_ai", "platform"}
        assert config["name"] == "Bot nurse"
        assert config["core_ai"] == CORE | {"auth_token": REDACTED}

    def test_a_bot_without_a_core_gets_the_simulated_one(self, bots: BotConfigService) -> None:
        core_ai = bots.get_bot_config("conv_123", bot_id="nurse")["core_ai"]
        assert set(core_ai) == CORE_AI
        assert core_ai["api_endpoint"] == "simulated://"

    def test_a_configured_default_bot_is_the_default(self, bots: BotConfigService, archive: ConfiguredArchive) -> None:
        archive.bots["default"] = bot("default", name="Our own")
        assert bots.get_bot_config("conv_123")["name"] == "Our own"

    def test_what_is_served_is_the_callers_own(self, bots: BotConfigService) -> None:
        bots.get_bot_config("conv_123", bot_id="nurse")["core_ai"]["name"] = "changed"
        assert bots.get_bot_config("conv_123", bot_id="nurse")["core_ai"]["name"] != "changed"


class TestSecrets:
    def test_a_token_is_neither_served_nor_cached(
        self, bots: BotConfigService, archive: ConfiguredArchive, tier: SharedTier
    ) -> None:
        archive.bots["nurse"] = bot("nurse", core_ai=CORE)
        served = bots.get_bot_config("conv_123", bot_id="nurse")
        assert served["core_ai"]["auth_token"] == REDACTED
        assert tier.kept
        for place in (served, tier.kept, vars(bots)["_bots"]):
            assert CANARY not in str(place)

    def test_no_token_is_shown_as_none(self, bots: BotConfigService, archive: ConfiguredArchive) -> None:
        archive.bots["nurse"] = bot("nurse", core_ai=CORE | {"auth_token": None})
        assert bots.get_bot_config("conv_123", bot_id="nurse")["core_ai"]["auth_token"] is None


class TestWhich:
    def test_an_unknown_bot_is_not_found(self, bots: BotConfigService) -> None:
        with pytest.raises(NotFound) as refused:
            bots.get_bot_config("conv_123", bot_id=CANARY)
        assert refused.value.field == "bot_id"
        assert CANARY not in str(refused.value)

    def test_an_inactive_bot_is_a_conflict(self, bots: BotConfigService) -> None:
        with pytest.raises(Conflict, match="not active"):
            bots.get_bot_config("conv_123", bot_id="asleep")

    def test_a_conversation_keeps_its_bot(self, bots: BotConfigService, archive: ConfiguredArchive) -> None:
        answered(archive, "nurse")
        assert bots.get_bot_config("conv_123")["bot_id"] == "nurse"
        assert bots.get_bot_config("conv_123", bot_id="nurse")["bot_id"] == "nurse"
        with pytest.raises(Conflict, match="another bot"):
            bots.get_bot_config("conv_123", bot_id="default")
        assert bots.get_bot_config("conv_124")["bot_id"] == "default"

    def test_a_bot_that_only_the_tier_knows_of_is_remembered_for_a_while(
        self, bots: BotConfigService, clock: Clock
    ) -> None:
        bots.belongs_to(KEY, "nurse")
        assert bots.get_bot_config("conv_123")["bot_id"] == "nurse"
        clock.now += 5
        assert bots.get_bot_config("conv_123")["bot_id"] == "default"

    def test_a_conversation_that_gets_its_bot_elsewhere_is_known_soon(
        self, bots: BotConfigService, archive: ConfiguredArchive, clock: Clock
    ) -> None:
        assert bots.get_bot_config("conv_123")["bot_id"] == "default"
        answered(archive, "nurse")
        clock.now += 5
        assert bots.get_bot_config("conv_123")["bot_id"] == "nurse"

    def test_a_bot_that_is_gone_is_not_replaced_by_the_default(
        self, bots: BotConfigService, archive: ConfiguredArchive
    ) -> None:
        answered(archive, "nurse")
        del archive.bots["nurse"]
        with pytest.raises(NotFound):
            bots.get_bot_config("conv_123")


class TestCache:
    def test_postgres_is_asked_once_for_all_conversations(
        self, bots: BotConfigService, archive: ConfiguredArchive
    ) -> None:
        for number in range(10):
            bots.get_bot_config(f"conv_{number}", bot_id="nurse")
        assert archive.asked == ["nurse"]

    def test_postgres_is_asked_once_for_all_processes(
        self, bots: BotConfigService, archive: ConfiguredArchive, tier: SharedTier, clock: Clock
    ) -> None:
        first = bots.get_bot_config("conv_123", bot_id="nurse")
        assert another_process(tier, archive, clock).get_bot_config("conv_123", bot_id="nurse") == first
        assert archive.asked == ["nurse"]

    def test_that_there_is_no_such_bot_is_remembered_too(
        self, bots: BotConfigService, archive: ConfiguredArchive, tier: SharedTier, clock: Clock
    ) -> None:
        for service in (bots, bots, another_process(tier, archive, clock)):
            with pytest.raises(NotFound):
                service.get_bot_config("conv_123", bot_id="nobody")
            assert service.get_bot_config("conv_123")["bot_id"] == "default"
        assert archive.asked == ["nobody", "default"]

    def test_a_change_is_seen_within_twice_the_time_to_live(
        self, bots: BotConfigService, archive: ConfiguredArchive, tier: SharedTier, clock: Clock
    ) -> None:
        late = another_process(tier, archive, clock)
        bots.get_bot_config("conv_123", bot_id="nurse")
        archive.bots["nurse"] = bot("nurse", name="New name")
        clock.now += 4.9
        late.get_bot_config("conv_123", bot_id="nurse")  # the old one, out of the shared cache
        assert bots.get_bot_config("conv_123", bot_id="nurse")["name"] == "Bot nurse"
        clock.now += 5.1
        for service in (bots, late):
            assert service.get_bot_config("conv_123", bot_id="nurse")["name"] == "New name"

    def test_a_bot_that_was_put_to_sleep_stops_answering(
        self, bots: BotConfigService, archive: ConfiguredArchive, clock: Clock
    ) -> None:
        bots.get_bot_config("conv_123", bot_id="nurse")
        archive.bots["nurse"] = bot("nurse", is_active=False)
        clock.now += 10
        with pytest.raises(Conflict):
            bots.get_bot_config("conv_123", bot_id="nurse")

    def test_the_cache_does_not_grow_without_end(self, bots: BotConfigService, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("message_handler.bot_config._MAX_CACHED", 10)
        for number in range(100):
            bots.get_bot_config(f"conv_{number}")
        assert len(vars(bots)["_conversations"]) <= 10


class TestLimits:
    """Somebody writes them into a table by hand."""

    def test_limits_are_served(self, bots: BotConfigService, archive: ConfiguredArchive) -> None:
        limits = {"max_context_messages": 5, "max_context_characters": 0, "color": "blue"}
        archive.bots["nurse"] = bot("nurse", meta_data=limits)
        assert bots.get_bot_config("conv_123", bot_id="nurse")["meta_data"] == limits

    @pytest.mark.parametrize("value", ["many", "5", -1, 2.5, True, None, [], {}])
    def test_a_limit_that_is_none_counts_as_not_set(
        self, bots: BotConfigService, archive: ConfiguredArchive, value: Any
    ) -> None:
        archive.bots["nurse"] = bot("nurse", meta_data={"max_context_messages": value, "color": "blue"})
        assert bots.get_bot_config("conv_123", bot_id="nurse")["meta_data"] == {"color": "blue"}

    @pytest.mark.parametrize("meta_data", [None, [], "text", 1])
    def test_metadata_that_is_no_object_counts_as_empty(
        self, bots: BotConfigService, archive: ConfiguredArchive, tier: SharedTier, meta_data: Any
    ) -> None:
        archive.bots["nurse"] = bot("nurse", meta_data=meta_data)
        assert bots.get_bot_config("conv_123", bot_id="nurse")["meta_data"] == {}
        assert [json.loads(text)["bot"]["meta_data"] for _, text in tier.kept.values()] == [{}]
