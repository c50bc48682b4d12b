"""Gets tokens from Cognito for a client's secret, a code or a refresh token (RFC 6749, 7009, 7636).

An error never holds anything that was sent or answered.
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
    """An access token for client credentials (RFC 6749, 4.4). Raises NotSignedIn."""
    names = ("MESSAGE_HANDLER_CLIENT_ID", "MESSAGE_HANDLER_CLIENT_SECRET", "MESSAGE_HANDLER_TOKEN_URL")
    given = [environment.get(name) for name in names]
    if missing := [name for name, value in zip(names, given, strict=True) if not value]:
        raise NotSignedIn(f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set")
    client_id, secret, url = (value or "" for value in given)
    check(url, "MESSAGE_HANDLER_TOKEN_URL")
    basic = urllib3.make_headers(basic_auth=f"{quote(client_id, safe='')}:{quote(secret, safe='')}")
    response = _post(connection, url, {"grant_type": "client_credentials"}, basic)
    found = json_of(response)
    token = found.get("access_token") if response.status == 200 and isinstance(found, dict) else None
    if not isinstance(token, str):
        raise NotSignedIn(f"MESSAGE_HANDLER_TOKEN_URL issued no token ({response.status})")
    return token


def for_code(
    connection: Connection, sign_in_url: str, client_id: str, *, code: str, verifier: str, callback_url: str
) -> Session:
    """The session for a code that was issued for this verifier (RFC 7636, 4.5). Raises NotSignedIn."""
    answer = _issued(
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
    """The session with a new access token. Cognito sends a new refresh token only if it rotates them.

    Raises NotSignedIn if the session has ended.
    """
    form = {"grant_type": "refresh_token", "client_id": session.client_id, "refresh_token": session.refresh_token}
    return replace(session, **_issued(connection, session.sign_in_url, form))


def revoke(connection: Connection, session: Session) -> bool:
    """Revoke the refresh token (RFC 7009). Returns whether the server has done so.

    An access token stays valid for its hour: API Gateway does not check whether it was revoked.
    """
    form = {"token": session.refresh_token, "client_id": session.client_id}
    try:
        return _post(connection, urljoin(session.sign_in_url, "revoke"), form).status == 200
    except Unreachable:
        return False


def _issued(connection: Connection, sign_in_url: str, form: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a session, from the token endpoint beside the address to sign in at."""
    url = urljoin(sign_in_url, "token")
    response = _post(connection, url, form)
    if response.status == 429 or response.status >= 500:
        raise Unreachable(f"{urlsplit(url).netloc} answers {response.status}: try again later")
    found = json_of(response)
    if response.status != 200 or not isinstance(found, dict):
        ended = isinstance(found, dict) and found.get("error") == "invalid_grant"
        why = "the session has ended" if ended else f"{urlsplit(url).netloc} issued no token ({response.status})"
        raise NotSignedIn(f"{why}: {SIGN_IN_AGAIN}")
    tokens = {name: found[name] for name in ("access_token", "refresh_token") if isinstance(found.get(name), str)}
    if "access_token" not in tokens or not isinstance(found.get("expires_in"), int):
        raise NotSignedIn(f"{urlsplit(url).netloc} does not answer as Cognito does: check --sign-in-url")
    return tokens | {"expires_at": time.time() + found["expires_in"]}


def _post(
    connection: Connection, url: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None
) -> Response:
    own = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    return connection.request("POST", url, body=urlencode(form).encode(), headers=own | dict(headers or {}))
