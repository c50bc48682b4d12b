"""What Cognito gives tokens for (RFC 6749, 7009, 7636): a client's secret, a code, a refresh token.

Errors never hold what was sent or answered.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlencode, urljoin, urlsplit

import urllib3

from message_handler.cli.connection import Connection, NotSignedIn, Response, Unreachable, check, json_of
from message_handler.cli.sessions import SIGN_IN_AGAIN, Session


def for_secret(connection: Connection, environment: Mapping[str, str]) -> str:
    """An access token by client credentials (RFC 6749, 4.4)."""
    names = ("MESSAGE_HANDLER_CLIENT_ID", "MESSAGE_HANDLER_CLIENT_SECRET", "MESSAGE_HANDLER_TOKEN_URL")
    given = [environment.get(name) for name in names]
    if missing := [name for name, value in zip(names, given, strict=True) if not value]:
        raise NotSignedIn(f"{' and '.join(missing)} is missing")
    client_id, secret, url = (value or "" for value in given)
    check(url, "MESSAGE_HANDLER_TOKEN_URL")
    basic = urllib3.make_headers(basic_auth=f"{quote(client_id, safe='')}:{quote(secret, safe='')}")
    response = _post(connection, url, {"grant_type": "client_credentials"}, basic)
    found = json_of(response)
    token = found.get("access_token") if response.status == 200 and isinstance(found, dict) else None
    if not isinstance(token, str):
        raise NotSignedIn(f"MESSAGE_HANDLER_TOKEN_URL gave no token ({response.status})")
    return token


def for_code(
    connection: Connection, sign_in_url: str, client_id: str, *, code: str, verifier: str, callback_url: str
) -> Session:
    """The session that a code stands for, if it was made for this verifier (RFC 7636, 4.5). Raises NotSignedIn."""
    answer = _granted(
        connection,
        sign_in_url,
        {
            "grant_type": "authorization_code",
            "client_id": client_id,
            "code": code,
            "code_verifier": verifier,
            "redirect_uri": callback_url,
        },
    )
    return Session(sign_in_url, client_id, refresh_token=answer.pop("refresh_token", ""), **answer)


def refreshed(connection: Connection, session: Session) -> Session:
    """The same with another access token; Cognito gives another refresh token only if it rotates them.

    Raises NotSignedIn if it has ended.
    """
    asked = {"grant_type": "refresh_token", "client_id": session.client_id, "refresh_token": session.refresh_token}
    return replace(session, **_granted(connection, session.sign_in_url, asked))


def revoke(connection: Connection, session: Session) -> bool:
    """Whether the refresh token gives nothing any more (RFC 7009).

    An access token lasts its hour all the same: API Gateway asks nobody whether it was revoked.
    """
    asked = {"token": session.refresh_token, "client_id": session.client_id}
    try:
        return _post(connection, urljoin(session.sign_in_url, "revoke"), asked).status == 200
    except Unreachable:
        return False


def _granted(connection: Connection, sign_in_url: str, asked: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a session that the token endpoint, beside the address to sign in at, has answered."""
    url = urljoin(sign_in_url, "token")
    response = _post(connection, url, asked)
    if response.status == 429 or response.status >= 500:
        raise Unreachable(f"{urlsplit(url).netloc} answers {response.status}: try again later")
    found = json_of(response)
    if response.status != 200 or not isinstance(found, dict):
        ended = isinstance(found, dict) and found.get("error") == "invalid_grant"
        why = (
            "the sign-in is not valid any more"
            if ended
            else f"{urlsplit(url).netloc} gave no token ({response.status})"
        )
        raise NotSignedIn(f"{why}: {SIGN_IN_AGAIN}")
    tokens = {name: found[name] for name in ("access_token", "refresh_token") if isinstance(found.get(name), str)}
    if "access_token" not in tokens or not isinstance(found.get("expires_in"), int):
        raise NotSignedIn(f"what answers at {urlsplit(url).netloc} is no Cognito: look at --sign-in-url")
    return tokens | {"expires_at": time.time() + found["expires_in"]}


def _post(
    connection: Connection, url: str, asked: Mapping[str, str], headers: Mapping[str, str] | None = None
) -> Response:
    form = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    return connection.request("POST", url, body=urlencode(asked).encode(), headers=form | dict(headers or {}))
