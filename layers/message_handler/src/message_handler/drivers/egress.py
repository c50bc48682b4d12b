"""The only way out: HTTPS to hosts that the deployment names, at addresses that are nobody's inner network.

A URL in a configuration record is somebody's input: without this it could make the service fetch from where only
the service can reach, such as the metadata service that hands out its credentials. A name is resolved once, and the
connection goes to exactly the addresses that were checked:

    check:   api.example.com → 203.0.113.7, public     connect: api.example.com → 127.0.0.1     (asked twice: rebound)
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from http.client import HTTPException
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from message_handler.domain.errors import EgressFailed, EgressRefused, SettingsError

if TYPE_CHECKING:
    from urllib3 import HTTPResponse

#: As the sockets take it: the family, and the host's and port's numbers.
type Address = tuple[int, Any]

_HTTPS = 443
#: A resolver may take half a minute to give up.
LOOK_UP_SECONDS = 3.0
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.(?!-)[a-z0-9_-]{1,63})*", re.ASCII)
#: What resolvers take for an IPv4 address, whatever its other labels are: 2130706433, 0x7f.1, 0177.0.0.1.
_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)", re.ASCII)
_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_DOCUMENTATION = IPv6Network("3fff::/20")
#: A public address that inside of Azure is the machine's own host; and relays to wherever that nobody runs any more.
_UNROUTED = (IPv4Network("168.63.129.16/32"), IPv4Network("192.88.99.0/24"))


@dataclass(frozen=True, slots=True)
class Target:
    """What a URL names. `host` is as names are compared: lower case, IDNA, an IPv6 address without its brackets."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The host, with the port unless it is the scheme's own: `api.example.com`, `localhost:8000`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == {"https": _HTTPS, "http": 80}[self.scheme] else f"{host}:{self.port}"


class Egress:
    """Sends requests to `allowed_hosts`: hosts, ``*.example.com`` for all below one, with a ``:port`` unless it is 443.

    `allow_loopback` (development) allows this machine as well, at any port and without TLS. Raises SettingsError for
    a host that can't be one. Connects to nothing yet.
    """

    def __init__(self, allowed_hosts: Sequence[str], *, allow_loopback: bool = False) -> None:
        self._allowed = [_allowed(number, entry) for number, entry in enumerate(allowed_hosts, 1)]
        self._allow_loopback = allow_loopback

    def check(self, url: str) -> None:
        """Whether something may be sent to this URL, as far as it can be told without asking for its address.

        Raises EgressRefused.
        """
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
        """The answer, whatever its status: no redirect is followed, nothing is tried twice.

        Timeouts are seconds: for the connection with TLS, after `LOOK_UP_SECONDS` at most, and for each wait for bytes.
        Its body is read with `read1` and neither decoded nor bounded. The connection ends with the context.
        `connected` gets the socket before anything is said, for another thread to shut it down.

        Raises EgressRefused, or EgressFailed, also from within the context where the answer breaks off.
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
        if self._allow_loopback and _is_here(target.host):
            return target
        if target.scheme != "https":
            raise EgressRefused("only https:// may be sent to")
        for host, port in self._allowed:
            below = host.startswith("*.") and target.host.endswith(host[1:])
            if (below or target.host == host) and target.port == port:
                return target
        raise EgressRefused("the host and port are not among EGRESS_ALLOWED_HOSTS")

    def _addresses(self, target: Target) -> list[Address]:
        addresses = resolve(target.host, target.port)
        numbers = [ip_address(address[0]) for _, address in addresses]
        if self._allow_loopback and all(number.is_loopback for number in numbers):
            return addresses
        if _is_here(target.host) or not all(map(is_public, numbers)):
            raise EgressRefused("the host has an address that is not what may be sent to")
        return addresses


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is one of the internet's, and so is the one inside of it, if it only wraps another."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner:
            return is_public(inner)
        return address in _UNICAST and address.is_global and address not in _DOCUMENTATION
    return address.is_global and not address.is_multicast and not any(address in network for network in _UNROUTED)


def resolve(host: str, port: int) -> list[Address]:
    """All addresses of a host, best first, within `LOOK_UP_SECONDS`. Raises EgressFailed.

    A look-up can't be interrupted: one that takes longer ends in its own thread, by the resolver's own limits.
    """
    answer: SimpleQueue[list[Any] | Exception] = SimpleQueue()

    def ask() -> None:
        try:
            answer.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:  # noqa: BLE001  whoever waits for it raises it
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
    """One request on a connection of its own to one of the addresses, which nobody checks any more.

    Raises EgressRefused or EgressFailed.
    """
    from urllib3.connection import HTTPConnection
    from urllib3.exceptions import HTTPError

    connection = HTTPConnection(target.host, target.port, timeout=read_timeout)
    with closing(connection):
        try:
            connection.sock = _connect(target, addresses, connect_timeout, connected)
            everything = {"User-Agent": "MessageHandler", **headers, "Host": target.authority}
            connection.request(
                method, target.path, body=body, headers=everything, preload_content=False, decode_content=False
            )
            response = connection.getresponse()
        except (OSError, HTTPError, HTTPException) as error:
            raise EgressFailed(f"the service could not be reached ({_what(error)})") from None
        except ValueError:
            # Its text would quote the header.
            raise EgressRefused("a header has characters that can't be sent") from None
        with closing(response):
            try:
                yield response
            except HTTPError as error:
                raise EgressFailed(f"the service's answer broke off ({_what(error)})") from None


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
    """A connection to the first address that takes one; one that says nothing leaves time for the others."""
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
    """One for all: making it reads the system's authorities, which takes longer than a handshake."""
    return ssl.create_default_context()


