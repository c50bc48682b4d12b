"""Every route of the API: what it is for, what it takes and each status that it answers with."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import BaseModel

from openapi import answers, requests

MESSAGES, ADMIN = "message-handler/messages", "message-handler/admin"
#: The statuses that the gateway answers with by itself, or any function where something breaks.
COMMON = (429, 500, 502, 504)
UNAUTHORIZED = (401, 403)
#: A body that is too large, or not JSON.
BODY = (400, 413)
#: By the name of a path's parameter.
EXAMPLES = {
    "conversation_id": "conv_123",
    "job_id": "361f1a3a-0dbe-8854-9d6e-3cf972894b32",
    "bot_id": "pharmacy",
    "core_ai_id": "trial",
    "platform_id": "default",
}
BOT: dict[str, object] = {"name": "Pharmacy Assistant", "language": "en", "meta_data": {"max_context_messages": 30}}
CORE_AI: dict[str, object] = {"name": "Simulated AI", "api_endpoint": "simulated://", "timeout_seconds": 20}
PLATFORM: dict[str, object] = {"name": "Clinic"}
MESSAGE: dict[str, object] = {
    "history": "<USER>Hello</USER><br>",
    "resources": {"user_id": "user_456"},
    "message_id": "m-1",
}

Models = tuple[type[BaseModel], ...]


@dataclass(frozen=True)
class Route:
    """One route. `answers` are its bodies by status, `problems` the errors beside those of COMMON.

    `scope`: None is open to everybody. `body`: what it takes, with an `example`, and whether it may be left out.
    `query`: parameters by name, with their schemas. `links`: the operations that may follow, on what this one named
    or made.
    """

    method: str
    path: str
    summary: str
    scope: str | None
    answers: dict[int, Models]
    problems: tuple[int, ...] = ()
    body: type[BaseModel] | None = None
    body_required: bool = True
    query: dict[str, dict[str, object]] = field(default_factory=dict)
    example: dict[str, object] | None = None
    links: tuple[str, ...] = ()

    @property
    def all_problems(self) -> list[int]:
        return sorted({*self.problems, *COMMON, *(UNAUTHORIZED if self.scope else ()), *(BODY if self.body else ())})


def records(
    path: str,
    id_field: str,
    noun: str,
    one: type[BaseModel],
    all_: type[BaseModel],
    body: type[BaseModel],
    example: dict[str, object],
) -> tuple[Route, ...]:
    """The routes of a kind of configuration record."""
    record = f"{path}/{{{id_field}}}"
    return (
        Route("GET", path, f"List every {noun}", ADMIN, {200: (all_,)}, (503,)),
        Route("GET", record, f"Show one {noun}", ADMIN, {200: (one,)}, (400, 404, 503)),
        Route(
            "PUT",
            record,
            f"Write one {noun}",
            ADMIN,
            {200: (one,), 201: (one,)},
            (404, 503),
            body,
            example=example,
            links=(f"GET {record}", f"DELETE {record}"),
        ),
        Route(
            "DELETE",
            record,
            f"Delete one {noun} that nothing refers to",
            ADMIN,
            {200: (answers.Deleted,)},
            (400, 404, 409, 503),
        ),
    )


CONVERSATION = "/conversations/{conversation_id}"
HANDOFF = f"{CONVERSATION}/handoff"
JOB = "/jobs/{job_id}"
LOCK = "/admin/locks/{conversation_id}"
WAIT: dict[str, object] = {
    "type": "integer",
    "minimum": 0,
    "maximum": 25,
    "description": "Seconds to wait for the job to end.",
}

ROUTES: tuple[Route, ...] = (
    Route(
        "POST",
        f"{CONVERSATION}/messages",
        "Accept a patient's message",
        MESSAGES,
        {202: (answers.Taken, answers.Joined, answers.Held), 409: (answers.Rejection,)},
        (404, 409, 503),
        requests.MessageRequest,
        example=MESSAGE,
        links=(
            f"GET {JOB}",
            f"DELETE {JOB}",
            f"GET {CONVERSATION}",
            f"POST {HANDOFF}",
            f"GET {LOCK}",
            f"DELETE {LOCK}",
        ),
    ),
    Route(
        "GET",
        CONVERSATION,
        "Show the archived turns and what is pending",
        MESSAGES,
        {200: (answers.Conversation,)},
        (400, 404, 503),
    ),
    Route(
        "POST",
        HANDOFF,
        "Silence the bot, or hand back to it",
        MESSAGES,
        {200: (answers.Handoff,)},
        (404, 409, 503),
        requests.Handoff,
        example={"to": "human"},
    ),
    Route(
        "GET",
        JOB,
        "Show a job, or wait for its end",
        MESSAGES,
        {200: (answers.Job,)},
        (400, 404, 503),
        query={"wait": WAIT},
    ),
    Route("DELETE", JOB, "Cancel a job", MESSAGES, {200: (answers.Job,)}, (404, 409, 503)),
    Route("GET", "/health", "Whether messages are taken", None, {200: (answers.Health,), 503: (answers.Health,)}),
    Route("GET", "/admin/status", "How each part is", ADMIN, {200: (answers.Status,)}),
    Route("GET", "/admin/locks", "List the locks", ADMIN, {200: (answers.Locks,)}, (503,)),
    Route("GET", LOCK, "Show a conversation's lock", ADMIN, {200: (answers.Lock,)}, (400, 404, 503)),
    Route("DELETE", LOCK, "Release a conversation's lock", ADMIN, {200: (answers.Released,)}, (400, 404, 503)),
    Route(
        "POST",
        "/admin/locks/cleanup",
        "Sweep now",
        ADMIN,
        {200: (answers.Cleaned,)},
        (503,),
        requests.Cleanup,
        body_required=False,
        example={"max_age_hours": 24},
    ),
    *records("/admin/bots", "bot_id", "bot", answers.Bot, answers.Bots, requests.Bot, BOT),
    *records("/admin/core-ai", "core_ai_id", "AI core", answers.CoreAI, answers.CoreAIs, requests.CoreAI, CORE_AI),
    *records(
        "/admin/platforms", "platform_id", "platform", answers.Platform, answers.Platforms, requests.Platform, PLATFORM
    ),
    Route("GET", "/admin/dead-letters", "List what was given up", ADMIN, {200: (answers.DeadLetters,)}, (503,)),
    Route(
        "POST",
        "/admin/dead-letters/redrive",
        "Try given up deliveries for another day",
        ADMIN,
        {200: (answers.Redriven,)},
        (503,),
    ),
)
