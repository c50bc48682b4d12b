"""Calls the API with a token."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from message_handler.cli import tokens
from message_handler.cli.connection import Connection, NotSignedIn, check, json_of
from message_handler.cli.sessions import SIGN_IN_AGAIN, Session, SessionFile

DEFAULT_URL = "http://127.0.0.1:3000"


class ApiRefused(Exception):
    """The API refused the request, or the answer is not one of this API."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the API: JSON, and the record's revision if it has one."""

    status: int
    body: Any
    etag: str | None = None


class Client:
    """Calls the API at `url`. No token is ever a command-line argument, because `ps` shows those to every user.

    The token comes from the first of these that is there:

    - `MESSAGE_HANDLER_TOKEN`
    - client credentials: `MESSAGE_HANDLER_CLIENT_ID`, `MESSAGE_HANDLER_CLIENT_SECRET`, `MESSAGE_HANDLER_TOKEN_URL`
    - the session of `message-handler login`, whose access token is refreshed once if it has expired

    Without any of them no token is sent. Raises ValueError if `url` is an address that a token must not be sent to.
    """

    def __init__(self, url: str, environment: Mapping[str, str], *, platform_id: str | None = None) -> None:
        check(url, "--url")
        self.url = url.rstrip("/")
        self.connection = Connection()
        self.session_file = SessionFile(self.url, environment)
        self._environment = environment
        self._platform_id = platform_id
        self._session: Session | None = None
        self._is_refreshed = False

    def call(
        self,
        method: str,
        *path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        accept: tuple[int, ...] = (),
        signed_in: bool = True,
    ) -> Answer:
        """Call a route; each part of its path is escaped. Statuses of 400 and above raise, unless `accept` has them."""
        parameters = {name: value for name, value in (query or {}).items() if value is not None}
        url = f"{self.url}/{'/'.join(quote(part, safe='') for part in path)}" + (
            f"?{urlencode(parameters)}" if parameters else ""
        )
        content = None if body is None else json.dumps(body).encode()
        own = {"Accept": "application/json", "Content-Type": "application/json"} | dict(headers or {})
        if self._platform_id:
            own["X-Platform-Id"] = self._platform_id
        token = self._token() if signed_in else {}
        response = self.connection.request(method, url, body=content, headers=own | token)
        if response.status == 401 and self._session is not None and not self._is_refreshed:
            token = self._refreshed()
            response = self.connection.request(method, url, body=content, headers=own | token)
        answer = Answer(response.status, json_of(response), response.headers.get("ETag"))
        if response.status == 401:
            raise NotSignedIn(_in_one_line(answer) + self._advice(token))
        if response.status >= 400 and response.status not in accept:
            raise ApiRefused(_in_one_line(answer))
        if not isinstance(answer.body, dict):
            raise ApiRefused("this address is not a MessageHandler: check --url")
        return answer

    def _token(self) -> dict[str, str]:
        if token := self._environment.get("MESSAGE_HANDLER_TOKEN"):
            return _bearer(token)
        # One of these alone is a mistake. Report it rather than silently act as the person who has signed in.
        if any(self._environment.get(f"MESSAGE_HANDLER_{name}") for name in ("CLIENT_SECRET", "TOKEN_URL")):
            return _bearer(tokens.for_secret(self.connection, self._environment))
        self._session = self.session_file.read()
        if self._session is None:
            return {}
        return self._refreshed() if self._session.has_expired else _bearer(self._session.access_token)

    def _refreshed(self) -> dict[str, str]:
        assert self._session is not None
        self._session = tokens.refreshed(self.connection, self._session)
        self.session_file.write(self._session)
        self._is_refreshed = True
        return _bearer(self._session.access_token)

    def _advice(self, token: Mapping[str, str]) -> str:
        if self._session is not None:
            return f": {SIGN_IN_AGAIN}"
        return "" if token else ": sign in: message-handler login"


def _bearer(token: str) -> dict[str, str]:
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise NotSignedIn("this is not a token: MESSAGE_HANDLER_TOKEN must be one line of ASCII without spaces")
    return {"Authorization": f"Bearer {token}"}


def _in_one_line(answer: Answer) -> str:
    """A problem (RFC 9457) in one line."""
    body = answer.body if isinstance(answer.body, dict) else {}
    texts = [str(body[name]) for name in ("title", "detail") if body.get(name)]
    return " ".join([str(answer.status), ": ".join(texts or [str(body.get("message", ""))])]).strip()
