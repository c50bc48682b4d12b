"""Signing in as a person: authorization code with PKCE, in a browser (RFC 7636, RFC 8252)."""

from __future__ import annotations

import hmac
import os
import secrets
import sys
import threading
import webbrowser
from argparse import Namespace
from base64 import urlsafe_b64encode
from hashlib import sha256
from urllib.parse import parse_qs, quote, urlencode

from message_handler.cli import tokens
from message_handler.cli.callback import waiting_at
from message_handler.cli.client import DEFAULT_URL, Answer, Client
from message_handler.cli.connection import NotSignedIn, check
from message_handler.cli.verbs import show

CALLBACK_URL = "http://localhost:8976/callback"
SCOPES = "openid message-handler/admin message-handler/messages"
#: Seconds: a password, and a code from a telephone.
PATIENCE = 180

#: What a server may say that lets nobody in (RFC 6749, 4.1.2.1), and what to do. Its own words stay where they are.
_REFUSALS = {
    "access_denied": "it was declined, or you may not: try again, or ask who looks after the user pool",
    "invalid_scope": "the client may not ask for these scopes: look at --client-id, it is the output OperatorClientId",
    "unauthorized_client": "the client may not sign people in: look at --client-id, it is the output OperatorClientId",
    "server_error": "the server failed: try again",
    "temporarily_unavailable": "the server is busy: try again",
}


def log_in(client: Client, options: Namespace) -> None:
    """Let a browser sign in, and keep what it brings back for the next commands at this API."""
    sign_in_url, client_id = _where(client, options)
    client.kept.prepare()  # else all of it is in vain
    verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(32)
    asked = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": options.callback_url,
        "scope": SCOPES,
        "state": state,
        "code_challenge": urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
    }
    address = f"{sign_in_url}?{urlencode(asked, quote_via=quote)}"
    with waiting_at(options.callback_url) as wait:
        sys.stderr.write(f"sign in at this address:\n{address}\n")
        sys.stderr.flush()
        if not options.no_browser:
            # Some browsers only come back when they are closed.
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        code = _code(wait(PATIENCE), state)
    session = tokens.for_code(
        client.connection, sign_in_url, client_id, code=code, verifier=verifier, callback_url=options.callback_url
    )
    client.kept.write(session)
    show(options, Answer(200, {"signed_in": True, "url": client.url}), f"signed in at {client.url}")
    for name in ("MESSAGE_HANDLER_TOKEN", "MESSAGE_HANDLER_CLIENT_SECRET", "MESSAGE_HANDLER_TOKEN_URL"):
        if os.environ.get(name):
            sys.stderr.write(f"{name} is set, and goes before: unset it\n")


def log_out(client: Client, options: Namespace) -> None:
    """Forget the session, whoever answers, and end it where its server does."""
    session = client.kept.read()
    client.kept.delete()
    if session is not None and not tokens.revoke(client.connection, session):
        sys.stderr.write("the server did not end the session: what was given ends by itself, within 12 hours\n")
    show(options, Answer(200, {"signed_in": False, "url": client.url}), f"not signed in at {client.url}")


def _where(client: Client, options: Namespace) -> tuple[str, str]:
    """The address to sign in at and the client: as named, or as the last time."""
    if client.url == DEFAULT_URL:
        raise ValueError("name the API by --url or MESSAGE_HANDLER_URL: it is the stack's output ApiUrl")
    last = client.kept.read()
    of_secret = os.environ.get("MESSAGE_HANDLER_CLIENT_SECRET")  # then it is a platform's client
    sign_in_url = options.sign_in_url or os.environ.get("MESSAGE_HANDLER_SIGN_IN_URL") or (last and last.sign_in_url)
    client_id = (
        options.client_id
        or (not of_secret and os.environ.get("MESSAGE_HANDLER_CLIENT_ID"))
        or (last and last.client_id)
    )
    if not sign_in_url:
        raise ValueError("--sign-in-url or MESSAGE_HANDLER_SIGN_IN_URL is missing: the stack's output SignInUrl")
    if not client_id:
        raise ValueError("--client-id or MESSAGE_HANDLER_CLIENT_ID is missing: the stack's output OperatorClientId")
    check(sign_in_url, "--sign-in-url")
    if not sign_in_url.endswith("/oauth2/authorize"):
        raise ValueError("--sign-in-url must be https://…/oauth2/authorize, the stack's output SignInUrl")
    return sign_in_url, client_id


def _code(query: str, state: str) -> str:
    """The code of a callback. First its state: only who has our address knows it (RFC 6749, 10.12)."""
    found = parse_qs(query)
    if not hmac.compare_digest(found.get("state", [""])[0].encode(), state.encode()):
        raise NotSignedIn("what came back belongs to another sign-in: close other tabs, and try again")
    if "error" in found:
        raise NotSignedIn(_REFUSALS.get(found["error"][0], "the server did not let you in: try again"))
    if "code" not in found:
        raise NotSignedIn("no code came back: try again")
    return found["code"][0]
