"""The admin function: serves the routes for operators, and runs the sweep, the purge and migrations."""

from __future__ import annotations

import math
import re
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.logging.utils import copy_config_to_registered_loggers

from message_handler.aws import cloudformation
from message_handler.configuration.admin import Expected, Shown
from message_handler.configuration.records import KINDS
from message_handler.configuration.safety import oldest_review
from message_handler.domain.conversations import conversation_key
from message_handler.domain.errors import (
    InvalidRequest,
    MessageHandlerError,
    NotFound,
    PreconditionFailed,
    SettingsError,
    Unavailable,
)
from message_handler.domain.safety_report import as_csv
from message_handler.domain.validation import field_name
from message_handler.http import lists
from message_handler.http.console import Console
from message_handler.http.rest import Answer, Call, Headers, Route, correlation_id_of, log_crash, serve
from message_handler.jobs import BackgroundJobManager
from message_handler.locks import lock_view
from message_handler.metrics import Meter
from message_handler.operations import (
    dead_letters,
    erasure,
    handoff,
    health,
    interventions,
    raised,
    retention,
    sweeping,
)
from message_handler.operations.export import begins_in, export
from message_handler.ports.audit import AuditEntry
from message_handler.ports.configuration import RecordKind
from message_handler.ports.retention import Retention
from message_handler.wiring import Parts, build

#: The scope that a token needs for each route that is not open.
SCOPE: Final = "admin"
#: The audit's `record_id` of an action that concerns no single record.
ALL = "*"
#: For how long a migration waits for a database that the stack does not create. It was there before, so waiting longer
#: only hides a wrong address or password. One that the stack creates, which takes IAM, may still be starting.
OWN_DATABASE_SECONDS = 5.0

logger = Logger()
metrics = Metrics()
meter = Meter()
copy_config_to_registered_loggers(logger, include={"message_handler"})
warnings.filterwarnings("ignore", "No application metrics to publish")  # most calls have none


@cache
def parts() -> Parts:
    return build(deployed=True, meter=meter)


def status() -> dict[str, Any]:
    return health.status(parts().tiers, parts().archive, parts().queue)


def get_health(call: Call) -> tuple[int, dict[str, Any]]:
    """Say only whether messages are accepted, because the route is open."""
    up = status()["status"] != "unhealthy"
    return (HTTPStatus.OK, {"status": "up"}) if up else (HTTPStatus.SERVICE_UNAVAILABLE, {"status": "down"})


def get_status(call: Call) -> tuple[int, dict[str, Any]]:
    built = parts()
    shown = health.deployment_status(built.tiers, built.archive, built.queue, built.settings, call.platform_id)
    safety = None
    with suppress(Unavailable):
        safety = built.configuration.safety_state(call.platform_id, datetime.now(UTC).date())
    return HTTPStatus.OK, shown | {"safety": safety}


def get_statistics(call: Call) -> tuple[int, dict[str, Any]]:
    return HTTPStatus.OK, lists.statistics(parts().archive, call)


def list_locks(call: Call) -> tuple[int, dict[str, Any]]:
    locks = [lock for found in parts().tiers.each(lambda tier: tier.locks(call.platform_id)) for lock in found]
    return HTTPStatus.OK, {"locks": [lock_view(lock) for lock in sorted(locks, key=lambda lock: lock.acquired_at)]}


def get_lock(call: Call) -> tuple[int, dict[str, Any]]:
    key = conversation_key(call.path("conversation_id"), call.platform_id)
    found = parts().tiers.find(lambda tier: tier.lock(key))
    if found is None:
        raise NotFound("the conversation is not locked", field="conversation_id")
    return HTTPStatus.OK, lock_view(found[1])


def release_lock(call: Call) -> tuple[int, dict[str, Any]]:
    key = conversation_key(call.path("conversation_id"), call.platform_id)
    found = parts().tiers.find(lambda tier: tier.lock(key))
    if found:
        entry = AuditEntry(call.actor, "release", "locks", key.conversation_id, before=lock_view(found[1]))
        parts().audit.note(call.platform_id, entry)
    if not found or not interventions.force_release(parts().tiers, parts().archive, parts().queue, key):
        raise NotFound("the conversation is not locked", field="conversation_id")
    return HTTPStatus.OK, {"released": True}


