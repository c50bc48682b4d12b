"""What a bot needs before it is activated, and what the status says of bots that lack it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.unit.service import Answer, Service, says
from tests.unit.test_configuration_routes import put
from tests.unit.test_danger import CONTACTS, EMERGENCY
from tests.unit.test_danger import configured as give

REVIEWED = CONTACTS | {"reviewed_at": datetime.now(UTC).date().isoformat()}
DISCLOSURE = {"en": "You are talking to an AI."}
PHARMACY = {"country": "VN", "disclosure": DISCLOSURE}


def platform(service: Service, *contacts: dict[str, Any]) -> Answer:
    return put(service, "admin-put-platform", meta_data={"emergency_contacts": list(contacts)} if contacts else {})


def bot(service: Service, *, active: bool = True, **meta_data: Any) -> Answer:
    assert put(service, "admin-put-core-ai").status in (200, 201)
    return put(service, "admin-put-bot", is_active=active, meta_data=meta_data)


def require_safety(service: Service) -> None:
    service.use(settings=service.parts.settings.model_copy(update={"require_safety": True}))


@pytest.fixture
def strict(configured: Service) -> Service:
    """The functions, with the setting on."""
    require_safety(configured)
    return configured


class TestRequired:
    def test_a_bot_with_contacts_and_a_disclosure_is_activated(self, strict: Service) -> None:
        assert platform(strict, REVIEWED).status == 200
        assert bot(strict, **PHARMACY).status == 201
        assert bot(strict, disclosure=DISCLOSURE).status == 200, "without a country, the first contacts serve"

    @pytest.mark.parametrize("contacts", [(), (REVIEWED | {"country": "GB"},)])
    def test_a_bot_without_contacts_for_its_country_is_not(
        self, strict: Service, contacts: tuple[dict[str, Any], ...]
    ) -> None:
        platform(strict, *contacts)
        refused = bot(strict, **PHARMACY)
        assert (refused.status, refused.body.get("field")) == (409, "is_active")
        assert "emergency_contacts" in refused.body["detail"]
        assert strict.http("admin", strict.event("admin-get-bot")).status == 404
        assert bot(strict, active=False, **PHARMACY).status == 201

    @pytest.mark.parametrize("disclosure", [None, {"vi": "Đây là AI."}])
    def test_a_bot_without_a_disclosure_in_its_language_is_not(self, strict: Service, disclosure: Any) -> None:
        platform(strict, REVIEWED)
        refused = bot(strict, country="VN", disclosure=disclosure)
        assert (refused.status, refused.body.get("field")) == (400, "meta_data.disclosure")
        assert bot(strict, active=False, country="VN", disclosure=disclosure).status == 201

    def test_nothing_takes_the_contacts_away_from_an_active_bot(self, strict: Service) -> None:
        platform(strict, REVIEWED)
        bot(strict, **PHARMACY)
        for contacts in ((), (REVIEWED | {"country": "GB"},)):
            refused = platform(strict, *contacts)
            assert (refused.status, refused.body.get("field")) == (409, "meta_data.emergency_contacts")
        assert platform(strict, REVIEWED | {"country": "GB"}, REVIEWED).status == 200
        bot(strict, active=False, **PHARMACY)
        assert platform(strict).status == 200

    def test_a_platform_may_be_changed_while_an_older_bot_lacks_contacts(self, configured: Service) -> None:
        bot(configured, **PHARMACY)
        require_safety(configured)
        assert platform(configured, REVIEWED | {"country": "GB"}).status == 200

    def test_only_where_the_setting_is_on(self, configured: Service) -> None:
        assert bot(configured).status == 201
        assert platform(configured).status == 200


class TestStatus:
    def status(self, service: Service) -> Any:
        answer = service.http("admin", service.event("admin-status"))
        assert answer.status == 200
        return answer.body["safety"]

    def test_names_active_bots_without_contacts(self, configured: Service) -> None:
        bot(configured, country="VN")
        shown = self.status(configured)
        assert (shown["without_contacts"], shown["old_reviews"]) == (["default", "pharmacy"], [])
        platform(configured, REVIEWED | {"country": "GB"})
        assert self.status(configured)["without_contacts"] == ["pharmacy"], "the default bot has no country"
        bot(configured, active=False, country="VN")
        assert self.status(configured)["without_contacts"] == []

    @pytest.mark.parametrize(("days", "old"), [(365, False), (366, True)])
    def test_names_contacts_whose_review_is_old(self, configured: Service, days: int, old: bool) -> None:
        day = (datetime.now(UTC).date() - timedelta(days=days)).isoformat()
        platform(configured, CONTACTS | {"reviewed_at": day})
        shown = self.status(configured)
        assert shown["old_reviews"] == ([{"country": "VN", "reviewed_at": day}] if old else [])
        configured.invoke("admin", {"action": "sweep"})
        assert configured.output.metrics["SafetyReviewOld"] == [int(old)]

    def test_says_nothing_without_postgres(self, service: Service) -> None:
        assert self.status(service) is None


class TestNotices:
    def test_one_without_a_number_is_counted(self, service: Service) -> None:
        service.post(says(EMERGENCY))
        assert service.output.metrics.get("SafetyUnconfigured") == [1]

    def test_one_with_a_number_is_not(self, service: Service) -> None:
        give(service, platform={"emergency_contacts": [CONTACTS]})
        service.post(says(EMERGENCY))
        assert "SafetyUnconfigured" not in service.output.metrics
