"""Sends a request with a time limit, to an address that a token may be sent to. An error is one line of text."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import urllib3

#: Seconds to connect, and seconds for the answer. The API itself waits 29 s for a function.
_TIMEOUT = urllib3.Timeout(connect=5, read=35)
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Unreachable(Exception):
    """The server did not answer in time."""


class NotSignedIn(Exception):
    """There is no token, or the API refuses it."""


class Connection:
    """Sends requests. Follows no redirect and repeats no request."""

    def __init__(self) -> None:
        self._pool = urllib3.PoolManager(timeout=_TIMEOUT, retries=False)

    def request(self, method: str, url: str, *, body: bytes | None, headers: dict[str, str]) -> Response:
        """The answer, whatever its status. Raises Unreachable if there is none."""
        try:
            return self._pool.request(method, url, body=body, headers=headers, redirect=False)
        except urllib3.exceptions.NewConnectionError:  # urllib3 counts it among the timeouts
            raise Unreachable(f"{urlsplit(url).netloc} can't be reached") from None
        except urllib3.exceptions.TimeoutError:
            raise Unreachable(f"{urlsplit(url).netloc} did not answer in time") from None
        except urllib3.exceptions.SSLError:
            raise Unreachable(f"{urlsplit(url).netloc} has no certificate that this machine trusts") from None
        except urllib3.exceptions.HTTPError:
            raise Unreachable(f"{urlsplit(url).netloc} can't be reached") from None


Response = urllib3.BaseHTTPResponse


def check(url: str, name: str) -> None:
    """Raise ValueError if a token must not be sent to this address. `name`: the option that holds the address."""
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError(f"{name} must be https://… without credentials")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise ValueError(f"{name} must be https://…: a token is sent there")


def json_of(response: Response) -> Any:
    """The body as JSON, or None if it is not JSON."""
    try:
        return response.json()
    except ValueError:
        return None
