"""The admin function: health, locks, the schedule, erasure, export and migrations."""

import json
import math
import time
from dataclasses import replace
from typing import Any

import pytest

from message_handler.archive.none import NoArchive
from message_handler.aws import cloudformation
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import InvalidRequest, MessageHandlerError, Unavailable
from message_handler.domain.jobs import JobStatus
from message_handler.ports.retention import StoredRecord
from message_handler.protocol.results import Claim
from message_handler.settings import Settings
from tests.unit.service import CANARY, KEY, Service

LOCK = {
    "conversation_id",
    "ai_job_id",
    "acquired_at",
    "heartbeat_at",
    "expires_at",
    "consolidated_messages",
    "tier",
}


def test_health_tells_up_and_nothing_else(service: Service) -> None:
    answer = service.http("admin", service.event("admin-health"))
    assert (answer.status, answer.body) == (200, {"status": "up"})


def test_health_is_down_where_no_message_can_be_taken(service: Service) -> None:
    service.queue.error = Unavailable("the queue")
    response = service.invoke("admin", service.event("admin-health"))
    assert (response["statusCode"], json.loads(response["body"])) == (503, {"status": "down"})


def test_the_status_names_every_part(service: Service) -> None:
    answer = service.http("admin", service.event("admin-status"))
    assert answer.body == {
        "status": "healthy",
        "components": {
            "redis_connected": False,
            "database_connected": False,
            "tier": "memory",
            "lock_manager": "healthy",
            "job_manager": "healthy",
            "queue": "held",
        },
        "tiers": {"memory": "up"},
        "queue": {"visible": 0, "in_flight": 0, "delayed": 0, "dead_letters": None},
        "worker": {
            "state": "idle",
            "running": 0,
            "waiting": 0,
            "oldest_waiting_at": None,
            "last_heartbeat_at": None,
            "last_finished_at": None,
        },
        "safety": None,
    }


def test_a_lock_is_shown_without_text_and_without_its_id(service: Service) -> None:
    assert service.http("admin", service.event("admin-list-locks")).body == {"locks": []}
    assert service.http("admin", service.event("admin-get-lock")).status == 404
    accepted = service.http("intake", service.event("intake-post-message")).body
    lock = service.http("admin", service.event("admin-get-lock"))
    assert lock.status == 200
    assert set(lock.body) == LOCK
    assert lock.body["ai_job_id"] == accepted["ai_job_id"]
    assert accepted["lock_id"] not in json.dumps(lock.body)
    assert service.http("admin", service.event("admin-list-locks")).body == {"locks": [lock.body]}
    service.output.assert_private(json.dumps(lock.body))


def test_a_released_conversation_is_woken_once_and_answered_once(service: Service) -> None:
    event = service.event("admin-release-lock")
    assert service.http("admin", event).status == 404
    service.http("intake", service.event("intake-post-message"))
    service.parts.tiers.tiers[0].claim(KEY, "a stuck worker")
    service.queue.sent.clear()
    assert service.http("admin", event).body == {"released": True}
    assert len(service.queue.sent) == 1
    assert service.deliver() == {"batchItemFailures": []}
    assert service.parts.tiers.tiers[0].seal(KEY, "a stuck worker", [], next_id="", fenced=True).verdict == "lost"


def test_the_clean_up_frees_what_is_older_than_it_says(service: Service) -> None:
    service.http("intake", service.event("intake-post-message"))
    service.parts.tiers.tiers[0].claim(KEY, "a worker")
    event = service.event("admin-cleanup-locks")
    assert service.http("admin", event).body == {"cleaned": 0}
    assert service.http("admin", event | {"body": None}).body == {"cleaned": 0}
    service.queue.sent.clear()
    assert service.http("admin", event | {"body": '{"max_age_hours": 0}'}).body == {"cleaned": 1}
    assert len(service.queue.sent) == 1


def test_a_clean_up_without_a_queue_is_503(service: Service) -> None:
    service.http("intake", service.event("intake-post-message"))
    service.parts.tiers.tiers[0].claim(KEY, "a worker")
    service.queue.error = Unavailable("the queue")
    answer = service.http("admin", service.event("admin-cleanup-locks", body='{"max_age_hours": 0}'))
    assert (answer.status, int(answer.headers["Retry-After"]) > 0) == (503, True)


def test_the_schedule_sweeps(service: Service) -> None:
    service.http("intake", service.event("intake-post-message"))
    assert service.invoke("admin", service.event("admin-schedule")) == {"swept": 0}
    assert service.output.metrics["ConversationsSwept"] == [0]


