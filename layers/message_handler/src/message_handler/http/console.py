"""The operators' page: the files of one flat folder, and what they must know before somebody has signed in."""

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

#: What the page may be made of. All of it is text: the gateway passes on nothing else as it is.
MEDIA_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
#: What people ask for when they sign in; the command line asks for the same.
SCOPES = ("openid", "message-handler/admin", "message-handler/messages")

_NAME = re.compile(r"[a-z0-9][a-z0-9-]*\.[a-z]+")
_PAGE = "index.html"
#: Nothing of another origin, nothing inline, no text that becomes HTML or a script, and no place in anybody's frame.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src {connect}; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Cache-Control": "no-cache",  # kept, but asked about each time: a deployment is seen at once
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Console:
    """Serves the files that `folder` has itself, by their names; no path of anybody's reaches the disk."""

    def __init__(self, folder: Path, settings: Callable[[], Settings]) -> None:
        self._folder = folder
        self._settings = settings

    def routes(self) -> dict[tuple[str, str], Route]:
        """All open to everybody: they hold nothing of anybody's, and what the page shows it asks for with a token."""
        return {
            ("GET", "/console"): self.page,
            ("GET", "/console/settings.json"): self.settings,
            ("GET", "/console/{file}"): self.file,
        }

    @property
    def names(self) -> set[str]:
        """Whatever has a name and a type that the page may be made of."""
        files = (it for it in self._folder.iterdir() if it.is_file() and not it.is_symlink())
        return {file.name for file in files if _NAME.fullmatch(file.name) and file.suffix in MEDIA_TYPES}

    def page(self, call: Call) -> Answer:
        """The page itself."""
        return self._answer(_PAGE, call)

    def file(self, call: Call) -> Answer:
        """A file that the page asks for. Raises NotFound; also for a page, whose links would lead astray from there."""
        name = call.path("file")
        if name.endswith(".html"):
            raise NotFound("there is no such file", field="file")
        return self._answer(name, call)

    def settings(self, call: Call) -> Answer:
        """How one signs in, whether there are outages to try, and when a lock looks stuck.

        `{"sign_in": {…} | None, "outages": bool, "stale_seconds": float, "wake_seconds": float}`.
        `sign_in`: None where nobody needs a token, `{"paste": True}` where one is needed that nobody here gives out.
        """
        known = self._settings()
        server, client = _sign_in(call)
        sign_in: dict[str, Any] | None = None
        if known.auth_required and server:
            sign_in = {
                "authorize_url": f"{server}/oauth2/authorize",
                "token_url": f"{server}/oauth2/token",
                "logout_url": f"{server}/logout",
                "client_id": client,
                "scopes": list(SCOPES),
            }
        elif known.auth_required:
            sign_in = {"paste": True}
        stuck = {"stale_seconds": known.heartbeat_stale, "wake_seconds": known.wake_after}
        return HTTPStatus.OK, {"sign_in": sign_in, "outages": known.local_outages} | stuck, _HEADERS

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
    """Where people sign in, and the client that they do it with, which has no secret; empty where there is neither.

    They are variables of the API's stage. The function's own couldn't name the client: that names the API, because of
    the page's address, and the API names the function.
    """
    variables = call.event.get("stageVariables") or {}
    server, client = variables.get("signIn"), variables.get("operatorClient")
    return (server, client) if server and client else ("", "")


def _has(call: Call, etag: str) -> bool:
    """Whether the caller has it already (RFC 9110, 13.1.2); the gateway may have made the tag a weak one."""
    tags = [tag.strip().removeprefix("W/") for tag in (call.header("If-None-Match") or "").split(",")]
    return etag in tags or "*" in tags
