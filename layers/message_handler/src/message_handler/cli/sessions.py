"""Keeps the session of a signed-in person for the next command, in a file that only this user can read."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path

SIGN_IN_AGAIN = "sign in again: message-handler login"

#: Seconds: a token that expires sooner might not outlive the call.
_MARGIN = 30


@dataclass(frozen=True, slots=True)
class Session:
    """The tokens, and the server that issued them. `expires_at`: seconds since 1970, by this machine's clock."""

    sign_in_url: str
    client_id: str
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_at: float

    @property
    def has_expired(self) -> bool:
        return self.expires_at - _MARGIN <= time.time()


class SessionFile:
    """The file of one API's session, below `XDG_STATE_HOME` or `~/.local/state`."""

    def __init__(self, url: str, environment: Mapping[str, str]) -> None:
        self._url = url
        self._folder = _folder(environment)

    @property
    def _file(self) -> Path | None:
        return self._folder and self._folder / f"{sha256(self._url.encode()).hexdigest()}.json"

    def read(self) -> Session | None:
        """The session; None if there is none, or if the file holds something else."""
        if self._file is None:
            return None
        try:
            found = json.loads(self._file.read_text(encoding="utf-8"))
            return Session(
                sign_in_url=str(found["sign_in_url"]),
                client_id=str(found["client_id"]),
                access_token=str(found["access_token"]),
                refresh_token=str(found["refresh_token"]),
                expires_at=float(found["expires_at"]),
            )
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def prepare(self) -> Path:
        """Make the folder and return the file's path. Raises ValueError without a home directory, and OSError."""
        if self._folder is None or self._file is None:
            raise ValueError("there is no home directory to keep the session in: set XDG_STATE_HOME")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.chmod(0o700)  # it may have been there, open to others
        return self._file

    def write(self, session: Session) -> None:
        """Write the file, all of it or nothing. Raises as `prepare` does."""
        kept = self.prepare()
        written = kept.with_suffix(f".{secrets.token_hex(8)}")
        try:
            file = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(file, "w", encoding="utf-8") as stream:
                json.dump({"url": self._url} | asdict(session), stream)
            written.replace(kept)
        finally:
            written.unlink(missing_ok=True)

    def delete(self) -> None:
        if self._file is not None:
            self._file.unlink(missing_ok=True)


def _folder(environment: Mapping[str, str]) -> Path | None:
    state = Path(environment.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():  # its specification says to ignore such a value
        try:
            state = Path.home() / ".local" / "state"
        except RuntimeError:  # a container's user may have none
            return None
    return state / "message-handler"
