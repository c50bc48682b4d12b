"""A stand-in of a stack's Cognito and API for operators: it gives codes for challenges, and tokens for codes.

It follows AWS' pages on /oauth2/authorize, /oauth2/token and /oauth2/revoke for a public client.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.integration.conftest import CANARY

CLIENT_ID = "operators"
SCOPES = {"openid", "message-handler/admin", "message-handler/messages"}

Reply = tuple[int, dict[str, Any] | None, dict[str, str]]


@dataclass
class Cognito:
    """All its tokens contain the canary. Tests change its fields to change its answers."""

    #: The only address to which it sends a browser back.
    callback_url: str
    #: An error in place of a code, and a state in place of the client's.
    refusal: str | None = None
    state: str | None = None
    #: The lifetime of access tokens, in seconds.
    lifetime: int = 3600
    #: A status in place of any answer of /oauth2/token and /oauth2/revoke.
    status: int | None = None
    #: /oauth2/token waits for this event.
    may_answer: threading.Event = field(default_factory=threading.Event)
    url: str = ""
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    access_tokens: set[str] = field(default_factory=set)
    refresh_tokens: set[str] = field(default_factory=set)
    #: The requests to /oauth2/authorize, and to the other two endpoints.
    authorized: list[dict[str, str]] = field(default_factory=list)
    posted: list[dict[str, str]] = field(default_factory=list)
    #: The requests to /logout.
    left: list[dict[str, str]] = field(default_factory=list)

    @property
    def sign_in_url(self) -> str:
        return f"{self.url}/oauth2/authorize"

    @property
    def api_url(self) -> str:
        return f"{self.url}/v1"

    def authorize(self, asked: dict[str, str]) -> Reply:
        self.authorized.append(asked)
        if asked.get("client_id") != CLIENT_ID or asked.get("redirect_uri") != self.callback_url:
            return 400, {"error": "its page says so, and leads nowhere"}, {}
        answer = {"state": self.state or asked["state"]}
        if self.refusal:
            answer |= {"error": self.refusal, "error_description": f"{CANARY}\x1b[2J"}
        elif asked.get("response_type") != "code" or not set(asked["scope"].split(" ")) <= SCOPES:
            answer |= {"error": "invalid_scope"}
        else:
            code = f"code-{CANARY}-{secrets.token_hex(8)}"
            self.codes[code] = asked
            answer |= {"code": code}
        return 302, None, {"Location": f"{self.callback_url}?{urlencode(answer)}"}

    def token(self, form: dict[str, str]) -> Reply:
        self.posted.append(form)
        self.may_answer.wait(30)
        if self.status:
            return self.status, {"error": f"{CANARY}"}, {}
        if form.get("client_id") != CLIENT_ID:
            return 400, {"error": "invalid_client"}, {}
        if form["grant_type"] == "refresh_token":
            valid = form["refresh_token"] in self.refresh_tokens
            return (200, self._tokens(), {}) if valid else (400, {"error": "invalid_grant"}, {})
        asked = self.codes.pop(form["code"], None)  # once
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if (
            asked is None
            or form["grant_type"] != "authorization_code"
            or form["redirect_uri"] != asked["redirect_uri"]
            or asked.get("code_challenge_method") != "S256"
            or asked.get("code_challenge") != base64.urlsafe_b64encode(digest).decode().rstrip("=")
        ):
            return 400, {"error": "invalid_grant"}, {}
        refresh_token = f"refresh-{CANARY}-{secrets.token_hex(8)}"
        self.refresh_tokens.add(refresh_token)
        return 200, self._tokens() | {"refresh_token": refresh_token, "id_token": f"id-{CANARY}"}, {}

    def _tokens(self) -> dict[str, Any]:
        token = f"access-{CANARY}-{secrets.token_hex(8)}"
        self.access_tokens.add(token)
        return {"access_token": token, "expires_in": self.lifetime, "token_type": "Bearer"}

    def logout(self, asked: dict[str, str]) -> Reply:
        self.left.append(asked)
        known = asked.get("client_id") == CLIENT_ID and asked.get("logout_uri") == self.callback_url
        return (302, None, {"Location": self.callback_url}) if known else (400, {"error": "a page that says so"}, {})

    def revoke(self, form: dict[str, str]) -> Reply:
        self.posted.append(form)
        if self.status:
            return self.status, {"error": f"{CANARY}"}, {}
        self.refresh_tokens.discard(form["token"])
        return 200, None, {}

    def api(self, authorization: str) -> Reply:
        if authorization.removeprefix("Bearer ") in self.access_tokens:
            return 200, {"status": "healthy", "locks": []}, {}
        return 401, {"message": "Unauthorized"}, {}


@contextmanager
def running(cognito: Cognito) -> Iterator[Cognito]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            parts = urlsplit(self.path)
            asked = {name: values[0] for name, values in parse_qs(parts.query or body).items()}
            routes = {"/oauth2/authorize": cognito.authorize, "/oauth2/token": cognito.token}
            if self.command == "POST" and parts.path == "/oauth2/revoke":
                reply = cognito.revoke(asked)
            elif parts.path in routes and (self.command == "POST") == parts.path.endswith("token"):
                reply = routes[parts.path](asked)
                # Lets a page of another origin read the answer.
                reply[2]["Access-Control-Allow-Origin"] = "*"
            elif self.command == "GET" and parts.path == "/logout":
                reply = cognito.logout(asked)
            else:
                reply = cognito.api(self.headers.get("Authorization", ""))
            status, answer, headers = reply
            content = b"" if answer is None else json.dumps(answer).encode()
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(content))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    cognito.url = f"http://127.0.0.1:{server.server_port}"
    cognito.may_answer.set()
    try:
        yield cognito
    finally:
        cognito.may_answer.set()
        server.shutdown()
        thread.join()
        server.server_close()


def until(what: Any, seconds: float = 30) -> None:
    """Wait until `what` is true."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come so far in time"
        time.sleep(0.02)
