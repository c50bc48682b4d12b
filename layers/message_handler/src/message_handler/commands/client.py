"""One call of the API, signed in, with a bounded time; what goes wrong is one line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import urllib3

#: Seconds: to connect, and for the answer; the API itself waits 29 for a function.
_TIMEOUT = urllib3.Timeout(connect=5, read=35)
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Refused(Exception):
    """The API answered, and not with what was asked for."""


class Unreachable(Exception):
    """Nobody answered in time."""


class NotSignedIn(Exception):
    """There is no token, or the API doesn't take it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API said: JSON, and the record's revision if it has one."""

    status: int
    body: Any
    etag: str | None = None


class Client:
    """Calls the API at `url`. Tokens come from the environment alone: arguments are shown to every user by `ps`.

    `MESSAGE_HANDLER_TOKEN`, or `MESSAGE_HANDLER_CLIENT_ID`, `MESSAGE_HANDLER_CLIENT_SECRET` and
    `MESSAGE_HANDLER_TOKEN_URL` for client credentials (RFC 6749, 4.4). Without any, no token is sent. Raises ValueError
    for an address that a token must not be sent to.
    """

    def __init__(self, url: str, environment: Mapping[str, str], *, platform_id: str | None = None) -> None:
        _check(url, "--url")
        self._url = url.rstrip("/")
        self._environment = environment
        self._platform_id = platform_id
        self._pool = urllib3.PoolManager(timeout=_TIMEOUT, retries=False)

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
        """Call a route, each part of its path as it is. Statuses from 400 on raise, unless they are in `accept`."""
        asked = {name: value for name, value in (query or {}).items() if value is not None}
        url = f"{self._url}/{'/'.join(quote(part, safe='') for part in path)}"
        response = self._request(
            method,
            url + (f"?{urlencode(asked)}" if asked else ""),
            body=None if body is None else json.dumps(body).encode(),
            headers={"Accept": "application/json", "Content-Type": "application/json"}
            | ({"X-Platform-Id": self._platform_id} if self._platform_id else {})
            | (self._signed_in() if signed_in else {})
            | dict(headers or {}),
        )
        answer = Answer(response.status, _json(response), response.headers.get("ETag"))
        if response.status == 401:
            raise NotSignedIn(_told(answer))
        if response.status >= 400 and response.status not in accept:
            raise Refused(_told(answer))
        if not isinstance(answer.body, dict):
            raise Refused("what answers there is no MessageHandler: look at --url")
        return answer

    def _signed_in(self) -> dict[str, str]:
        token = self._environment.get("MESSAGE_HANDLER_TOKEN") or self._client_credentials()
        if token and not (token.isascii() and token.isprintable() and " " not in token):
            raise NotSignedIn("the token is none: MESSAGE_HANDLER_TOKEN holds one line of ASCII")
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _client_credentials(self) -> str | None:
        names = ("MESSAGE_HANDLER_CLIENT_ID", "MESSAGE_HANDLER_CLIENT_SECRET", "MESSAGE_HANDLER_TOKEN_URL")
        given = [self._environment.get(name) for name in names]
        if not any(given):
            return None
        if missing := [name for name, value in zip(names, given, strict=True) if not value]:
            raise NotSignedIn(f"{' and '.join(missing)} is missing")
        client_id, secret, url = (value or "" for value in given)
        _check(url, "MESSAGE_HANDLER_TOKEN_URL")
        basic = urllib3.make_headers(basic_auth=f"{quote(client_id, safe='')}:{quote(secret, safe='')}")
        response = self._request(
            "POST",
            url,
            body=b"grant_type=client_credentials",
            headers={"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"} | basic,
        )
        found = _json(response)
        token = found.get("access_token") if response.status == 200 and isinstance(found, dict) else None
        if not isinstance(token, str):
            raise NotSignedIn(f"MESSAGE_HANDLER_TOKEN_URL gave no token ({response.status})")
        return token

    def _request(
        self, method: str, url: str, *, body: bytes | None, headers: dict[str, str]
    ) -> urllib3.BaseHTTPResponse:
        try:
            return self._pool.request(method, url, body=body, headers=headers, redirect=False)
        except urllib3.exceptions.NewConnectionError:  # urllib3 counts it among the timeouts
            raise Unreachable(f"{urlsplit(url).netloc} can't be reached") from None
        except urllib3.exceptions.TimeoutError:
            raise Unreachable(f"{urlsplit(url).netloc} did not answer in time") from None
        except urllib3.exceptions.SSLError:
            raise Unreachable(f"{urlsplit(url).netloc} has no certificate that can be trusted") from None
        except urllib3.exceptions.HTTPError:
            raise Unreachable(f"{urlsplit(url).netloc} can't be reached") from None


def _check(url: str, name: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError(f"{name} must be https://… without credentials")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise ValueError(f"{name} must be https://…: tokens go there")


def _json(response: urllib3.BaseHTTPResponse) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def _told(answer: Answer) -> str:
    """A problem (RFC 9457) in one line."""
    body = answer.body if isinstance(answer.body, dict) else {}
    about = [str(body[name]) for name in ("title", "detail") if body.get(name)]
    return " ".join([str(answer.status), ": ".join(about or [str(body.get("message", ""))])]).strip()
