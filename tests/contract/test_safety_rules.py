"""Tenants' safety rules in real stores: each tenant has its own, and no write is lost."""

from __future__ import annotations

from contextlib import suppress
from datetime import date
from typing import Any

import pytest

from message_handler.archive.postgres_configuration import PostgresConfiguration
from message_handler.bot_config import BotConfigService
from message_handler.configuration.admin import Expected
from message_handler.configuration.rules_admin import RulesAdmin
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import Conflict, PreconditionFailed
from message_handler.drivers.postgres import Database
from message_handler.ports.configuration import OutdatedRules
from message_handler.safety import own
from message_handler.safety.rules import shipped
from message_handler.tiers.redis import RedisTier
from tests.contract.test_configuration import TENANT, bots, database, service, store
from tests.contract.threads import at_once
from tests.servers import emptied

__all__ = ["bots", "database", "store"]

pytestmark = pytest.mark.usefixtures("database")

TODAY = date(2026, 11, 30)
RULE = {"id": "clinic-pump", "level": "urgent", "about": "A broken pump", "phrases": ["my pump stopped"]}
OWN = {"rules": [{"language": "en", "rules": [RULE]}]}
BROKEN = "my pump stopped"


@pytest.fixture
def admin(store: PostgresConfiguration, bots: BotConfigService) -> RulesAdmin:
    return RulesAdmin(store, bots.refresh)


def put(admin: RulesAdmin, body: dict[str, Any], tenant: str = TENANT, expected: Expected = None) -> int:
    """Write the settings. Returns their revision."""
    return admin.put(tenant, body, actor="user:1", today=TODAY, expected=expected).revision


def finds(bots: BotConfigService, tenant: str = TENANT) -> bool:
    return bool(bots.rules_of(ConversationKey(tenant, "patient-1"), None).find(BROKEN))


def test_each_tenant_has_its_own(admin: RulesAdmin, bots: BotConfigService) -> None:
    put(admin, OWN)
    assert (finds(bots), finds(bots, "other")) == (True, False)
    assert admin.get("other", TODAY).revision == 0
    assert admin.get("other", TODAY).record["settings"]["rules"] == []
    put(admin, {"languages": ["en"]}, "other")
    assert admin.get(TENANT, TODAY).record["settings"]["rules"] == OWN["rules"]


@pytest.mark.parametrize("expected", [0, "new"])
def test_of_two_operators_who_write_the_first_settings_at_once_one_does(admin: RulesAdmin, expected: Expected) -> None:
    def write() -> bool:
        try:
            put(admin, OWN, expected=expected)
        except PreconditionFailed:
            return False
        return True

    assert sorted(at_once(write, write)) == [False, True]


def test_a_platform_without_a_record_has_no_settings(admin: RulesAdmin) -> None:
    with pytest.raises(Conflict, match="no record"):
        put(admin, OWN, "unknown")


def test_another_process_takes_them_from_redis(
    admin: RulesAdmin, redis_tier: RedisTier, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(admin, OWN)
    another = service(redis_tier, database)
    monkeypatch.setattr(another, "_archived", None)
    assert finds(another)


def test_what_another_release_has_shared_is_read_anew(
    admin: RulesAdmin, redis_tier: RedisTier, database: Database
) -> None:
    put(admin, OWN)
    name = f"bot:{TENANT}/default"
    shared = redis_tier.cached(name)
    assert shared
    redis_tier.cache(name, shared.replace(shipped().version, "0" * 16), 60)
    assert finds(service(redis_tier, database))
    redis_tier.cache(name, shared.replace('"safety_rules"', '"of_no_earlier_release"'), 60)
    assert finds(service(redis_tier, database))


def test_a_deleted_platform_leaves_none(admin: RulesAdmin, database: Database) -> None:
    put(admin, OWN)
    database.run(lambda connection: connection.execute_simple(f"{emptied('bots', 'core_ai')}"))
    database.run(lambda connection: connection.run("delete from platforms where platform_id = :id", id=TENANT))
    assert admin.get(TENANT, TODAY).revision == 0


class TestCompilingAgain:
    """Own rules that another release has compiled."""

    @pytest.fixture
    def outdated(self, admin: RulesAdmin, store: PostgresConfiguration, database: Database) -> OutdatedRules:
        put(admin, OWN)
        put(admin, {"languages": ["en"]}, "other")
        database.run(lambda connection: connection.run("update safety_rules set compiled_for = 'another'"))
        (found,) = store.outdated_rules(shipped().version, most=10)
        assert found.platform_id == TENANT, "there is nothing to compile for the other one"
        return found

    @pytest.mark.usefixtures("outdated")
    def test_is_done_once(self, admin: RulesAdmin, store: PostgresConfiguration) -> None:
        before = admin.get(TENANT, TODAY)
        admin.recompile()
        assert store.outdated_rules(shipped().version, most=10) == []
        after = admin.get(TENANT, TODAY)
        assert (after.revision, after.record["settings"]) == (before.revision, before.record["settings"])
        assert (before.record["in_force"]["refused"], after.record["in_force"]["refused"]) == (["en"], [])

    @pytest.mark.usefixtures("outdated")
    def test_goes_on_with_the_next_tenant_if_the_compiler_breaks(
        self,
        admin: RulesAdmin,
        store: PostgresConfiguration,
        database: Database,
        bots: BotConfigService,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        put(admin, {"rules": [{"language": "de", "rules": [RULE]}]}, "other")
        database.run(lambda connection: connection.run("update safety_rules set compiled_for = 'another'"))
        real = own.own_language

        def broken(source: dict[str, Any], taken: set[str]) -> Any:
            return real(source, taken) if source["language"] == "en" else 1 / 0

        monkeypatch.setattr(own, "own_language", broken)
        with suppress(ZeroDivisionError):
            admin.recompile()
        assert store.outdated_rules(shipped().version, most=10) == []
        for tenant in (TENANT, "other"):
            bots.refresh(tenant, ["default"])
        assert (finds(bots), finds(bots, "other")) == (True, False)

    def test_writes_over_no_newer_rules(
        self, outdated: OutdatedRules, admin: RulesAdmin, store: PostgresConfiguration, bots: BotConfigService
    ) -> None:
        """The sweep reads the old rules; the operator writes new ones; the sweep writes what it has compiled."""
        put(admin, {"rules": [{"language": "en", "rules": [RULE | {"phrases": ["my pump is broken"]}]}]})
        store.recompile_rules(outdated, None, shipped().version)
        bots.refresh(TENANT, ["default"])
        assert bots.rules_of(ConversationKey(TENANT, "patient-1"), None).find("my pump is broken")
