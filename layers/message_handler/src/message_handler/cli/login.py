"""Signs a person in with a browser: authorization code with PKCE (RFC 7636, RFC 8252)."""

from __future__ import annotations

import hmac
import os
import secrets
import sys
import threading
import webbrowser
from argparse import Namespace
from base64 import urlsafe_b64encode
from functools import partial
from hashlib import sha256
from urllib.parse import parse_qs, quote, urlencode

from message_handler.cli import tokens
from message_handler.cli.callback import waiting_at
from message_handler.cli.client import DEFAULT_URL, Answer, Client
from message_handler.cli.connection import NotSignedIn, check
from message_handler.cli.verbs import show

CALLBACK_URL = "http://localhost:8976/callback"
SCOPES = "openid message-handler/admin message-handler/messages"
#: Seconds to sign in: to type a password, and a code from a telephone.
PATIENCE = 180

#: A server's error codes (RFC 6749, 4.1.2.1), and what to do. The server's own text is not shown.
_REFUSALS = {
    "access_denied": "access was denied: try again, or ask the administrator of the user pool",
    "invalid_scope": "this client may not use these scopes: check --client-id, the stack's output OperatorClientId",
    "unauthorized_client": "this client may not sign people in: check --client-id, the stack's output OperatorClientId",
    "server_error": "the server failed: try again",
    "temporarily_unavailable": "the server is busy: try again",
}


def log_in(client: Client, options: Namespace) -> None:
    """Sign in with a browser, and keep the session for the next commands at this API."""
    sign_in_url, client_id = _server_and_client(client, options)
    client.session_file.prepare()  # first: without a place to keep the session, signing in is useless
    verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(32)
    parameters = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": options.callback_url,
        "scope": SCOPES,
        "state": state,
        "code_challenge": urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
    }
    address = f"{sign_in_url}?{urlencode(parameters, quote_via=quote)}"
    with waiting_at(options.callback_url, partial(_answers, state)) as wait:
        sys.stderr.write(f"sign in at this address:\n{address}\n")
        sys.stderr.flush()
        if not options.no_browser:
            # In a thread, because with some browsers the call returns only when they are closed.
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        code = _code(wait(PATIENCE))
    session = tokens.for_code(
        client.connection, sign_in_url, client_id, code=code, verifier=verifier, callback_url=options.callback_url
    )
    client.session_file.write(session)
    show(options, Answer(200, {"signed_in": True, "url": client.url}), f"signed in at {client.url}")
    for name in ("MESSAGE_HANDLER_TOKEN", "MESSAGE_HANDLER_CLIENT_SECRET", "MESSAGE_HANDLER_TOKEN_URL"):
        if os.environ.get(name):
            sys.stderr.write(f"{name} is set and takes precedence over this session: unset it\n")


def log_out(client: Client, options: Namespace) -> None:
    """Delete the session here in any case, and end it at the server if that can be reached."""
    session = client.session_file.read()
    client.session_file.delete()
    if session is not None and not tokens.revoke(client.connection, session):
        sys.stderr.write("the server did not end the session: its tokens expire by themselves, within 12 hours\n")
    show(options, Answer(200, {"signed_in": False, "url": client.url}), f"not signed in at {client.url}")


def _server_and_client(client: Client, options: Namespace) -> tuple[str, str]:
    """The address to sign in at, and the client id: from options or environment, else those of the last session."""
    if client.url == DEFAULT_URL:
        raise ValueError("name the API with --url or MESSAGE_HANDLER_URL: it is the stack's output ApiUrl")
    last = client.session_file.read()
    # With a secret, MESSAGE_HANDLER_CLIENT_ID is a platform's client.
    has_secret = os.environ.get("MESSAGE_HANDLER_CLIENT_SECRET")
    sign_in_url = options.sign_in_url or os.environ.get("MESSAGE_HANDLER_SIGN_IN_URL") or (last and last.sign_in_url)
    client_id = (
        options.client_id
        or (not has_secret and os.environ.get("MESSAGE_HANDLER_CLIENT_ID"))
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


def _answers(state: str, query: str) -> bool:
    """Whether a callback has the state of this sign-in, which proves that we began it (RFC 6749, 10.12)."""
    return hmac.compare_digest(parse_qs(query).get("state", [""])[0].encode(), state.encode())


def _code(query: str) -> str:
    """The code of the callback."""
    found = parse_qs(query)
    if "error" in found:
        raise NotSignedIn(_REFUSALS.get(found["error"][0], "the server refused to sign you in: try again"))
    if "code" not in found:
        raise NotSignedIn("the server sent no code: try again")
    return found["code"][0]
