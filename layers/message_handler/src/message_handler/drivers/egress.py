"""The only way out: HTTPS to hosts that the deployment allows, at public addresses.

A URL in a configuration record is a tenant's input. Unchecked, it could point at places that only this service can
reach, such as the metadata service that hands out its credentials. A name is resolved once, and the connection goes to
exactly the addresses that were checked. A second look-up could give another answer (DNS rebinding):

    check:   api.example.com → 203.0.113.7, public     connect: api.example.com → 127.0.0.1
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from http import HTTPStatus
from http.client import HTTPException
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from message_handler.domain.errors import EgressFailed, EgressRefused, SettingsError

if TYPE_CHECKING:
    from urllib3 import HTTPResponse

#: An address as sockets take it: its family, then the numbers of host and port.
type Address = tuple[int, Any]

_HTTPS = 443
#: The most interim answers before the final one. A server that sends more is given up.
_MOST_INTERIM_ANSWERS = 100
#: The longest wait for a host's addresses. A resolver itself may take half a minute to give up.
LOOK_UP_SECONDS = 3.0
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.(?!-)[a-z0-9_-]{1,63})*", re.ASCII)
#: Names that resolvers may read as an IPv4 address: 2130706433, 0x7f.1, 0177.0.0.1. The last label decides.
_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)", re.ASCII)
_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_DOCUMENTATION = IPv6Network("3fff::/20")
#: 168.63.129.16 is the virtual machine's host inside Azure. 192.88.99.0/24 was for 6to4 relays, which are gone.
_UNROUTED = (IPv4Network("168.63.129.16/32"), IPv4Network("192.88.99.0/24"))


@dataclass(frozen=True, slots=True)
class Target:
    """A URL's parts. `host` is in the form that is compared: lower case, IDNA, an IPv6 address without brackets."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The host, with the port unless it is the scheme's default: `api.example.com`, `localhost:8000`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == {"https": _HTTPS, "http": 80}[self.scheme] else f"{host}:{self.port}"


class Egress:
    """Sends requests to `allowed_hosts` only.

    Each entry is a host (``api.example.com``) or all hosts below one (``*.example.com``), with a ``:port`` unless that
    is 443. `allow_loopback` (development) also allows this machine, at any port and without TLS. Raises SettingsError
    for an entry that is not a host. Does not connect yet.
    """

    def __init__(self, allowed_hosts: Sequence[str], *, allow_loopback: bool = False) -> None:
        self._allowed = [_allowed(number, entry) for number, entry in enumerate(allowed_hosts, 1)]
        self._allow_loopback = allow_loopback

    def check(self, url: str) -> None:
        """Check a URL without resolving its host. Raises EgressRefused if nothing may be sent to it."""
        self._target(url)

    @contextmanager
    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes,
        connect_timeout: float,
        read_timeout: float,
        connected: Callable[[socket.socket], None] | None = None,
    ) -> Iterator[HTTPResponse]:
        """The response, whatever its status. Follows no redirect, tries nothing twice.

        Looking up the host takes at most `LOOK_UP_SECONDS`. `connect_timeout` (seconds) then bounds connecting with
        TLS, and `read_timeout` each wait for bytes. Read the body with `read1`; it is neither decoded nor bounded.
        The connection ends with the context. `connected` gets the socket before anything is sent, so that another
        thread can shut it down.

        Raises EgressRefused or EgressFailed, the latter also inside the context if the response breaks off.
        """
        target = self._target(url)
        addresses = self._addresses(target)
        with exchange(
            method,
            target,
            addresses,
            headers=headers,
            body=body,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            connected=connected,
        ) as response:
            yield response

    def _target(self, url: str) -> Target:
        target = parse(url)
        if self._allow_loopback and _is_loopback(target.host):
            return target
        if target.scheme != "https":
            raise EgressRefused("the URL must begin with https://")
        for host, port in self._allowed:
            is_below = host.startswith("*.") and target.host.endswith(host[1:])
            if (is_below or target.host == host) and target.port == port:
                return target
        raise EgressRefused("the host and port are not in EGRESS_ALLOWED_HOSTS")

    def _addresses(self, target: Target) -> list[Address]:
        addresses = resolve(target.host, target.port)
        numbers = [ip_address(address[0]) for _, address in addresses]
        if self._allow_loopback and all(number.is_loopback for number in numbers):
            return addresses
        if _is_loopback(target.host) or not all(map(is_public, numbers)):
            raise EgressRefused("the host has an address that is not public")
        return addresses


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is on the public internet. An IPv6 address that wraps an IPv4 one is judged by that one."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner:
            return is_public(inner)
        return address in _UNICAST and address.is_global and address not in _DOCUMENTATION
    return address.is_global and not address.is_multicast and not any(address in network for network in _UNROUTED)