def test_the_schedule_archives_what_postgres_lacks(service: Service) -> None:
    service.http("intake", service.event("intake-post-message"))
    tier = service.parts.tiers.tiers[0]
    claim = tier.claim(KEY, "a worker")
    assert isinstance(claim, Claim)
    ended = replace(claim.job, status=JobStatus.COMPLETED, reply="Rest.", unarchived=True)
    assert tier.finish(KEY, "a worker", ended).done
    service.invoke("admin", service.event("admin-schedule"))
    message_id = ended.messages[0].message_id
    assert service.parts.archive.settled_by(KEY, message_id) == ended.job_id
    assert tier.unarchived() == []


def test_an_erased_conversation_is_gone_and_then_not_found(service: Service) -> None:
    event = service.event("admin-erase-conversation")
    assert service.http("admin", event).status == 404
    service.http("intake", service.event("intake-post-message"))
    assert service.http("admin", event).body == {"erased": True}
    assert service.http("intake", service.event("intake-get-conversation")).status == 404
    assert service.deliver() == {"batchItemFailures": []}
    assert service.http("intake", service.event("intake-get-conversation")).status == 404
    assert service.http("admin", event).status == 404


def test_without_postgres_nothing_is_erased_exported_or_purged(service: Service) -> None:
    service.http("intake", service.event("intake-post-message"))
    service.use(archive=NoArchive())
    for name in ("admin-erase-conversation", "admin-export-conversation"):
        assert service.http("admin", service.event(name)).status == 503
    assert service.http("intake", service.event("intake-get-conversation")).status == 200
    with pytest.raises(Unavailable):
        service.invoke("admin", service.event("admin-purge"))


def test_an_export_is_shown_page_by_page(service: Service) -> None:
    at = "2026-06-15T09:30:00.123456+00:00"
    record = {"kind": "conversation", "bot_id": "b", "handed_off": False, "created_at": at, "updated_at": at}

    class Shelf:
        def kept(self, key: ConversationKey, after: tuple[int, str], **_: int) -> list[StoredRecord]:
            assert key == KEY
            return [StoredRecord(0, "", record)] if after == (-1, "") else []

    service.use(retention=Shelf())
    event = service.event("admin-export-conversation")
    first = service.http("admin", event).body
    assert first == {"conversation_id": "conv_123", "records": [record], "next": "0."}
    last = service.http("admin", event | {"queryStringParameters": {"after": first["next"]}}).body
    assert last == {"conversation_id": "conv_123", "records": [], "next": None}
    refused = service.http("admin", event | {"queryStringParameters": {"after": CANARY}})
    assert (refused.status, refused.body["field"]) == (400, "after")
    noted = service.parts.audit.entries("default", kind="conversations", before_id=None, most=10)
    assert [(entry.action, entry.record_id, entry.after) for entry in noted] == [
        ("export", "conv_123", {"after": "conversation"}),
        ("export", "conv_123", None),
    ]


@pytest.mark.parametrize("name", ["admin-migrate-stack", "admin-migrate"])
def test_a_migration_without_a_database_fails_at_once(
    service: Service, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    service.use(archive=NoArchive())
    service.remaining_ms = 300_000
    monkeypatch.setattr(cloudformation, "_put", failing)
    began = time.monotonic()
    with pytest.raises(MessageHandlerError, match="DATABASE_URL is missing, so there is no database to migrate"):
        service.invoke("admin", service.event(name))
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(("iam", "seconds"), [(True, math.inf), (False, 5.0)])
def test_only_a_database_that_the_stack_creates_is_waited_for_long(
    service: Service, monkeypatch: pytest.MonkeyPatch, iam: bool, seconds: float
) -> None:
    service.use(settings=Settings(database_iam=iam))
    patience = []
    monkeypatch.setattr(cloudformation, "run", lambda *_, **given: patience.append(given["patience"]()))
    service.invoke("admin", service.event("admin-migrate-stack"))
    assert patience == [seconds]


def failing(*_: Any) -> None:
    raise Unavailable("CloudFormation's address for the answer")


def test_cloudformation_is_answered_where_it_says(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    put: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(cloudformation, "_put", lambda url, body, _: put.append((url, json.loads(body))))
    event = service.event("admin-migrate-stack")
    answer = service.invoke("admin", event)
    assert put == [(event["ResponseURL"], answer)]
    assert answer["Status"] == "SUCCESS"
    assert event["ResponseURL"] not in service.output.printed + service.output.logged


def test_migrations_are_applied_on_direct_invocation(service: Service) -> None:
    assert service.invoke("admin", service.event("admin-migrate")) == {"applied": []}


def test_the_status_is_there_on_direct_invocation_too(service: Service) -> None:
    status = service.invoke("admin", {"action": "status"})
    assert status.items() <= service.http("admin", service.event("admin-status")).body.items()


@pytest.mark.parametrize("event", [{}, {"action": CANARY}, {"action": None}, {"action": ["sweep"]}])
def test_an_unknown_action_is_refused_with_the_known_ones(service: Service, event: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="sweep, migrate, purge, status") as refused:
        service.invoke("admin", event)
    service.output.assert_private(str(refused.value))
