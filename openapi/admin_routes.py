"""The routes for operators. `openapi.routes` has them all."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from message_handler.http.console import MEDIA_TYPES
from message_handler.http.lists import AUDITED, DEFAULT_MINUTES, JOB_STATUSES, MAX_MINUTES
from message_handler.http.paging import DEFAULT_LIMIT, MAX_LIMIT
from openapi import admin_answers as answers
from openapi import requests
from openapi.export_answers import Export
from openapi.route import Route, Schema
from openapi.schemas import IDENTIFIER

BOT: dict[str, object] = {"name": "Pharmacy Assistant", "language": "en", "meta_data": {"max_context_messages": 30}}
CORE_AI: dict[str, object] = {"name": "Simulated AI", "api_endpoint": "simulated://", "timeout_seconds": 20}
PLATFORM: dict[str, object] = {"name": "Clinic", "meta_data": {"rate_limit_per_minute": 60_000}}

LOCK = "/admin/locks/{conversation_id}"
ERASURE = "/admin/conversations/{conversation_id}"
EXPORT = f"{ERASURE}/export"
RETRY = "/admin/jobs/{job_id}/retry"

#: Of the lists that come in pages.
PAGE: dict[str, Schema] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
    "next": {"type": "string", "description": "The `next` of the page before."},
}


def records(path: str, id_field: str, noun: str, one: Any, all_: Any, body: Any, example: Schema) -> tuple[Route, ...]:
    """The routes of a kind of configuration record."""
    record = f"{path}/{{{id_field}}}"
    # A tenant writes its own platform alone, and no bots or AI cores before that.
    refused = 404 if id_field == "platform_id" else 409
    written: dict[int, tuple[type[BaseModel], ...]] = {200: (one,), 201: (one,)}
    deleted: dict[int, tuple[type[BaseModel], ...]] = {200: (answers.Deleted,)}
    following = (f"GET {record}", f"DELETE {record}")
    return (
        Route("GET", path, f"List every {noun}", "admin", {200: (all_,)}, (503,)),
        Route("GET", record, f"Show one {noun}", "admin", {200: (one,)}, (404, 503), revised=True),
        Route(
            "PUT",
            record,
            f"Write one {noun}",
            "admin",
            written,
            (refused, 503),
            body,
            example=example,
            revised=True,
            links=following,
        ),
        Route(
            "DELETE",
            record,
            f"Delete one {noun} that nothing refers to",
            "admin",
            deleted,
            (404, 409, 503),
            revised=True,
        ),
    )


ROUTES: tuple[Route, ...] = (
    Route("GET", "/health", "Whether messages are taken", None, {200: (answers.Health,), 503: (answers.Health,)}),
    Route("GET", "/console", "The operators' page", None, {}, media_types=("text/html",)),
    Route("GET", "/console/settings.json", "How one signs in there", None, {200: (answers.ConsoleSettings,)}),
    Route(
        "GET",
        "/console/{file}",
        "A file of the operators' page",
        None,
        {},
        (404,),
        media_types=tuple(type_ for type_ in MEDIA_TYPES.values() if type_ != "text/html"),
    ),
    Route("GET", "/admin/status", "How each part is", "admin", {200: (answers.Status,)}),
    Route(
        "GET",
        "/admin/statistics",
        "Show what the last minutes were like",
        "admin",
        {200: (answers.Statistics,)},
        (503,),
        query={
            "minutes": {"type": "integer", "minimum": 1, "maximum": MAX_MINUTES, "default": DEFAULT_MINUTES},
        },
    ),
    Route("GET", "/admin/locks", "List the locks", "admin", {200: (answers.Locks,)}, (503,)),
    Route("GET", LOCK, "Show a conversation's lock", "admin", {200: (answers.Lock,)}, (404, 503)),
    Route("DELETE", LOCK, "Release a conversation's lock", "admin", {200: (answers.Released,)}, (404, 503)),
    Route(
        "POST",
        "/admin/locks/cleanup",
        "Sweep now",
        "admin",
        {200: (answers.Cleaned,)},
        (503,),
        requests.Cleanup,
        body_required=False,
        example={"max_age_hours": 24},
    ),
    Route(
        "GET",
        "/admin/jobs",
        "List the jobs, the newest first",
        "admin",
        {200: (answers.Jobs,)},
        (503,),
        query={"status": {"type": "string", "enum": [*JOB_STATUSES]}, "conversation_id": IDENTIFIER, **PAGE},
    ),
    Route(
        "POST",
        RETRY,
        "Let another job answer what one that failed did not",
        "admin",
        {202: (answers.Retried,)},
        (404, 409, 503),
    ),
    Route(
        "GET",
        "/admin/audit",
        "List what was done, the newest first",
        "admin",
        {200: (answers.AuditEntries,)},
        (503,),
        query={"kind": {"type": "string", "enum": [*AUDITED]}, **PAGE},
    ),
    Route(
        "GET",
        EXPORT,
        "Show all that is stored about a conversation",
        "admin",
        {200: (Export,)},
        (404, 503),
        query={"after": {"type": "string", "description": "The `next` of the page before."}},
    ),
    Route("DELETE", ERASURE, "Erase a conversation everywhere", "admin", {200: (answers.Erased,)}, (404, 503)),
    *records("/admin/bots", "bot_id", "bot", answers.Bot, answers.Bots, requests.Bot, BOT),
    *records("/admin/core-ai", "core_ai_id", "AI core", answers.CoreAI, answers.CoreAIs, requests.CoreAI, CORE_AI),
    *records(
        "/admin/platforms", "platform_id", "platform", answers.Platform, answers.Platforms, requests.Platform, PLATFORM
    ),
    Route("GET", "/admin/dead-letters", "List what was given up", "admin", {200: (answers.DeadLetters,)}, (503,)),
    Route(
        "POST",
        "/admin/dead-letters/redrive",
        "Try given up deliveries for another day",
        "admin",
        {200: (answers.Redriven,)},
        (503,),
    ),
)