def resolve(host: str, port: int) -> list[Address]:
    """All addresses of a host, best first. Raises EgressFailed, at the latest after `LOOK_UP_SECONDS`.

    A look-up can't be interrupted. A slow one ends later, in its own thread, by the resolver's limits.
    """
    answer: SimpleQueue[list[Any] | Exception] = SimpleQueue()

    def ask() -> None:
        try:
            answer.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:  # noqa: BLE001  the waiting thread raises it
            answer.put(error)

    threading.Thread(target=ask, name="look-up", daemon=True).start()
    try:
        found = answer.get(timeout=LOOK_UP_SECONDS)
    except Empty:
        raise EgressFailed("the host's address was not found in time") from None
    if isinstance(found, OSError):
        raise EgressFailed("the host has no address")
    if isinstance(found, Exception):
        raise found
    return [(family, address) for family, _, _, _, address in found]


@contextmanager
def exchange(
    method: str,
    target: Target,
    addresses: Sequence[Address],
    *,
    headers: Mapping[str, str],
    body: bytes,
    connect_timeout: float,
    read_timeout: float,
    connected: Callable[[socket.socket], None] | None = None,
) -> Iterator[HTTPResponse]:
    """One request, on a new connection to one of the addresses. The caller has checked these.

    Raises EgressRefused or EgressFailed.
    """
    # Imported here: processes that send nothing to other hosts start without it.
    from urllib3.connection import HTTPConnection
    from urllib3.exceptions import HTTPError

    connection = HTTPConnection(target.host, target.port, timeout=read_timeout)
    connection.response_class = _FinalResponse
    with closing(connection):
        try:
            connection.sock = _connect(target, addresses, connect_timeout, connected)
            all_headers = {"User-Agent": "MessageHandler", **headers, "Host": target.authority}
            connection.request(
                method, target.path, body=body, headers=all_headers, preload_content=False, decode_content=False
            )
            response = connection.getresponse()
        except (OSError, HTTPError, HTTPException) as error:
            raise EgressFailed(f"the service could not be reached ({_kind(error)})") from None
        except ValueError:
            # The error's text would quote the header.
            raise EgressRefused("a header has characters that can't be sent") from None
        with closing(response):
            try:
                yield response
            except HTTPError as error:
                raise EgressFailed(f"the service's answer broke off ({_kind(error)})") from None


class _FinalResponse(http.client.HTTPResponse):
    """The answer, after the interim ones (RFC 9110, 15.2): the standard library passes over 100 alone."""

    def begin(self) -> None:
        for _ in range(_MOST_INTERIM_ANSWERS):
            super().begin()
            if self.status // 100 != 1 or self.status == HTTPStatus.SWITCHING_PROTOCOLS:
                return
            self.headers = self.msg = None  # type: ignore[assignment]  # as before the first answer
        raise HTTPException("too many interim answers")


