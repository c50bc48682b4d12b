"""The authorisation matrix: each route's answer to each caller. Tests run it over the functions and the whole stack.

Two tenants, A and B, have a conversation of the same id and records of the same ids. A's have a running job and a name
that only A may see. A route of template.yaml without a row here fails a test.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Scope = Literal["messages", "admin"]
Name = tuple[str, str]

#: A mark in all data of A. No answer to B may have it.
MARK = "confidential of A"
CONVERSATION = "conv_123"
RAISED, DRILL = "/admin/safety/raised", "/admin/safety/drill"
HELLO = {"messages": [{"role": "user", "content": f"[slow:20] hello {MARK}", "message_id": "m-1"}]}


@dataclass(frozen=True)
class Token:
    """A caller's access token. `tenant` is None if it names none. `is_owner`: it has the deployment's scope too."""

    tenant: str | None
    scope: Scope
    expires: float = 3600
    is_owner: bool = False

    @property
    def scopes(self) -> list[str]:
        return [self.scope, *(["deployment"] if self.is_owner else [])]


@dataclass(frozen=True)
class Answer:
    status: int
    text: str

    @property
    def body(self) -> Any:
        return json.loads(self.text)


#: Method, resource, path parameters, body, and the caller's token.
Call = Callable[[str, str, dict[str, str], Any, Token | None], Answer]


@dataclass(frozen=True)
class Row:
    """A route: the scope that it needs (None: it is open), and its status for the tenant itself (`right`).

    `other` is its status for B with an id of A's: 404 if B has no such thing, else that of B's own thing. `told` is the
    whole body of that answer.
    """

    scope: Scope | None
    right: int
    other: int
    body: Any = None
    told: Any = None


ROWS: dict[Name, Row] = {
    ("POST", "/conversations/{conversation_id}/messages"): Row("messages", 202, 202, HELLO),
    ("DELETE", "/conversations/{conversation_id}/messages/{message_id}"): Row("messages", 200, 404),
    ("GET", "/conversations/{conversation_id}"): Row("messages", 200, 404),
    ("POST", "/conversations/{conversation_id}/handoff"): Row("messages", 200, 404, {"to": "human"}),
    ("GET", "/jobs/{job_id}"): Row("messages", 200, 404),
    ("DELETE", "/jobs/{job_id}"): Row("messages", 200, 404),
    ("GET", "/health"): Row(None, 200, 200),
    ("GET", "/console"): Row(None, 200, 200),
    ("GET", "/console/settings.json"): Row(None, 200, 200),
    ("GET", "/console/{file}"): Row(None, 200, 200),
    ("GET", "/admin/status"): Row("admin", 200, 200),
    ("GET", "/admin/statistics"): Row("admin", 200, 200),
    ("GET", "/admin/jobs"): Row("admin", 200, 200, told={"jobs": [], "next": None}),
    ("POST", "/admin/jobs/{job_id}/retry"): Row("admin", 409, 404),
    ("GET", "/admin/audit"): Row("admin", 200, 200),
    ("GET", "/admin/safety"): Row("admin", 200, 200),
    ("PUT", "/admin/safety"): Row("admin", 200, 200, {"languages": ["en"]}),
    ("GET", "/admin/safety/raised"): Row("admin", 200, 200, told={"raised": [], "next": None}),
    ("POST", "/admin/safety/raised/{job_id}/take"): Row("admin", 200, 404),
    ("POST", "/admin/safety/raised/{job_id}/close"): Row("admin", 409, 404, {"why": "care"}),  # no person has taken it
    ("POST", "/admin/safety/drill"): Row("admin", 201, 201, {"conversation_id": CONVERSATION}),
    ("GET", "/admin/safety/report"): Row("admin", 200, 200),
    ("GET", "/admin/conversations/{conversation_id}/export"): Row("admin", 200, 404),
    ("DELETE", "/admin/conversations/{conversation_id}"): Row("admin", 200, 404),
    ("GET", "/admin/locks"): Row("admin", 200, 200, told={"locks": []}),
    ("GET", "/admin/locks/{conversation_id}"): Row("admin", 200, 404),
    ("DELETE", "/admin/locks/{conversation_id}"): Row("admin", 200, 404),
    ("POST", "/admin/locks/cleanup"): Row("admin", 200, 200, {"max_age_hours": 0}, {"cleaned": 0}),
    ("GET", "/admin/bots"): Row("admin", 200, 200, told={"bots": []}),
    ("GET", "/admin/bots/{bot_id}"): Row("admin", 200, 404),
    ("PUT", "/admin/bots/{bot_id}"): Row("admin", 200, 201, {"name": "Bot"}),
    ("DELETE", "/admin/bots/{bot_id}"): Row("admin", 200, 404),
    ("GET", "/admin/core-ai"): Row("admin", 200, 200, told={"core_ai": []}),
    ("GET", "/admin/core-ai/{core_ai_id}"): Row("admin", 200, 404),
    ("PUT", "/admin/core-ai/{core_ai_id}"): Row("admin", 200, 201, {"name": "AI", "api_endpoint": "simulated://"}),
    ("DELETE", "/admin/core-ai/{core_ai_id}"): Row("admin", 200, 404),
    ("GET", "/admin/platforms"): Row("admin", 200, 200),
    ("GET", "/admin/platforms/{platform_id}"): Row("admin", 200, 404),
    ("PUT", "/admin/platforms/{platform_id}"): Row("admin", 200, 404, {"name": "Clinic"}),
    ("DELETE", "/admin/platforms/{platform_id}"): Row("admin", 409, 404),  # it has bots
    ("GET", "/admin/dead-letters"): Row("admin", 200, 200, told={"deliveries": []}),
    ("POST", "/admin/dead-letters/redrive"): Row("admin", 200, 200, told={"redriven": 0}),
}

#: The callers that each route refuses unless it is open, and the status.
REFUSED = {"no token": 401, "expired": 401, "wrong scope": 403, "no tenant": 403}


@dataclass
class Matrix:
    """The two tenants, and the way to call the API."""

    call: Call
    a: str
    b: str
    ids: dict[str, str] = field(default_factory=dict)

    def prepare(self) -> None:
        """Let A have one of everything. B is a platform that has nothing yet."""
        self.ids = {"conversation_id": CONVERSATION, "platform_id": self.a, "bot_id": "nurse", "core_ai_id": "trial"}
        self.ids |= {"message_id": "m-1", "file": "app.js"}
        for kind, body in (
            ("platforms/{platform_id}", {"name": MARK}),
            ("core-ai/{core_ai_id}", {"name": MARK, "api_endpoint": "simulated://"}),
            ("bots/{bot_id}", {"name": MARK}),
        ):
            written = self.ask("PUT", f"/admin/{kind}", Token(self.a, "admin"), body)
            assert written.status in (200, 201), written.text
        reason = {"not_applicable": {"en-seizure": MARK}}
        written = self.ask("PUT", "/admin/safety", Token(self.a, "admin"), reason)
        assert written.status == 200, written.text
        own, operator = {"platform_id": self.b}, Token(self.b, "admin")
        written = self.call("PUT", "/admin/platforms/{platform_id}", own, {"name": "B"}, operator)
        assert written.status in (200, 201), written.text
        posted = self.ask("POST", "/conversations/{conversation_id}/messages", Token(self.a, "messages"), HELLO)
        assert posted.status == 202, posted.text
        self.ids["job_id"] = posted.body["ai_job_id"]
        drill = self.ask("POST", DRILL, Token(self.a, "admin"), {"conversation_id": CONVERSATION})
        assert drill.status == 201, drill.text
        self.ids["raised_id"] = drill.body["job_id"]

    def ask(self, method: str, resource: str, token: Token | None, body: Any = None) -> Answer:
        """Call a route with the ids of A's things."""
        raised = {"job_id": self.ids["raised_id"]} if resource.startswith(f"{RAISED}/") else {}
        return self.call(method, resource, self.ids | raised, body, token)

    def tokens(self, row: Row) -> Iterator[tuple[str, Token | None]]:
        """The tokens that a route refuses, each with its name."""
        scope = row.scope or "admin"
        right = Token(self.a, scope)
        yield "no token", None
        yield "expired", replace(right, expires=-60)
        yield "wrong scope", replace(right, scope="admin" if scope == "messages" else "messages")
        yield "no tenant", replace(right, tenant=None)

    def all_of_a(self) -> dict[str, Any]:
        """All data that A can see, without fields that change by themselves."""
        seen = {}
        for (method, resource), row in ROWS.items():
            if method == "GET" and row.scope and resource not in UNSTEADY:
                answer = self.ask(method, resource, Token(self.a, row.scope))
                assert answer.status == 200, (resource, answer.text)
                seen[resource] = _lasting(answer.body)
        assert MARK in json.dumps(seen)
        return seen

    def check(self, name: Name) -> None:
        """Check one row: each caller gets its status, and only A's own call changes data of A."""
        row, before = ROWS[name], self.all_of_a()
        for who, token in self.tokens(row):
            answer = self.ask(*name, token, row.body)
            assert answer.status == (REFUSED[who] if row.scope else row.right), (who, answer.text)
            assert not row.scope or set(answer.body) == {"type", "title", "status", "detail"}
        other = self.ask(*name, Token(self.b, row.scope or "admin"), row.body)
        assert other.status == row.other, other.text
        assert row.told is None or other.body == row.told
        for secret in (MARK, self.a, self.ids["job_id"], self.ids["raised_id"]):
            assert secret not in other.text
        assert self.all_of_a() == before
        right = self.ask(*name, Token(self.a, row.scope or "admin"), row.body)
        assert right.status == row.right, right.text


#: Routes whose answers change by themselves, or with each request.
UNSTEADY = {"/admin/status", "/admin/statistics", "/admin/audit"}
#: Fields that change while a worker runs the job.
_PASSING = {"progress", "started_at", "attempts", "heartbeat_at", "expires_at", "usage"}


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {name: _lasting(item) for name, item in value.items() if name not in _PASSING}
        return kept | ({"status": "live"} if kept.get("status") in ("pending", "processing") else {})
    return [_lasting(item) for item in value] if isinstance(value, list) else value
