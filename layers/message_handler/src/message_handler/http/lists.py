"""The lists for operators, in pages: jobs, minutes and the audit."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any, get_args

from message_handler.domain.conversations import conversation_key
from message_handler.domain.documents import shown, timestamp
from message_handler.domain.errors import InvalidRequest
from message_handler.domain.identifiers import shard_of_job
from message_handler.domain.jobs import Job
from message_handler.domain.raised import RaisedConversation, RaisedState
from message_handler.domain.safety import Level
from message_handler.domain.safety_report import rows_of
from message_handler.http import paging
from message_handler.http.rest import Call
from message_handler.ports.archive import Archive, Minute
from message_handler.ports.audit import Audit, AuditEntry
from message_handler.ports.raised import RaisedStore, Wanted

#: The statuses in Postgres. A job that waits for its first run is not there yet: only its lock is listed.
JOB_STATUSES = ("processing", "completed", "failed", "cancelled")
#: The statistics' `minutes`.
DEFAULT_MINUTES = 15
MAX_MINUTES = 60
RAISED_STATES: tuple[RaisedState, ...] = get_args(RaisedState)
LEVELS = tuple(level.value for level in Level)
#: The kinds of things in the audit.
AUDITED = ("bots", "core_ai", "platforms", "locks", "jobs", "dead_letters", "conversations", "raised", "safety_rules")


def list_jobs(archive: Archive, call: Call) -> dict[str, Any]:
    """A page of the tenant's jobs, newest first, without text: `{"jobs": […], "next": cursor | None}`.

    Raises InvalidRequest or Unavailable.
    """
    status, conversation_id = call.query("status"), call.query("conversation_id")
    if status is not None and status not in JOB_STATUSES:
        raise InvalidRequest(f"must be one of {', '.join(JOB_STATUSES)}", field="status")
    if conversation_id is not None:
        conversation_key(conversation_id)
    limit, place = paging.limit_of(call), _place(call)
    jobs = archive.jobs(
        call.platform_id,
        status=status,
        conversation_id=conversation_id,
        behind=place,
        most=limit + 1,
    )
    more = paging.cursor(jobs[limit - 1].created, jobs[limit - 1].job_id) if len(jobs) > limit else None
    return {"jobs": [job_summary_view(job) for job in jobs[:limit]], "next": more}


def job_summary_view(job: Job) -> dict[str, Any]:
    """A job in a list: ids, status, times and the error's code."""
    return shown(job, "list") | {
        "conversation_id": job.key.conversation_id,
        "consolidated_messages": job.consolidated_messages,
        "error_code": job.error.code if job.error else None,
    }


