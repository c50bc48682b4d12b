"""Which bot answers, and which store its configuration comes from."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from message_handler.bot_config import BotConfigService
from message_handler.configuration.redaction import REDACTED
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import Conflict, NotFound, Unavailable
from message_handler.domain.jobs import Job, JobStatus
from message_handler.domain.messages import Message
from message_handler.settings import Settings
from message_handler.tiers.failover import Failover
from message_handler.tiers.memory import MemoryTier
from tests.unit.service import CANARY, KEY, ConfiguredArchive, Output, bot

pytestmark = pytest.mark.usefixtures("output")

BOT = {"bot_id", "name", "description", "language", "is_active", "core_ai_id", "platform_id", "meta_data", "revision"}
CORE_AI = {
    "core_ai_id",
    "name",
    "api_endpoint",
    "auth_required",
    "auth_token",
    "auth_host",
    "timeout_seconds",
    "meta_data",
    "revision",
    "fallback",
}
PLATFORM = {"platform_id", "name", "description", "base_url", "auth_required", "meta_data", "safety_rules"}
CORE = {
    "core_ai_id": "gpt",
    "name": "GPT",
    "api_endpoint": "https://ai.example/v1",
    "auth_required": True,
    "auth_token": f"sk-{CANARY}",
    "auth_host": "ai.example",
    "timeout_seconds": 20,
    "meta_data": {},
    "revision": 5,
    "fallback": None,
}
SPARE = {name: value for name, value in CORE.items() if name != "fallback"} | {
    "core_ai_id": "spare",
    "api_endpoint": "https://spare.example:8443/v1",
    "auth_token": f"sk-{CANARY}-spare",
    "auth_host": "spare.example:8443",
}
ARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:ai-token-AbCdE1"
PLATFORM_RECORD = bot("any")["platform"] | {
    "base_url": "https://chat.example",
    "meta_data": {"webhook_secrets": ["whsec_" + base64.b64encode(CANARY.encode() * 4).decode(), ARN]},
}


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class SharedTier(MemoryTier):
    """A tier with a cache that several processes share, like Redis."""

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
    """Let the conversation have a turn in the archive."""
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


def job_of(bot_id: str) -> Job:
    return Job(KEY.new_job_id(), KEY, JobStatus.PROCESSING, (Message("m", "hello"),), bot_id)


class TestSecrets:
    @pytest.fixture
    def archive(self, output: Output) -> ConfiguredArchive:
        """An archive with one bot, which has all kinds of secrets."""
        secrets = PLATFORM_RECORD["meta_data"]["webhook_secrets"]
        output.private.add(secrets[0])
        return ConfiguredArchive(nurse=bot("nurse", core_ai=CORE | {"fallback": SPARE}, platform=PLATFORM_RECORD))

    def test_secrets_are_not_served_shared_or_kept_if_no_job_is_answered(
        self, bots: BotConfigService, output: Output, tier: SharedTier
    ) -> None:
        served = bots.get_bot_config("conv_123", bot_id="nurse")
        assert served["core_ai"]["auth_token"] == REDACTED
        assert served["core_ai"]["fallback"]["auth_token"] == REDACTED
        assert served["platform"]["meta_data"]["webhook_secrets"] == [REDACTED, REDACTED]
        assert tier.kept
        for place in (served, tier.kept, vars(bots)["_bots"], vars(bots)["_revealed"]):
            output.assert_private(str(place))

    def test_no_token_is_shown_as_none(self, bots: BotConfigService, archive: ConfiguredArchive) -> None:
        archive.bots["nurse"] = bot("nurse", core_ai=CORE | {"auth_token": None})
        assert bots.get_bot_config("conv_123", bot_id="nurse")["core_ai"]["auth_token"] is None

    def test_a_job_is_answered_with_them(self, bots: BotConfigService) -> None:
        config = bots.config_of_job(job_of("nurse"))
        assert config["core_ai"] == CORE | {"fallback": SPARE}
        assert config["platform"] == PLATFORM_RECORD
        config["core_ai"]["auth_token"] = "changed"
        assert bots.config_of_job(job_of("nurse"))["core_ai"] == CORE | {"fallback": SPARE}

    def test_secrets_of_an_answered_job_are_neither_served_nor_shared(
        self, bots: BotConfigService, output: Output, tier: SharedTier
    ) -> None:
        bots.config_of_job(job_of("nurse"))
        output.assert_private(str(bots.get_bot_config("conv_123", bot_id="nurse")))
        output.assert_private(str(tier.kept))

    def test_the_shared_copy_lacks_them_so_postgres_is_asked(
        self, bots: BotConfigService, archive: ConfiguredArchive, tier: SharedTier, clock: Clock
    ) -> None:
        bots.get_bot_config("conv_123", bot_id="nurse")
        worker = another_process(tier, archive, clock)
        assert worker.config_of_job(job_of("nurse"))["core_ai"]["auth_token"] == CORE["auth_token"]
        worker.config_of_job(job_of("nurse"))
        assert archive.asked == ["nurse"] * 2

    def test_the_address_of_a_secret_is_shared(
        self, bots: BotConfigService, archive: ConfiguredArchive, tier: SharedTier, clock: Clock
    ) -> None:
        archive.bots["nurse"] = bot("nurse", core_ai=CORE | {"auth_token": ARN})
        assert bots.get_bot_config("conv_123", bot_id="nurse")["core_ai"]["auth_token"] == REDACTED
        worker = another_process(tier, archive, clock)
        assert worker.config_of_job(job_of("nurse"))["core_ai"]["auth_token"] == ARN
        assert archive.asked == ["nurse"]

    def test_what_looks_like_an_address_and_is_none_is_not_shared(
        self, bots: BotConfigService, archive: ConfiguredArchive, output: Output, tier: SharedTier
    ) -> None:
        archive.bots["nurse"] = bot("nurse", core_ai=CORE | {"auth_token": f"arn:aws:secretsmanager:{CANARY}"})
        bots.config_of_job(job_of("nurse"))
        assert tier.kept
        output.assert_private(str(tier.kept))

    def test_while_postgres_is_away_the_process_goes_on_with_what_it_had(
        self, bots: BotConfigService, archive: ConfiguredArchive, clock: Clock
    ) -> None:
        first = bots.config_of_job(job_of("nurse"))
        archive.gone = True
        clock.now += 3600
        assert bots.config_of_job(job_of("nurse")) == first

    @pytest.mark.parametrize("seconds", [0, 3600])
    def test_a_process_that_never_had_them_goes_on_without(
        self, bots: BotConfigService, archive: ConfiguredArchive, tier: SharedTier, clock: Clock, seconds: int
    ) -> None:
        archive.bots["nurse"]["core_ai"]["auth_required"] = False
        bots.get_bot_config("conv_123", bot_id="nurse")
        archive.gone = True
        clock.now += seconds
        config = another_process(tier, archive, clock).config_of_job(job_of("nurse"))
        for core_ai in (config["core_ai"], config["core_ai"]["fallback"]):
            assert (core_ai["auth_token"], core_ai["auth_required"]) == (None, True)
        assert config["platform"]["meta_data"]["webhook_secrets"] == [ARN]
        assert config["name"] == "Bot nurse"

    def test_a_process_without_secrets_has_them_when_postgres_is_back(
        self, bots: BotConfigService, archive: ConfiguredArchive
    ) -> None:
        bots.get_bot_config("conv_123", bot_id="nurse")
        archive.gone = True
        bots.config_of_job(job_of("nurse"))
        archive.gone = False
        assert bots.config_of_job(job_of("nurse"))["core_ai"]["auth_token"] == CORE["auth_token"]

    def test_what_stands_for_one_is_none(self, bots: BotConfigService, archive: ConfiguredArchive) -> None:
        platform = PLATFORM_RECORD | {"meta_data": {"webhook_secrets": [REDACTED]}}
        archive.bots["nurse"] = bot("nurse", core_ai=CORE | {"auth_token": REDACTED}, platform=platform)
        config = bots.config_of_job(job_of("nurse"))
        assert config["core_ai"]["auth_token"] is None
        assert config["platform"]["meta_data"]["webhook_secrets"] == []

    @pytest.mark.parametrize(
        "changed",
        [
            {"api_endpoint": "https://evil.example/v1"},
            {"api_endpoint": "https://ai.example:8443/v1"},
            {"api_endpoint": "http://ai.example/v1"},
            {"api_endpoint": "https://ai.example.evil.example/v1"},
            {"api_endpoint": "https://ai.example@evil.example/v1"},
            {"api_endpoint": "https://evil.example\\@ai.example/v1"},
            {"api_endpoint": "simulated://", "auth_host": None},
            {"auth_host": None},
            {"auth_host": "spare.example"},
        ],
    )
    def test_a_token_goes_to_no_other_host_than_the_one_that_it_was_stored_for(
        self,
        bots: BotConfigService,
        archive: ConfiguredArchive,
        caplog: pytest.LogCaptureFixture,
        changed: dict[str, Any],
    ) -> None:
        """An operator has changed the address in the table by hand."""
        moved = bot("nurse", core_ai=CORE | changed, platform=PLATFORM_RECORD)
        archive.bots["nurse"] = moved
        archive.bots["other"] = bot("other", core_ai=CORE | {"fallback": SPARE | changed | {"auth_required": False}})
        core_ai = bots.config_of_job(job_of("nurse"))["core_ai"]
        assert (core_ai["auth_token"], core_ai["auth_required"]) == (None, True)
        core_ai = bots.config_of_job(job_of("other"))["core_ai"]
        assert core_ai["auth_token"] == CORE["auth_token"]
        assert (core_ai["fallback"]["auth_token"], core_ai["fallback"]["auth_required"]) == (None, True)
        assert [vars(record)["key"] for record in caplog.records] == ["auth_token", "auth_token"]

    def test_the_same_host_is_the_same_however_it_is_written(
        self, bots: BotConfigService, archive: ConfiguredArchive
    ) -> None:
        archive.bots["nurse"] = bot("nurse", core_ai=CORE | {"api_endpoint": "https://AI.example:443/v2?version=1"})
        assert bots.config_of_job(job_of("nurse"))["core_ai"]["auth_token"] == CORE["auth_token"]


def test_a_copy_without_revisions_is_not_what_an_answer_is_given_with(
    tier: SharedTier, archive: ConfiguredArchive, clock: Clock
) -> None:
    """An earlier version shared the copy. The service asks Postgres, if it is there."""
    archive.bots["nurse"] = bot("nurse", core_ai=CORE | {"auth_token": None, "auth_required": False})
    shared = {name: value for name, value in archive.bots["nurse"].items() if name != "revision"}
    text = json.dumps({"until": clock() + 5, "bot": shared})
    tier.cache("bot:default/nurse", text, 60)
    assert another_process(tier, archive, clock).config_of_job(job_of("nurse"))["revision"] == 3
    tier.cache("bot:default/nurse", text, 60)
    archive.gone = True
    assert "revision" not in another_process(tier, archive, clock).config_of_job(job_of("nurse"))


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

    def test_a_conversation_that_begins_again_after_an_erasure_has_its_new_bot(
        self, bots: BotConfigService, archive: ConfiguredArchive, tier: SharedTier, clock: Clock
    ) -> None:
        """Both processes have the earlier bot cached."""
        worker = another_process(tier, archive, clock)
        archive.bots["doctor"] = bot("doctor")
        answered(archive, "nurse")
        assert bots.get_bot_config("conv_123")["bot_id"] == "nurse"
        assert worker.config_of_job(job_of("nurse"))["bot_id"] == "nurse"
        archive.erase(KEY)
        assert worker.config_of_job(job_of("doctor"))["bot_id"] == "doctor"
        assert bots.get_bot_config("conv_123", bot_id="doctor")["bot_id"] == "doctor"

    def test_a_conversation_that_begins_again_without_a_bot_gets_the_default_within_a_minute(
        self, bots: BotConfigService, archive: ConfiguredArchive, tier: SharedTier, clock: Clock
    ) -> None:
        admin = another_process(tier, archive, clock)
        answered(archive, "nurse")
        for process in (bots, admin):
            assert process.get_bot_config("conv_123")["bot_id"] == "nurse"
        archive.erase(KEY)
        admin.forget(KEY)
        assert admin.get_bot_config("conv_123")["bot_id"] == "default"
        clock.now += 60
        assert bots.get_bot_config("conv_123")["bot_id"] == "default"

    def test_an_archived_conversations_bot_is_asked_for_once_a_minute(
        self, bots: BotConfigService, archive: ConfiguredArchive, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[ConversationKey] = []
        bot_of = archive.bot_of
        monkeypatch.setattr(archive, "bot_of", lambda key: asked.append(key) or bot_of(key))
        answered(archive, "nurse")
        for _ in range(12):
            bots.get_bot_config("conv_123")
            bots.get_bot_config("conv_123", bot_id="nurse")
            bots.config_of_job(job_of("nurse"))
            clock.now += 5
        assert len(asked) == 1
        bots.get_bot_config("conv_123")
        assert len(asked) == 2

    def test_while_postgres_is_away_a_conversation_keeps_the_bot_that_it_had(
        self, bots: BotConfigService, archive: ConfiguredArchive, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(_: ConversationKey) -> str | None:
            raise Unavailable("Postgres")

        answered(archive, "nurse")
        bots.get_bot_config("conv_123")
        archive.gone = True
        monkeypatch.setattr(archive, "bot_of", away)
        clock.now += 3600
        assert bots.get_bot_config("conv_123")["bot_id"] == "nurse"
        with pytest.raises(Conflict, match="another bot"):
            bots.get_bot_config("conv_123", bot_id="default")

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

    def test_a_change_is_seen_within_the_time_to_live(
        self, bots: BotConfigService, archive: ConfiguredArchive, tier: SharedTier, clock: Clock
    ) -> None:
        late = another_process(tier, archive, clock)
        bots.get_bot_config("conv_123", bot_id="nurse")
        archive.bots["nurse"] = bot("nurse", name="New name")
        clock.now += 4.9
        late.get_bot_config("conv_123", bot_id="nurse")  # the old one, from the shared cache
        late.config_of_job(job_of("nurse"))
        assert bots.get_bot_config("conv_123", bot_id="nurse")["name"] == "Bot nurse"
        clock.now += 0.1
        for service in (bots, late):
            assert service.get_bot_config("conv_123", bot_id="nurse")["name"] == "New name"
            assert service.config_of_job(job_of("nurse"))["name"] == "New name"

    @pytest.mark.parametrize("refreshing", [False, True])
    def test_a_change_is_seen_though_a_slow_reader_shares_the_old_one(
        self,
        bots: BotConfigService,
        archive: ConfiguredArchive,
        tier: SharedTier,
        clock: Clock,
        monkeypatch: pytest.MonkeyPatch,
        refreshing: bool,
    ) -> None:
        """slow: asks Postgres ── pauses ── operator: writes, shares ── slow: shares the old one ── others read that."""
        slow = another_process(tier, archive, clock)
        asked = archive.configuration
        changed_at = 0.0

        def ask_and_pause(platform_id: str, bot_id: str) -> dict[str, Any] | None:
            nonlocal changed_at
            old = asked(platform_id, bot_id)
            monkeypatch.setattr(archive, "configuration", asked)
            clock.now += 3
            archive.bots["nurse"], changed_at = bot("nurse", name="New name"), clock.now
            bots.refresh("default", ["nurse"])
            clock.now += 1
            return old

        monkeypatch.setattr(archive, "configuration", ask_and_pause)
        if refreshing:
            slow.refresh("default", ["nurse"])
        else:
            assert slow.get_bot_config("conv_123", bot_id="nurse")["name"] == "Bot nurse"
        assert json.loads(tier.kept["bot:default/nurse"][1])["bot"]["name"] == "Bot nurse"
        others = [another_process(tier, archive, clock) for _ in range(5)]
        for other in others:
            clock.now += 0.15
            other.get_bot_config("conv_123", bot_id="nurse")
        clock.now = changed_at + 5
        for service in (slow, bots, *others):
            assert service.get_bot_config("conv_123", bot_id="nurse")["name"] == "New name"

    def test_a_change_is_seen_while_redis_is_away(
        self, bots: BotConfigService, archive: ConfiguredArchive, tier: SharedTier, clock: Clock, monkeypatch: Any
    ) -> None:
        def away(*_: Any) -> Any:
            raise Unavailable("Redis")

        late = another_process(tier, archive, clock)
        late.get_bot_config("conv_123", bot_id="nurse")
        monkeypatch.setattr(tier, "cache", away)
        monkeypatch.setattr(tier, "cached", away)
        archive.bots["nurse"] = bot("nurse", name="New name")
        bots.refresh("default", ["nurse"])
        clock.now += 4.9
        late.get_bot_config("conv_123", bot_id="nurse")
        clock.now += 0.1
        monkeypatch.undo()
        assert late.get_bot_config("conv_123", bot_id="nurse")["name"] == "New name"

    def test_a_bot_that_was_put_to_sleep_stops_answering(
        self, bots: BotConfigService, archive: ConfiguredArchive, clock: Clock
    ) -> None:
        bots.get_bot_config("conv_123", bot_id="nurse")
        archive.bots["nurse"] = bot("nurse", is_active=False)
        clock.now += 5
        with pytest.raises(Conflict):
            bots.get_bot_config("conv_123", bot_id="nurse")

    def test_the_cache_does_not_grow_without_end(self, bots: BotConfigService, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("message_handler.bot_config._MAX_CACHED", 10)
        for number in range(100):
            bots.get_bot_config(f"conv_{number}")
        assert len(vars(bots)["_conversations"]) <= 10


class TestChanges:
    def test_a_refreshed_bot_is_seen_as_soon_as_other_processes_copies_end(
        self, bots: BotConfigService, archive: ConfiguredArchive, tier: SharedTier, clock: Clock
    ) -> None:
        bots.get_bot_config("conv_123", bot_id="nurse")
        bots.config_of_job(job_of("nurse"))
        clock.now += 4.9
        late = another_process(tier, archive, clock)
        late.get_bot_config("conv_123", bot_id="nurse")  # the old one, from the shared cache
        archive.bots["nurse"] = bot("nurse", name="New name")
        bots.refresh("default", ["nurse"])
        assert bots.get_bot_config("conv_123", bot_id="nurse")["name"] == "New name"
        assert bots.config_of_job(job_of("nurse"))["name"] == "New name"
        assert another_process(tier, archive, clock).get_bot_config("conv_123", bot_id="nurse")["name"] == "New name"
        clock.now += 5
        assert late.get_bot_config("conv_123", bot_id="nurse")["name"] == "New name"

    def test_a_deleted_bot_is_gone_everywhere_after_a_refresh(
        self, bots: BotConfigService, archive: ConfiguredArchive, tier: SharedTier, clock: Clock
    ) -> None:
        bots.get_bot_config("conv_123", bot_id="nurse")
        del archive.bots["nurse"]
        bots.refresh("default", ["nurse"])
        for service in (bots, another_process(tier, archive, clock)):
            with pytest.raises(NotFound):
                service.get_bot_config("conv_123", bot_id="nurse")

    def test_what_can_not_be_read_now_is_read_soon(
        self, bots: BotConfigService, archive: ConfiguredArchive, clock: Clock
    ) -> None:
        bots.get_bot_config("conv_123", bot_id="nurse")
        archive.bots["nurse"], archive.gone = bot("nurse", name="New name"), True
        bots.refresh("default", ["nurse"])
        archive.gone = False
        clock.now += 5
        assert bots.get_bot_config("conv_123", bot_id="nurse")["name"] == "New name"

    def test_the_default_bot_answers_for_its_platform_if_it_is_not_configured(
        self, bots: BotConfigService, archive: ConfiguredArchive
    ) -> None:
        archive.bots["default"] = bot("default", platform=PLATFORM_RECORD) | {"bot_id": None}
        config = bots.config_of_job(job_of("default"))
        assert config == bots._get_default_bot_config() | {"platform": PLATFORM_RECORD}


class TestWrittenByHand:
    """An operator writes into a table by hand. Patients get answers even if the record has errors."""

    def test_what_is_right_is_served(self, bots: BotConfigService, archive: ConfiguredArchive) -> None:
        meta_data = {"max_context_messages": 5, "max_context_characters": 0, "double_texting": "enqueue"}
        archive.bots["nurse"] = bot("nurse", meta_data=meta_data)
        assert bots.get_bot_config("conv_123", bot_id="nurse")["meta_data"] == meta_data

    @pytest.mark.parametrize("value", ["many", "5", -1, 2.5, True, None, [], {}])
    def test_a_limit_that_is_none_counts_as_not_set(
        self, bots: BotConfigService, archive: ConfiguredArchive, value: Any
    ) -> None:
        archive.bots["nurse"] = bot("nurse", meta_data={"max_context_messages": value, "max_context_characters": 9})
        assert bots.get_bot_config("conv_123", bot_id="nurse")["meta_data"] == {"max_context_characters": 9}

    def test_what_is_wrong_is_left_out_wherever_it_is(self, bots: BotConfigService, archive: ConfiguredArchive) -> None:
        core_ai = CORE | {
            "meta_data": {"model": "m", "temperature": "hot", "color": "blue"},
            "fallback": SPARE | {"meta_data": {"model": 5, "region": "eu-central-1"}},
        }
        platform = PLATFORM_RECORD | {"meta_data": {"webhook_path": "//evil.example", "webhook_secrets": [ARN]}}
        meta_data = {"double_texting": "shout", "debounce_ms": 500, "debounce_max_ms": 100, "color": "blue"}
        archive.bots["nurse"] = bot("nurse", meta_data=meta_data, core_ai=core_ai, platform=platform)
        config = bots.config_of_job(job_of("nurse"))
        assert config["meta_data"] == {"debounce_ms": 500}
        assert config["core_ai"]["meta_data"] == {"model": "m"}
        assert config["core_ai"]["fallback"]["meta_data"] == {"region": "eu-central-1"}
        assert config["platform"]["meta_data"] == {"webhook_secrets": [ARN]}

    def test_each_key_is_warned_of_once_by_its_name(
        self,
        bots: BotConfigService,
        archive: ConfiguredArchive,
        clock: Clock,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        wrong = {"debounce_ms": CANARY, "color": CANARY, f"I feel {CANARY}": 1}
        archive.bots |= {name: bot(name, meta_data=wrong) for name in ("nurse", "doctor")}
        for name in ("nurse", "nurse", "doctor"):
            bots.get_bot_config("conv_123", bot_id=name)
            bots.config_of_job(job_of(name))
            clock.now += 10
        warnings = [(vars(record)["bot_id"], vars(record)["key"]) for record in caplog.records]
        assert sorted(warnings) == [(n, key) for n in ("doctor", "nurse") for key in ("?", "color", "debounce_ms")]

    @pytest.mark.parametrize("meta_data", [None, [], "text", 1])
    def test_metadata_that_is_no_object_counts_as_empty(
        self, bots: BotConfigService, archive: ConfiguredArchive, tier: SharedTier, meta_data: Any
    ) -> None:
        archive.bots["nurse"] = bot("nurse", meta_data=meta_data)
        assert bots.get_bot_config("conv_123", bot_id="nurse")["meta_data"] == {}
        assert [json.loads(text)["bot"]["meta_data"] for _, text in tier.kept.values()] == [{}]