def _connect(
    target: Target,
    addresses: Sequence[Address],
    timeout: float,
    connected: Callable[[socket.socket], None] | None,
) -> socket.socket:
    deadline = time.monotonic() + timeout
    plain = _first(addresses, deadline)
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if connected:
            connected(plain)
        if target.scheme != "https":
            return plain
        plain.settimeout(max(0.01, deadline - time.monotonic()))
        return _tls().wrap_socket(plain, server_hostname=target.host)
    except BaseException:
        plain.close()
        raise


def _first(addresses: Sequence[Address], deadline: float) -> socket.socket:
    """A connection to the first address that accepts one. A silent address gets only its share of the time."""
    failure = OSError("no address")
    for tried, (family, address) in enumerate(addresses):
        plain = socket.socket(family, socket.SOCK_STREAM)
        try:
            plain.settimeout(max(0.01, (deadline - time.monotonic()) / (len(addresses) - tried)))
            plain.connect(address)
        except OSError as error:
            plain.close()
            failure = error
        else:
            return plain
    raise failure


@cache
def _tls() -> ssl.SSLContext:
    """One context for all connections: making one reads the system's authorities, which is slower than a handshake."""
    return ssl.create_default_context()


def _kind(error: Exception) -> str:
    """The error's type. A foreign error's text may quote the address or the path."""
    return "timeout" if isinstance(error, TimeoutError) else type(error).__name__


def host_of(url: str) -> str:
    """The host of a URL, in the form that is compared, with the port unless it is 443. Raises EgressRefused."""
    return replace(parse(url), scheme="https").authority


def is_at(url: str, host: str | None) -> bool:
    """Whether a URL still names the host that a token was stored for. The URL may have been changed since."""
    try:
        return host_of(url) == host
    except EgressRefused:
        return False


def parse(url: str) -> Target:
    """The parts of a URL that all parsers read alike. Raises EgressRefused for any other."""
    # Parsers disagree about URLs with such characters: one host would be checked, and another connected to.
    if re.search(r"[\s\x00-\x20\x7f\\]", url):
        raise EgressRefused("the URL has a space, a backslash or a control character")
    try:
        parts = urlsplit(url)
        port, host = parts.port, _host(parts)
    except ValueError:
        raise EgressRefused("the address is not a URL") from None
    if parts.scheme not in ("https", "http"):
        raise EgressRefused("the URL must begin with https://")
    if "@" in parts.netloc:
        raise EgressRefused("the URL must not hold a user name or a password")
    if port == 0:
        raise EgressRefused("the address is not a URL")
    path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    if not path.isascii():
        raise EgressRefused("the URL's path must be percent-encoded")
    return Target(parts.scheme, host, port or (_HTTPS if parts.scheme == "https" else 80), path)


def _host(parts: SplitResult) -> str:
    """The host in the form that is compared. Raises ValueError."""
    host = parts.hostname or ""
    if ":" in host:
        return str(IPv6Address(host))
    name = host.encode("idna").decode().lower()
    if not _NAME.fullmatch(name):
        raise ValueError("not a host name")
    return name


def _is_loopback(host: str) -> bool:
    """Whether a host always means this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _allowed(number: int, entry: str) -> tuple[str, int]:
    """An allowed host and its port. `*.` in front stands for all hosts below it."""
    wildcard = "*." if entry.startswith("*.") else ""  # not for IP addresses, which have no hosts below them
    try:
        parts = urlsplit(f"//{entry.removeprefix('*.')}")
        host, port = _host(parts), parts.port
        if (
            parts.path
            or parts.query
            or parts.fragment
            or "@" in parts.netloc
            or (wildcard and (":" in host or _NUMBER.fullmatch(host)))
        ):
            raise ValueError("more than a host")
    except ValueError:
        raise SettingsError(
            f"bad settings: EGRESS_ALLOWED_HOSTS: entry {number} is not a host, such as api.example.com, "
            "*.example.com or api.example.com:8443"
        ) from None
    return wildcard + host, port or _HTTPS
