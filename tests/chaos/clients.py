"""The chat platform: it posts, edits and unsends messages, asks for jobs, and records the answers."""

from __future__ import annotations

import threading
import time
import uuid
from typing import Any

import requests

from tests.chaos.history import CANARY, DANGER, Cancelled, History, Posted, Seen, Told, Unsent, text_of
from tests.versions import message_of


def new_name(prefix: str) -> str:
    """A unique name for a conversation or message."""
    return f"{prefix}-{uuid.uuid4().hex[:10]}"


class Platform:
    """Calls the API at `url`, from any thread. Once `stopping` is set, it tries nothing again."""

    def __init__(self, history: History, stopping: threading.Event) -> None:
        self.url = ""
        self._history = history
        self._stopping = stopping
        self._sessions = threading.local()

    def post(self, conversation: str, version: str, words: str = "") -> Posted:
        """Post a version of a message once. `words` go to the simulated AI. The same version has the same words."""
        body = {"history": f"<USER>{text_of(version, words)}</USER><br>", "message_id": message_of(version)}
        at = time.time()
        status, answer = self.call("POST", f"/conversations/{conversation}/messages", body)
        flags = {name: bool(answer.get(name)) for name in ("duplicate", "edited", "degraded")}
        event = Posted(
            at,
            time.time(),
            conversation,
            version,
            status,
            answer.get("ai_job_id"),
            answer.get("action"),
            danger=DANGER in words,
            notice=(answer.get("safety") or {}).get("notice_job_id"),
            **flags,
        )
        self._history.posted.append(event)
        return event

    def hand_in(self, conversation: str, version: str, words: str = "", seconds: float = 30) -> Posted:
        """Post a version as a platform does: again and again until it is accepted, for `seconds` at most."""
        deadline = time.monotonic() + seconds
        while True:
            event = self.post(conversation, version, words)
            if event.accepted or time.monotonic() > deadline or self._stopping.wait(0.5):
                return event

    def unsend(self, conversation: str, message_id: str, seconds: float = 30) -> Unsent:
        """Unsend a message as a platform does: again and again until there is an answer, for `seconds` at most."""
        deadline = time.monotonic() + seconds
        while True:
            at = time.time()
            status, _ = self.call("DELETE", f"/conversations/{conversation}/messages/{message_id}")
            event = Unsent(at, time.time(), conversation, message_id, status)
            self._history.unsent.append(event)
            decided = status in (200, 404, 409)
            if decided or time.monotonic() > deadline or self._stopping.wait(0.5):
                return event

    def job(self, conversation: str, job_id: str, wait: int = 0, message_id: str | None = None) -> Seen | None:
        """The job as the API shows it, to a client that waits for `message_id` if given. None if there is no answer."""
        asked_for = f"&message_id={message_id}" if message_id else ""
        status, answer = self.call("GET", f"/jobs/{job_id}?wait={wait}{asked_for}")
        if status != 200:
            return None
        reply, error = answer["reply"], answer["error"]
        event = Seen(
            time.time(),
            conversation,
            job_id,
            answer["status"],
            reply["content"] if reply else None,
            error["code"] if error else None,
            answer["superseded_by"],
            tuple(Told(**told) for told in answer["messages"]),
            message_id,
            bool(answer.get("degraded")),
        )
        self._history.seen.append(event)
        return event

    def cancel(self, conversation: str, job_id: str) -> Cancelled:
        at = time.time()
        status, _ = self.call("DELETE", f"/jobs/{job_id}")
        event = Cancelled(at, time.time(), conversation, job_id, status)
        self._history.cancelled.append(event)
        return event

    def call(self, method: str, path: str, body: Any = None) -> tuple[int | None, dict[str, Any]]:
        if not hasattr(self._sessions, "session"):
            self._sessions.session = requests.Session()
            self._sessions.session.trust_env = False
        try:
            response = self._sessions.session.request(method, self.url + path, json=body, timeout=40)
        except requests.RequestException:
            return None, {}
        if response.status_code >= 400 and CANARY in response.text:
            self._history.leaks.append(f"the body of a {response.status_code} of {method}")
        if response.status_code >= 500 and response.status_code != 503:
            return None, {}  # the function died or was cut off: it may have acted
        return response.status_code, response.json() if response.text else {}