def statistics(archive: Archive, call: Call, *, clock: Callable[[], float] = time.time) -> dict[str, Any]:
    """The tenant's last minutes, oldest first, up to the current one: `{"minutes": [{"at", …}]}`.

    Each minute counts the jobs that were `created`, `completed`, `failed` and `cancelled`. A job counts as created when
    its first run begins. `median_seconds` and `p95_seconds` are those of the completed jobs, None without any.
    Raises InvalidRequest or Unavailable.
    """
    given = call.query("minutes")
    text = str(DEFAULT_MINUTES) if given is None else given
    if not re.fullmatch(r"[0-9]{1,2}", text) or not 1 <= int(text) <= MAX_MINUTES:
        raise InvalidRequest(f"must be a whole number from 1 to {MAX_MINUTES}", field="minutes")
    until = int(clock() // 60) * 60 + 60
    since = until - 60 * int(text)
    found = {minute.at: minute for minute in archive.minutes(call.platform_id, since=since, until=until)}
    return {"minutes": [_minute_view(found.get(at) or Minute(at)) for at in range(since, until, 60)]}


def _minute_view(minute: Minute) -> dict[str, Any]:
    return {
        "at": timestamp(minute.at),
        "created": minute.created,
        "completed": minute.completed,
        "failed": minute.failed,
        "cancelled": minute.cancelled,
        "median_seconds": minute.median_seconds and round(minute.median_seconds, 3),
        "p95_seconds": minute.p95_seconds and round(minute.p95_seconds, 3),
    }


def list_audit(audit: Audit, call: Call) -> dict[str, Any]:
    """A page of the tenant's audit, newest first: `{"entries": […], "next": cursor | None}`.

    Raises InvalidRequest or Unavailable.
    """
    kind = call.query("kind")
    if kind is not None and kind not in AUDITED:
        raise InvalidRequest(f"must be one of {', '.join(AUDITED)}", field="kind")
    limit, place = paging.limit_of(call), paging.behind(call, int)
    before_id = int(place[0]) if place else None
    entries = audit.entries(call.platform_id, kind=kind, before_id=before_id, most=limit + 1)
    views = paging.fitting([_entry_view(entry) for entry in entries[:limit]])
    more = paging.cursor(views[-1]["id"]) if len(views) < len(entries) else None
    return {"entries": views, "next": more}


def _entry_view(entry: AuditEntry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "at": timestamp(entry.at),
        "actor": entry.actor,
        "action": entry.action,
        "kind": entry.kind,
        "record_id": entry.record_id,
        "before": entry.before,
        "after": entry.after,
    }


def list_raised(store: RaisedStore, call: Call) -> dict[str, Any]:
    """A page of the tenant's raised conversations, newest first: `{"raised": […], "next": cursor | None}`.

    Raises InvalidRequest or Unavailable.
    """
    conversation_id = call.query("conversation_id")
    if conversation_id is not None:
        conversation_key(conversation_id)
    first, last = _day(call, "from"), _day(call, "to")
    wanted = Wanted(
        _choice(call, "state", RAISED_STATES),
        _choice(call, "level", LEVELS),
        conversation_id,
        None if first is None else _midnight(first),
        None if last is None else _midnight(last + timedelta(days=1)),
    )
    limit, place = paging.limit_of(call), _place(call)
    found = store.listed(call.platform_id, wanted, behind=place, most=limit + 1)
    more = paging.cursor(found[limit - 1].raised, found[limit - 1].job_id) if len(found) > limit else None
    return {"raised": [raised_view(each) for each in found[:limit]], "next": more}


def raised_view(raised: RaisedConversation) -> dict[str, Any]:
    """A raised conversation: no text but the operator's own word why it is closed."""
    return {
        "job_id": raised.job_id,
        "conversation_id": raised.conversation_id,
        "state": raised.state,
        "level": raised.level,
        "rule": raised.rule,
        "rules_version": raised.rules_version,
        "drill": raised.drill,
        "raised_at": timestamp(raised.raised_at),
        "delivered_at": timestamp(raised.delivered_at),
        "taken_by": raised.taken_by,
        "taken_at": timestamp(raised.taken_at),
        "closed_by": raised.closed_by,
        "closed_at": timestamp(raised.closed_at),
        "closed_why": raised.closed_why,
        "reminders": raised.reminders,
    }


def safety_report(store: RaisedStore, call: Call, *, clock: Callable[[], float] = time.time) -> dict[str, Any]:
    """What was raised on some days (UTC), counted, and what followed: `{"from", "to", "drills", "rows"}`.

    `to` is the last day, by default today; `from` by default the first day of its year. Raises InvalidRequest or
    Unavailable.
    """
    last = _day(call, "to") or datetime.fromtimestamp(clock(), UTC).date()
    first = _day(call, "from") or last.replace(month=1, day=1)
    if first > last:
        raise InvalidRequest("must not be before from", field="to")
    until = _midnight(last + timedelta(days=1))
    found, drills = store.report(call.platform_id, since=_midnight(first), until=until)
    return {"from": first.isoformat(), "to": last.isoformat(), "drills": drills, "rows": rows_of(found)}


def _place(call: Call) -> tuple[int, str] | None:
    """The time and the job behind which a page begins. Raises InvalidRequest."""
    place = paging.behind(call, int, str)
    if place and shard_of_job(str(place[1])) is None:
        raise InvalidRequest("is not one that an answer gave", field="next")
    return (int(place[0]), str(place[1])) if place else None


def _choice[T: str](call: Call, name: str, values: tuple[T, ...]) -> T | None:
    given = call.query(name)
    found = next((value for value in values if value == given), None)
    if given is not None and found is None:
        raise InvalidRequest(f"must be one of {', '.join(values)}", field=name)
    return found


def _day(call: Call, name: str) -> date | None:
    given = call.query(name)
    if given is None:
        return None
    try:
        day = date.fromisoformat(given) if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", given) else None
    except ValueError:
        day = None
    if day is None or not 2000 <= day.year < 2200:
        raise InvalidRequest("must be a day, such as 2026-12-31", field=name)
    return day


def _midnight(day: date) -> float:
    """When a day begins in UTC, in Unix seconds."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
