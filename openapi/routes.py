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
    "description": "Longest wait for the end of the job, in seconds. With `message_id`: for the end of that message.",
}
MESSAGE_ID: Schema = {
    "type": "string",
    "description": "Follow this message, one of those that were promised the job, to the job in which it ends.",
}

ROUTES: tuple[Route, ...] = (
    Route(
        "POST",
        f"{CONVERSATION}/messages",
        "Accept a patient's message",
        "`202`: the message is in a durable queue. `ai_job_id` names the job that answers it, or leads to the one that "
        "does. Read the reply with `GET /jobs/{job_id}`, or receive it by webhook. The same message sent again returns "
        "the same job and starts nothing. With other words it is an edit (`edited: true`): a reply answers the newest "
        "words. While a human answers, the message is stored and `ai_job_id` is null. "
        "A message without words (a photo, a sticker) is kept, and its `ai_job_id` is null. "
        "`409` with `action: rejected`: the bot's policy is `reject` and it is answering another message. Nothing was "
        "stored: try again.",
        "messages",
        {202: (answers.Taken, answers.Joined, answers.Parked, answers.NothingToAnswer), 409: (answers.Rejection,)},
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
        "DELETE",
        f"{CONVERSATION}/messages/{{message_id}}",
        "Take a message back",
        "The patient has unsent the message: no reply answers it, nor any edit of it. Its job goes on without it, or "
        "ends as cancelled if it has no other message. Repeating it changes nothing. "
        "`409`: the message was answered. The reply stands, and later contexts omit the message.",
        "messages",
        {200: (answers.Unsent,)},
        (404, 409, 503),
    ),
    Route(
        "GET",
        CONVERSATION,
        "Show a conversation",
        "The archived turns, oldest first, and the messages that wait for an answer. "
        "`404` until the first message of the conversation was accepted.",
        "messages",
        {200: (answers.Conversation,)},
        (404, 503),
    ),
    Route(
        "POST",
        HANDOFF,
        "Hand a conversation to a human, or back to the bot",
        '`{"to": "human"}` silences the bot: its running job is cancelled, and later messages are stored. '
        '`{"to": "bot"}` resumes: one job, `ai_job_id`, answers all messages that were stored meanwhile.',
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
        "The job's status, its messages, and its reply or error. With `wait` the request stays open until the job ends "
        "or the time is over. If another job answered the messages, `answered_by` names it. "
        "If too many clients wait already, the job is shown at once, with `Retry-After`.",
        "messages",
        {200: (answers.Job,)},
        (404, 503),
        query={"wait": WAIT, "message_id": MESSAGE_ID},
    ),
    Route(
        "DELETE",
        JOB,
        "Cancel a job",
        "Its messages get no answer. `409` if the job has ended or its reply is being committed.",
        "messages",
        {200: (answers.Job,)},
        (404, 409, 503),
    ),
    *admin_routes.ROUTES,
)