def cleanup_locks(call: Call) -> tuple[int, dict[str, Any]]:
    if call.query("max_age_hours") is not None:
        raise InvalidRequest("must be sent in the body", field="max_age_hours")
    hours = sweeping.checked_hours(
        body_with(call, "max_age_hours").get("max_age_hours", sweeping.DEFAULT_MAX_AGE_HOURS)
    )
    entry = AuditEntry(call.actor, "cleanup", "locks", ALL, after={"max_age_hours": hours})
    parts().audit.note(call.platform_id, entry)
    # Only the caller's own tenant: another's locks, and their number, stay hidden. The schedule sweeps all tenants.
    count = sweeping.sweep(parts().tiers, parts().queue, max_age_hours=hours, platform_id=call.platform_id)
    meter.add("ConversationsSwept", count)
    return HTTPStatus.OK, {"cleaned": count}


def body_with(call: Call, field: str) -> dict[str, Any]:
    """A body that may have this field and no other. Raises InvalidRequest."""
    body = call.body()
    if body is None:
        body = {}
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON object")
    if unknown := sorted(set(body) - {field}):
        raise InvalidRequest("there is no such field", field=field_name(unknown[:1]))
    return body


def list_jobs(call: Call) -> tuple[int, dict[str, Any]]:
    return HTTPStatus.OK, lists.list_jobs(parts().archive, call)


def retry_job(call: Call) -> tuple[int, dict[str, Any]]:
    built = parts()
    jobs = BackgroundJobManager(built.tiers, built.archive, built.queue, built.intake, platform_id=call.platform_id)
    job = jobs.find(call.path("job_id"))
    entry = AuditEntry(call.actor, "retry", "jobs", job.job_id)
    handed_to = interventions.retry(
        built.tiers, built.archive, built.intake.accept, job, entry, correlation_id=call.correlation_id
    )
    return HTTPStatus.ACCEPTED, {
        "job_id": job.job_id,
        "conversation_id": job.key.conversation_id,
        "status": "retried" if handed_to else "handed_off",
        "ai_job_id": handed_to,
    }


def list_audit(call: Call) -> tuple[int, dict[str, Any]]:
    return HTTPStatus.OK, lists.list_audit(parts().audit, call)


def list_raised(call: Call) -> tuple[int, dict[str, Any]]:
    return HTTPStatus.OK, lists.list_raised(parts().raised, call)


def take_raised(call: Call) -> tuple[int, dict[str, Any]]:
    taken = raised.take(parts().raised, call.platform_id, call.path("job_id"), call.actor, now=time.time())
    return HTTPStatus.OK, lists.raised_view(taken)


def close_raised(call: Call) -> tuple[int, dict[str, Any]]:
    why = raised.checked_why(body_with(call, "why").get("why"))
    job_id = call.path("job_id")
    closed = raised.close(parts().raised, call.platform_id, job_id, call.actor, why=why, now=time.time())
    return HTTPStatus.OK, lists.raised_view(closed)


def raise_drill(call: Call) -> tuple[int, dict[str, Any]]:
    given = body_with(call, "conversation_id").get("conversation_id")
    key = conversation_key(given if isinstance(given, str) else "", call.platform_id)
    built = parts()
    drill = raised.drill(
        key,
        call.actor,
        archive=built.archive,
        audit=built.audit,
        deliveries=built.deliveries,
        bots=built.bots,
        correlation_id=call.correlation_id,
        now=time.time(),
    )
    return HTTPStatus.CREATED, lists.raised_view(drill)


def get_safety(call: Call) -> tuple[int, dict[str, Any], Headers]:
    shown = parts().safety_rules.get(call.platform_id, datetime.now(UTC).date())
    return HTTPStatus.OK, shown.record, etag(shown)


def put_safety(call: Call) -> tuple[int, dict[str, Any], Headers]:
    shown = parts().safety_rules.put(
        call.platform_id, call.body(), actor=call.actor, today=datetime.now(UTC).date(), expected=expected(call)
    )
    return HTTPStatus.OK, shown.record, etag(shown)


def report_safety(call: Call) -> Answer:
    form = call.query("format")
    if form not in (None, "json", "csv"):
        raise InvalidRequest("must be json or csv", field="format")
    report = lists.safety_report(parts().raised, call)
    if form == "csv":
        return HTTPStatus.OK, as_csv(report), {"Content-Type": "text/csv; charset=utf-8"}
    return HTTPStatus.OK, report


def export_conversation(call: Call) -> tuple[int, dict[str, Any]]:
    key = conversation_key(call.path("conversation_id"), call.platform_id)
    after = call.query("after")
    # Each page is noted: a caller that asks only for the last page has read data too.
    page = None if after is None else {"after": begins_in(after)}
    entry = AuditEntry(call.actor, "export", "conversations", key.conversation_id, after=page)
    parts().audit.note(key.platform_id, entry)
    return HTTPStatus.OK, export(retained(), parts().tiers, key, after=after)


