"""Every route of the API."""

from __future__ import annotations

from openapi import admin_routes, answers, requests
from openapi.route import Route, Schema

MESSAGE: dict[str, object] = {
    "history": "<USER>Hello</USER><br>",
    "resources": {"user_id": "user_456"},
    "message_id": "m-1",
}

CONVERSATION = "/conversations/{conversation_id}"
HANDOFF = f"{CONVERSATION}/handoff"
JOB = "/jobs/{job_id}"
WAIT: Schema = {
    "type": "integer",
    "minimum": 0,
    "maximum": 25,
    "description": "Seconds to wait for the job, or with `message_id` for that message, to end.",
}
MESSAGE_ID: Schema = {
    "type": "string",
    "description": "Show this one of the messages that were promised the job.",
}

ROUTES: tuple[Route, ...] = (
    Route(
        "POST",
        f"{CONVERSATION}/messages",
        "Accept a patient's message",
        "messages",
        {202: (answers.Taken, answers.Joined, answers.Held), 409: (answers.Rejection,)},
        (404, 409, 503),
        requests.MessageRequest,
        example=MESSAGE,
        links=(
            f"GET {JOB}",
            f"DELETE {JOB}",
            f"GET {CONVERSATION}",
            f"POST {HANDOFF}",
            f"GET {admin_routes.LOCK}",
            f"DELETE {admin_routes.LOCK}",
            f"GET {admin_routes.EXPORT}",
            f"DELETE {admin_routes.ERASURE}",
            f"POST {admin_routes.RETRY}",
        ),
    ),
    Route(
        "GET",
        CONVERSATION,
        "Show the archived turns and what is pending",
        "messages",
        {200: (answers.Conversation,)},
        (404, 503),
    ),
    Route(
        "POST",
        HANDOFF,
        "Silence the bot, or hand back to it",
        "messages",
        {200: (answers.Handoff,)},
        (404, 409, 503),
        requests.Handoff,
        example={"to": "human"},
    ),
    Route(
        "GET",
        JOB,
        "Show a job, or wait for its end",
        "messages",
        {200: (answers.Job,)},
        (404, 503),
        query={"wait": WAIT, "message_id": MESSAGE_ID},
    ),
    Route("DELETE", JOB, "Cancel a job", "messages", {200: (answers.Job,)}, (404, 409, 503)),
    *admin_routes.ROUTES,
)
