"""The routes for operators, and those that are open. `openapi.routes` has all routes."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from message_handler.http.console import MEDIA_TYPES
from message_handler.http.lists import AUDITED, DEFAULT_MINUTES, JOB_STATUSES, LEVELS, MAX_MINUTES, RAISED_STATES
from message_handler.http.paging import DEFAULT_LIMIT, MAX_LIMIT
from openapi import admin_answers as answers
from openapi import requests
from openapi.export_answers import Export
from openapi.route import Route, Schema
from openapi.schemas import CONVERSATION_ID

BOT: dict[str, object] = {"name": "Pharmacy Assistant", "language": "en", "meta_data": {"max_context_messages": 30}}
CORE_AI: dict[str, object] = {"name": "Simulated AI", "api_endpoint": "simulated://", "timeout_seconds": 20}
PLATFORM: dict[str, object] = {"name": "Clinic", "meta_data": {"rate_limit_per_minute": 60_000}}
OWN_RULES: dict[str, object] = {
    "rules": [
        {
            "language": "en",
            "words": {"pump": ["insulin pump", "pump"]},
            "rules": [
                {
                    "id": "clinic-pump",
                    "level": "urgent",
                    "about": "An insulin pump that fails",
                    "phrases": ["<pump> stopped", "<pump> is broken"],
                }
            ],
        }
    ],
    "not_applicable": {"en-seizure": "The ward line answers these patients."},
}

LOCK = "/admin/locks/{conversation_id}"
ERASURE = "/admin/conversations/{conversation_id}"
EXPORT = f"{ERASURE}/export"
RETRY = "/admin/jobs/{job_id}/retry"
SAFETY = "/admin/safety"
RAISED = f"{SAFETY}/raised"
TAKE = f"{RAISED}/{{job_id}}/take"
CLOSE = f"{RAISED}/{{job_id}}/close"

#: The query of each list that comes in pages.
PAGE: dict[str, Schema] = {
    "limit": {
        "type": "integer",
        "minimum": 1,
        "maximum": MAX_LIMIT,
        "default": DEFAULT_LIMIT,
        "description": "The most entries on a page.",
    },
    "next": {"type": "string", "description": "`next` of the previous page; absent for the first page."},
}


DAY: Schema = {"type": "string", "format": "date", "pattern": r"^2[01][0-9]{2}-[0-9]{2}-[0-9]{2}$"}


def records(path: str, id_field: str, noun: str, one: Any, all_: Any, body: Any, example: Schema) -> tuple[Route, ...]:
    """The routes of a kind of configuration record."""
    record = f"{path}/{{{id_field}}}"
    plural = f"{noun.partition(' ')[2]}s"
    own = id_field == "platform_id"
    # A tenant writes its own platform only, and no bot or AI core before that.
    refused = (404, 409) if own else (409,)
    first = (
        "This is the first record that a new tenant writes. `409` if it would take an active bot's emergency contacts "
        "away, with the setting REQUIRE_SAFETY."
        if own
        else "`409` until the tenant has written its own platform."
    )
    if id_field == "bot_id":
        first += " So it is for an active bot without emergency contacts, with the setting REQUIRE_SAFETY."
    written: dict[int, tuple[type[BaseModel], ...]] = {200: (one,), 201: (one,)}
    deleted: dict[int, tuple[type[BaseModel], ...]] = {200: (answers.Deleted,)}
    following = (f"GET {record}", f"DELETE {record}")
    return (
        Route(
            "GET", path, f"List the {plural}", f"All {plural} of the tenant, by id.", "admin", {200: (all_,)}, (503,)
        ),
        Route(
            "GET",
            record,
            f"Show {noun}",
            "The record, with `***` in place of each secret. The header `ETag` holds its revision.",
            "admin",
            {200: (one,)},
            (404, 503),
            revised=True,
        ),
        Route(
            "PUT",
            record,
            f"Write {noun}",
            "Creates the record (`201`) or replaces all of it (`200`). With `If-Match` it is written only if its "
            f"revision is still that one, else `412`. {first}",
            "admin",
            written,
            (*refused, 503),
            body,
            example=example,
            revised=True,
            links=following,
        ),
        Route(
            "DELETE",
            record,
            f"Delete {noun}",
            "`409` while another record refers to it. With `If-Match` it is deleted only if its revision is still that "
            "one, else `412`.",
            "admin",
            deleted,
            (404, 409, 503),
            revised=True,
        ),
    )


ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        "/health",
        "Say whether the service accepts messages",
        "For load balancers and monitors. `503` means that no message can be accepted now.",
        None,
        {200: (answers.Health,), 503: (answers.Health,)},
    ),
    Route(
        "GET",
        "/console",
        "Open the operators' page",
        "An HTML page without data. It reads all data from this API, with the token of the operator who signs in.",
        None,
        {},
        media_types=("text/html",),
    ),
    Route(
        "GET",
        "/console/settings.json",
        "Say how operators sign in",
        "The addresses for signing in, and the times after which the page calls a worker silent or a job late.",
        None,
        {200: (answers.ConsoleSettings,)},
    ),
    Route(
        "GET",
        "/console/{file}",
        "Load a file of the operators' page",
        "A script, style sheet or picture. The files hold no data of any tenant.",
        None,
        {},
        (404,),
        media_types=tuple(type_ for type_ in MEDIA_TYPES.values() if type_ != "text/html"),
    ),
    Route(
        "GET",
        "/admin/status",
        "Show the state of the service",
        "The state of each part, the depth of the queue, and whether a worker answers the tenant's messages.",
        "admin",
        {200: (answers.Status,)},
    ),
    Route(
        "GET",
        "/admin/statistics",
        "Show the last minutes",
        "For each minute: how many of the tenant's jobs began and ended, and how long the completed ones took.",
        "admin",
        {200: (answers.Statistics,)},
        (503,),
        query={
            "minutes": {
                "type": "integer",
                "minimum": 1,
                "maximum": MAX_MINUTES,
                "default": DEFAULT_MINUTES,
                "description": "How many minutes, the current one included.",
            },
        },
    ),
    Route(
        "GET",
        "/admin/locks",
        "List the locks",
        "All locks of the tenant's conversations, oldest first.",
        "admin",
        {200: (answers.Locks,)},
        (503,),
    ),
    Route(
        "GET",
        LOCK,
        "Show a conversation's lock",
        "The job that holds the conversation, and the last heartbeat of its worker. `404` if there is no lock.",
        "admin",
        {200: (answers.Lock,)},
        (404, 503),
    ),
    Route(
        "DELETE",
        LOCK,
        "Release a conversation's lock",
        "The worker that held the lock can no longer commit. Another worker answers the waiting messages.",
        "admin",
        {200: (answers.Released,)},
        (404, 503),
    ),
    Route(
        "POST",
        "/admin/locks/cleanup",
        "Sweep now",
        "Releases the tenant's locks that are too old or whose worker is silent, and wakes what waits. "
        "The schedule does the same once a minute.",
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
        "List the jobs",
        "The tenant's jobs, newest first, without the text of any message. A job that still waits for its first run "
        "is among the locks instead.",
        "admin",
        {200: (answers.Jobs,)},
        (503,),
        query={
            "status": {"type": "string", "enum": [*JOB_STATUSES], "description": "Only jobs with this status."},
            "conversation_id": CONVERSATION_ID | {"description": "Only jobs of this conversation."},
            **PAGE,
        },
    ),
    Route(
        "POST",
        RETRY,
        "Retry a failed job",
        "The failed job stays failed. A new job, `ai_job_id`, answers its messages. A second retry names the same new "
        "job. `409` if the job has not failed, or its failure is not archived yet. "
        "While a human answers, the messages are stored and `ai_job_id` is null.",
        "admin",
        {202: (answers.Retried,)},
        (404, 409, 503),
    ),
    Route(
        "GET",
        "/admin/audit",
        "List the audit",
        "Who changed or read what in the tenant, newest first. No entry holds a patient's words.",
        "admin",
        {200: (answers.AuditEntries,)},
        (503,),
        query={
            "kind": {"type": "string", "enum": [*AUDITED], "description": "Only entries about this kind of thing."},
            **PAGE,
        },
    ),
    Route(
        "GET",
        SAFETY,
        "Show the safety rules",
        "What the tenant has written about the rules (`settings`), the rules that its messages are checked with, how "
        "they were reviewed, and the shipped rules. The header `ETag` holds the settings' revision, 0 without any.",
        "admin",
        {200: (answers.SafetyRulesShown,)},
        (503,),
        revised=True,
    ),
    Route(
        "PUT",
        SAFETY,
        "Write the safety rules",
        "Replaces all that the tenant has written about the rules. No shipped rule can be removed: an operator may "
        "say, with a reason, that it does not apply. With `If-Match` they are written only if their revision is still "
        "that one, else `412`. `409` until the tenant has written its own platform.",
        "admin",
        {200: (answers.SafetyRulesShown,)},
        (409, 503),
        requests.SafetyRules,
        example=OWN_RULES,
        revised=True,
    ),
    Route(
        "GET",
        RAISED,
        "List the raised conversations",
        "The conversations of the tenant in which the rules have found danger, newest first, and who cares for their "
        "patients. No entry has a patient's words.",
        "admin",
        {200: (answers.RaisedConversations,)},
        (503,),
        query={
            "state": {"type": "string", "enum": [*RAISED_STATES], "description": "Only those in this state."},
            "level": {"type": "string", "enum": [*LEVELS], "description": "Only those of this level."},
            "conversation_id": CONVERSATION_ID | {"description": "Only those of this conversation."},
            "from": DAY | {"description": "Only those raised on this day (UTC) or later."},
            "to": DAY | {"description": "Only those raised on this day (UTC) or earlier."},
            **PAGE,
        },
    ),
    Route(
        "POST",
        TAKE,
        "Take a raised conversation",
        "The caller cares for the patient from now on. `409` if a person has taken or closed it: of two callers at the "
        "same moment, one takes it.",
        "admin",
        {200: (answers.RaisedConversation,)},
        (404, 409, 503),
        links=(f"POST {CLOSE}",),
    ),
    Route(
        "POST",
        CLOSE,
        "Close a raised conversation",
        "The conversation needs no more care. `why` is the operator's own word: it must never be a patient's text. "
        "`409` unless it is taken.",
        "admin",
        {200: (answers.RaisedConversation,)},
        (404, 409, 503),
        requests.Close,
        example={"why": "The nurse has called the patient."},
    ),
    Route(
        "POST",
        "/admin/safety/drill",
        "Raise a drill",
        "Raises a conversation as the rules would, so that people can practise. `drill` is true in the list, in its "
        "job and in the webhook. The conversation is made if it does not exist. `409` if it was erased a moment ago.",
        "admin",
        {201: (answers.RaisedConversation,)},
        (404, 409, 503),
        requests.Drill,
        example={"conversation_id": "drill-1"},
    ),
    Route(
        "GET",
        "/admin/safety/report",
        "Report on found danger",
        "Counts the danger that was found in the tenant: in all, by level, by rule and by the rule's language. Each "
        "row has what followed: how often and how soon it was delivered to the platform, taken and closed. The report "
        "has no text.",
        "admin",
        {200: (answers.SafetyReport,)},
        (503,),
        query={
            "from": DAY | {"description": "The first day (UTC), by default the first one of the year of `to`."},
            "to": DAY | {"description": "The last day (UTC), by default today."},
            "format": {
                "type": "string",
                "enum": ["json", "csv"],
                "default": "json",
                "description": "CSV has the rows.",
            },
        },
        also=("text/csv",),
    ),
    Route(
        "GET",
        EXPORT,
        "Export a conversation",
        "All that is stored about the conversation, in pages. Repeat the request with `after` until `next` is null. "
        "`503` if a store is away: an export is complete or refused.",
        "admin",
        {200: (Export,)},
        (404, 503),
        query={
            "after": {"type": "string", "description": "`next` of the previous page; absent for the first page."},
        },
    ),
    Route(
        "DELETE",
        ERASURE,
        "Erase a conversation",
        "Deletes the conversation from every store. A worker that still runs for it commits nothing. "
        "After `503` send the request again until it answers `200` or `404`.",
        "admin",
        {200: (answers.Erased,)},
        (404, 503),
    ),
    *records("/admin/bots", "bot_id", "a bot", answers.Bot, answers.Bots, requests.Bot, BOT),
    *records("/admin/core-ai", "core_ai_id", "an AI core", answers.CoreAI, answers.CoreAIs, requests.CoreAI, CORE_AI),
    *records(
        "/admin/platforms",
        "platform_id",
        "a platform",
        answers.Platform,
        answers.Platforms,
        requests.Platform,
        PLATFORM,
    ),
    Route(
        "GET",
        "/admin/dead-letters",
        "List the dead letters",
        "The tenant's webhook deliveries that were given up, without the text of any message.",
        "admin",
        {200: (answers.DeadLetters,)},
        (503,),
    ),
    Route(
        "POST",
        "/admin/dead-letters/redrive",
        "Redrive the dead letters",
        "Tries all of these deliveries again, for another day.",
        "admin",
        {200: (answers.Redriven,)},
        (503,),
    ),
)
