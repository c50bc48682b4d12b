"""Serves the operators' page: the files of one folder, and the settings that the page needs before a sign-in."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

from message_handler.domain.errors import NotFound
from message_handler.http.rest import Answer, Call, Route
from message_handler.settings import Settings

#: The types of the page's files. All are text, because the gateway passes only text on unchanged.
MEDIA_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
#: The scopes that the page asks for when an operator signs in. The command line asks for the same.
SCOPES = ("openid", "message-handler/admin", "message-handler/messages")

_NAME = re.compile(r"[a-z0-9][a-z0-9-]*\.[a-z]+")
_PAGE = "index.html"
#: No content of another origin, no inline script or style, no text as HTML or script, and no frame around the page.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src {connect}; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Cache-Control": "no-cache",  # browsers revalidate their copy each time, so that a deployment shows at once
    # Browsers heed it on HTTPS only. The host may be the deployment's own domain, whose other hosts are not concerned.
    "Strict-Transport-Security": "max-age=31536000",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Console:
    """Serves the files directly in `folder`, by name. No part of a request's path is used as a path on disk."""

    def __init__(self, folder: Path, settings: Callable[[], Settings]) -> None:
        self._folder = folder
        self._settings = settings

    def routes(self) -> dict[tuple[str, str], Route]:
        """The page's routes, all open: they hold no data. The page reads all data from the API, with a token."""
        return {
            ("GET", "/console"): self.page,
            ("GET", "/console/settings.json"): self.settings,
            ("GET", "/console/{file}"): self.file,
        }

    @property
    def names(self) -> set[str]:
        """The names of the files that may be served."""
        files = (file for file in self._folder.iterdir() if file.is_file() and not file.is_symlink())
        return {file.name for file in files if _NAME.fullmatch(file.name) and file.suffix in MEDIA_TYPES}

    def page(self, call: Call) -> Answer:
        """The page itself."""
        return self._answer(_PAGE, call)

    def file(self, call: Call) -> Answer:
        """A file that the page loads. Raises NotFound, also for an HTML page: its relative links would break here."""
        name = call.path("file")
        if name.endswith(".html"):
            raise NotFound("there is no such file", field="file")
        return self._answer(name, call)

    def settings(self, call: Call) -> Answer:
        """How operators sign in and when they are signed out, if the host can stop its parts, when a lock looks stuck.

        `{"sign_in": {…} | None, "idle_seconds": int, "outages": bool, "stale_seconds": float, "wake_seconds": float}`.
        `sign_in` is None if no token is needed, and `{"paste": True}` if the deployment has no page to sign in at.
        """
        known = self._settings()
        server, client = _sign_in(call)
        sign_in: dict[str, Any] | None = None
        if known.auth_required and server:
            sign_in = {
                "authorize_url": f"{server}/oauth2/authorize",
                "token_url": f"{server}/oauth2/token",
                "revoke_url": f"{server}/oauth2/revoke",
                "logout_url": f"{server}/logout",
                "client_id": client,
                "scopes": list(SCOPES),
            }
        elif known.auth_required:
            sign_in = {"paste": True}
        stuck = {"stale_seconds": known.heartbeat_stale, "wake_seconds": known.wake_after}
        idle = {"idle_seconds": known.console_idle_minutes * 60}
        return HTTPStatus.OK, {"sign_in": sign_in, "outages": known.local_outages} | idle | stuck, _HEADERS

    def _answer(self, name: str, call: Call) -> Answer:
        if name not in self.names:
            raise NotFound("there is no such file", field="file")
        file = self._folder / name
        content = file.read_bytes()
        etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        server, _ = _sign_in(call)
        headers = _HEADERS | {
            "Content-Type": f"{MEDIA_TYPES[file.suffix]}; charset=utf-8",
            "Content-Security-Policy": _POLICY.format(connect=f"'self' {server}".strip()),
            "ETag": etag,
        }
        if _has(call, etag):
            return HTTPStatus.NOT_MODIFIED, "", headers
        return HTTPStatus.OK, content.decode(), headers


def _sign_in(call: Call) -> tuple[str, str]:
    """The sign-in server's address and the operators' client id; both empty if there is none.

    They are variables of the API's stage, not of the function's environment. There the client would close a circle: it
    names the API for the page's address, and the API names the function.
    """
    variables = call.event.get("stageVariables") or {}
    server, client = variables.get("signIn"), variables.get("operatorClient")
    return (server, client) if server and client else ("", "")


def _has(call: Call, etag: str) -> bool:
    """Whether the caller has this version (RFC 9110, 13.1.2). The gateway may have turned the tag into a weak one."""
    tags = [tag.strip().removeprefix("W/") for tag in (call.header("If-None-Match") or "").split(",")]
    return etag in tags or "*" in tags