def erase_conversation(call: Call) -> tuple[int, dict[str, Any]]:
    key = conversation_key(call.path("conversation_id"), call.platform_id)
    entry = AuditEntry(call.actor, "erase", "conversations", key.conversation_id)
    parts().intake.bots.forget(key)
    erasure.erase(parts().tiers, parts().archive, key, entry)
    return HTTPStatus.OK, {"erased": True}


def migrate() -> list[str]:
    if parts().archive.name == "none":
        raise SettingsError("bad settings: DATABASE_URL is missing, so there is no database to migrate")
    applied = parts().archive.migrate()
    with suppress(Unavailable):
        parts().safety_rules.recompile()  # what is left, the sweep compiles
    return applied


def purge() -> dict[str, int]:
    now = time.time
    return retention.purge(
        retained(), parts().tiers, parts().settings, meter, clock=now, until=now() + retention.PURGE_SECONDS
    )


def retained() -> Retention:
    found = parts().retention
    if found is None:
        raise Unavailable("Postgres")
    return found


def list_dead_letters(call: Call) -> tuple[int, dict[str, Any]]:
    return HTTPStatus.OK, dead_letters.dead_letters(parts().deliveries, call.platform_id)


def redrive_dead_letters(call: Call) -> tuple[int, dict[str, Any]]:
    parts().audit.note(call.platform_id, AuditEntry(call.actor, "redrive", "dead_letters", ALL))
    deliveries = parts().deliveries
    return HTTPStatus.OK, {"redriven": deliveries.redrive(call.platform_id) if deliveries else 0}


def sweep(max_age_hours: Any) -> dict[str, Any]:
    """The schedule's sweep, of all tenants: bring back what an outage left behind, wake what waits, and send reminders.

    A step that fails because a store is away does not stop the others: `left` names it with the reason. Raises
    Unavailable if no store that processes share could be swept.
    """
    built = parts()
    sweeping.rescue(built.worker)
    raised.remind(built.raised, meter, minutes=built.settings.safety_remind_minutes, now=time.time())
    if built.deliveries:
        built.deliveries.sweep()  # it wakes the reminders too
    found = health.reached(built.tiers)
    meter.add("StoresReadOnly", sum(tier.state == "read_only" for tier in found.values()))
    shared = {name: tier for name, tier in found.items() if name != "memory"}
    left = {name: tier.reason for name, tier in shared.items() if tier.state != "up"}
    count = sweeping.sweep(built.tiers, built.queue, max_age_hours=max_age_hours)
    if shared and len(left) == len(shared):
        raise Unavailable("every store")
    sweeping.end_answered(built.archive)
    with suppress(Unavailable):
        meter.add("SafetyReviewOld", built.configuration_store.old_reviews(oldest_review(datetime.now(UTC).date())))
        built.safety_rules.recompile()
    try:
        count += handoff.unpark_the_rest(built.tiers, built.archive, built.intake.accept)
    except Unavailable as error:
        left["hand_backs"] = error.reason
    meter.add("ConversationsSwept", count)
    meter.add("RecordsRedriven", dead_letters.redrive(built.worker, built.queue))
    return {"swept": count} | ({"left": left} if left else {})


def etag(shown: Shown) -> Headers:
    """The tag that `If-Match` is compared with (RFC 9110, 8.8.3)."""
    return {"ETag": f'"{shown.revision}"'}


def expected(call: Call) -> Expected:
    """The condition of a write. Raises InvalidRequest, or PreconditionFailed for a tag that is not from this API."""
    if (unless := call.header("If-None-Match")) is not None:
        if unless.strip() != "*" or call.header("If-Match") is not None:
            raise InvalidRequest("must be *, without If-Match: the record must be new", field="If-None-Match")
        return "new"
    if (match := call.header("If-Match")) is None:
        return None
    if match.strip() == "*":
        return "there"
    tag = re.fullmatch(r'"([0-9]{1,18})"', match.strip())
    if tag is None:
        raise PreconditionFailed("it has been changed since you read it: read it again")
    return int(tag[1])