def _what(error: Exception) -> str:
    """Its type: a foreign error's text may quote the address or the path."""
    return "timeout" if isinstance(error, TimeoutError) else type(error).__name__


def host_of(url: str) -> str:
    """Whom a URL names, as hosts are compared: with the port unless it is 443. Raises EgressRefused."""
    return replace(parse(url), scheme="https").authority


def is_at(url: str, host: str | None) -> bool:
    """Whether a URL names the host that something was stored for: the URL may be somebody else's change."""
    try:
        return host_of(url) == host
    except EgressRefused:
        return False


def parse(url: str) -> Target:
    """A URL that is beyond doubt. Raises EgressRefused."""
    # Where parsers disagree about what a URL names, one checks and another connects: such characters are refused.
    if re.search(r"[\s\x00-\x20\x7f\\]", url):
        raise EgressRefused("the URL has characters that no URL has")
    try:
        parts = urlsplit(url)
        port, host = parts.port, _host(parts)
    except ValueError:
        raise EgressRefused("the address is not a URL") from None
    if parts.scheme not in ("https", "http"):
        raise EgressRefused("only https:// may be sent to")
    if "@" in parts.netloc:
        raise EgressRefused("the URL has a user name or a password in it")
    if port == 0:
        raise EgressRefused("the address is not a URL")
    path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    if not path.isascii():
        raise EgressRefused("the URL's path must be percent-encoded")
    return Target(parts.scheme, host, port or (_HTTPS if parts.scheme == "https" else 80), path)


def _host(parts: SplitResult) -> str:
    """The host as names are compared. Raises ValueError."""
    host = parts.hostname or ""
    if ":" in host:
        return str(IPv6Address(host))
    name = host.encode("idna").decode().lower()
    if not _NAME.fullmatch(name):
        raise ValueError("not a host name")
    return name


def _is_here(host: str) -> bool:
    """Whether a host can only be this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _allowed(number: int, entry: str) -> tuple[str, int]:
    """An allowed host with its port; one for all below it begins with `*.`."""
    every = "*." if entry.startswith("*.") else ""  # never for addresses: they have no names below them
    try:
        parts = urlsplit(f"//{entry.removeprefix('*.')}")
        host, port = _host(parts), parts.port
        if (
            parts.path
            or parts.query
            or parts.fragment
            or "@" in parts.netloc
            or (every and (":" in host or _NUMBER.fullmatch(host)))
        ):
            raise ValueError("more than a host")
    except ValueError:
        raise SettingsError(
            f"bad settings: EGRESS_ALLOWED_HOSTS: entry {number} is not a host, such as api.example.com, "
            "*.example.com or api.example.com:8443"
        ) from None
    return every + host, port or _HTTPS
