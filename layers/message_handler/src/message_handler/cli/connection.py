"""One request with a bounded time, to an address that a token may be sent to; what goes wrong is one line."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import urllib3

#: Seconds: to connect, and for the answer; the API itself waits 29 for a function.
_TIMEOUT = urllib3.Timeout(connect=5, read=35)
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Unreachable(Exception):
    """Nobody answered in time."""


class NotSignedIn(Exception):
    """There is no token, or the API doesn't take it."""


class Connection:
    """Asks servers; follows no redirect, and repeats nothing."""

    def __init__(self) -> None:
        self._pool = urllib3.PoolManager(timeout=_TIMEOUT, retries=False)

    def request(self, method: str, url: str, *, body: bytes | None, headers: dict[str, str]) -> Response:
        """Whatever was answered. Raises Unreachable where nothing was."""
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


Response = urllib3.BaseHTTPResponse


def check(url: str, name: str) -> None:
    """Raises ValueError, with the name of who gave it, for an address that a token must not be sent to."""
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError(f"{name} must be https://… without credentials")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise ValueError(f"{name} must be https://…: tokens go there")


def json_of(response: Response) -> Any:
    """What it says, or None where it is no JSON."""
    try:
        return response.json()
    except ValueError:
        return None