def configuration_routes(kind: RecordKind) -> dict[tuple[str, str], Route]:
    """The routes that list, show, write and delete the records of a kind."""
    collection, id_field = f"/admin/{kind.replace('_', '-')}", KINDS[kind].id_field

    def list_records(call: Call) -> tuple[int, dict[str, Any]]:
        return HTTPStatus.OK, {kind: parts().configuration.all(kind, call.platform_id)}

    def get_record(call: Call) -> tuple[int, dict[str, Any], Headers]:
        shown = parts().configuration.get(kind, call.platform_id, call.path(id_field))
        return HTTPStatus.OK, shown.record, etag(shown)

    def put_record(call: Call) -> tuple[int, dict[str, Any], Headers]:
        created, shown = parts().configuration.put(
            kind,
            call.platform_id,
            call.path(id_field),
            call.body(),
            actor=call.actor,
            expected=expected(call),
            is_owner=call.is_owner,
        )
        return HTTPStatus.CREATED if created else HTTPStatus.OK, shown.record, etag(shown)

    def delete_record(call: Call) -> tuple[int, dict[str, Any]]:
        parts().configuration.delete(
            kind,
            call.platform_id,
            call.path(id_field),
            actor=call.actor,
            expected=expected(call),
            is_owner=call.is_owner,
        )
        return HTTPStatus.OK, {"deleted": True}

    record = f"{collection}/{{{id_field}}}"
    return {
        ("GET", collection): list_records,
        ("GET", record): get_record,
        ("PUT", record): put_record,
        ("DELETE", record): delete_record,
    }


#: Open to every caller.
OPEN_ROUTES: dict[tuple[str, str], Route] = {
    ("GET", "/health"): get_health,
    **Console(Path(__file__).with_name("console"), lambda: parts().settings).routes(),
}

ROUTES: dict[tuple[str, str], Route] = {
    **OPEN_ROUTES,
    ("GET", "/admin/status"): get_status,
    ("GET", "/admin/statistics"): get_statistics,
    ("GET", "/admin/locks"): list_locks,
    ("GET", "/admin/locks/{conversation_id}"): get_lock,
    ("DELETE", "/admin/locks/{conversation_id}"): release_lock,
    ("POST", "/admin/locks/cleanup"): cleanup_locks,
    ("GET", "/admin/jobs"): list_jobs,
    ("POST", "/admin/jobs/{job_id}/retry"): retry_job,
    ("GET", "/admin/audit"): list_audit,
    ("GET", "/admin/safety"): get_safety,
    ("PUT", "/admin/safety"): put_safety,
    ("GET", "/admin/safety/raised"): list_raised,
    ("POST", "/admin/safety/raised/{job_id}/take"): take_raised,
    ("POST", "/admin/safety/raised/{job_id}/close"): close_raised,
    ("POST", "/admin/safety/drill"): raise_drill,
    ("GET", "/admin/safety/report"): report_safety,
    ("GET", "/admin/conversations/{conversation_id}/export"): export_conversation,
    ("DELETE", "/admin/conversations/{conversation_id}"): erase_conversation,
    **configuration_routes("bots"),
    **configuration_routes("core_ai"),
    **configuration_routes("platforms"),
    ("GET", "/admin/dead-letters"): list_dead_letters,
    ("POST", "/admin/dead-letters/redrive"): redrive_dead_letters,
}

ACTIONS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "sweep": lambda event: sweep(event.get("max_age_hours", sweeping.DEFAULT_MAX_AGE_HOURS)),
    "migrate": lambda _: {"applied": migrate()},
    "purge": lambda _: {"purged": purge()},
    "status": lambda _: status(),
}


@logger.inject_lambda_context(log_event=False)  # even if the environment asks for it: events hold patients' words
@metrics.log_metrics
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Serve a call of the API, CloudFormation's custom resource, or an `{"action": …}` of a schedule or operator."""
    logger.set_correlation_id(correlation_id_of(event) or context.aws_request_id)
    try:
        if "httpMethod" in event:
            return serve(ROUTES, event, lambda: parts().settings, scope=SCOPE, meter=meter, open_routes=OPEN_ROUTES)
        return resource(event, context) if cloudformation.is_custom_resource(event) else act(event)
    except MessageHandlerError as error:
        logger.warning("a call of AWS or an operator failed", extra={"reason": str(error)})
        raise
    finally:
        meter.publish(metrics.add_metric)


def resource(event: dict[str, Any], context: Any) -> dict[str, Any]:
    return cloudformation.run(
        event,
        migrate,
        remaining=lambda: context.get_remaining_time_in_millis() / 1000,
        allow_loopback=lambda: parts().settings.egress_allow_loopback,
        patience=lambda: math.inf if parts().settings.database_iam else OWN_DATABASE_SECONDS,
    )


def act(event: dict[str, Any]) -> dict[str, Any]:
    action = ACTIONS.get(str(event.get("action")))
    if action is None:
        raise InvalidRequest(f"action must be one of {', '.join(ACTIONS)}", field="action")
    try:
        return action(event)
    except MessageHandlerError:
        raise
    except Exception as error:  # noqa: BLE001  the runtime would log its text, which may quote a patient
        log_crash(error)
        raise RuntimeError(f"{event['action']} failed: {type(error).__name__}") from None
