"""Egress makes no connection to an address that is not allowed. The tests count connections at the socket."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from message_handler.domain.errors import EgressFailed, EgressRefused, SettingsError
from message_handler.drivers import egress
from message_handler.drivers.egress import Egress
from tests.certificates import Certificates

PUBLIC = "8.8.8.8"
SECRET = "s3cr3t"
ALLOWED = ("api.example.com", "*.partner.example", "odd.example.com:8443", "bücher.example")


class Network:
    """A resolver with prepared answers, and a record of each connection that the test tries to make.

    Threads of earlier tests are not affected: their servers may still run in this process.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: list[Sequence[str]] = [[PUBLIC]]
        self.asked: list[str] = []
        self.connected: list[Any] = []
        others, resolve, connect = set(threading.enumerate()), socket.getaddrinfo, socket.socket.connect
        others.discard(threading.current_thread())
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda *asked, **how: (resolve if threading.current_thread() in others else self._resolve)(*asked, **how),
        )
        monkeypatch.setattr(
            socket.socket,
            "connect",
            lambda this, to: connect(this, to) if threading.current_thread() in others else self._connect(to),
        )

    def _resolve(self, host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        self.asked.append(host)
        answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
        if not answer:
            raise socket.gaierror(socket.EAI_NONAME, SECRET)
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in answer
        ]

    def _connect(self, address: Any) -> None:
        self.connected.append(address)
        raise ConnectionRefusedError(SECRET)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    return Network(monkeypatch)


def test_a_resolver_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()
    monkeypatch.setattr(egress, "LOOK_UP_SECONDS", 0.01)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: list[Any]()[: free.wait(5)])
    with pytest.raises(EgressFailed, match="in time"):
        egress.resolve("api.example.com", 443)
    free.set()


def send(to: Egress, url: str, **headers: str) -> tuple[int, bytes]:
    with to.request("POST", url, headers=headers, body=b"{}", connect_timeout=2, read_timeout=2) as response:
        return response.status, response.read()


REFUSED = [
    *("http://api.example.com:443/", "https://api.example.com/é"),
    *("http://api.example.com/", "HTTP://api.example.com/", "ftp://api.example.com/", "file:///etc/passwd"),
    *("gopher://api.example.com/", "//api.example.com/", "api.example.com", "", "https://", "https:///x"),
    # parsers differ in the host behind the password
    *(f"https://user:{SECRET}@api.example.com/", "https://api.example.com@evil.org/", "https://@api.example.com/"),
    *("https://api.example.com\\@evil.org/", "https://evil.org\\.partner.example/", "https://evil.org#@api.example.com/"),
    *("https://api.example.com\t.evil.org/", "https://api.example.com /", "https://api.example.com/\r\nX: y"),
    # nearly the name
    *("https://evil-api.example.com/", "https://api.example.com.evil.org/", "https://example.com/"),
    *("https://partner.example/", "https://evilpartner.example/", "https://a.partner.example.evil.org/"),
    *("https://api.example.com./", "https://a.partner.example./", "https://.partner.example/", "https://a..partner.example/"),
    *("https://API.EVIL.ORG/", "https://xn--evil.org/", "https://*.partner.example/", "https://api%2eexample.com/"),
    # the port
    *("https://api.example.com:80/", "https://api.example.com:8443/", "https://odd.example.com/"),
    *("https://api.example.com:0/", "https://api.example.com:65979/", "https://api.example.com:443x/"),
    # addresses, in all their forms
    *("https://8.8.8.8/", "https://127.0.0.1/", "https://2130706433/", "https://0x7f000001/", "https://0177.0.0.1/"),
    *("https://127.1/", "https://0/", "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://[fe80::1%25eth0]/"),
    *("https://[::ffff:7f00:1]/", "https://[2606:4700::1111]/", "https://[::1/", "https://１２７.0.0.1/", "https://127。0。0。1/"),
    *("https://localhost/", "http://localhost/", "https://169.254.169.254/latest/meta-data/"),
]  # fmt: skip


@pytest.mark.parametrize("url", REFUSED)
def test_nothing_is_sent_to_what_is_not_allowed(network: Network, url: str) -> None:
    to = Egress(ALLOWED)
    with pytest.raises(EgressRefused) as refused:
        to.check(url)
    with pytest.raises(EgressRefused) as refused_again:
        send(to, url)
    assert (network.asked, network.connected) == ([], [])
    for text in (str(refused.value), str(refused_again.value)):
        assert SECRET not in text
        assert "evil" not in text


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://api.example.com/v1?x=1", "api.example.com", 443),
        ("HTTPS://API.EXAMPLE.COM:443", "api.example.com", 443),
        ("https://a.partner.example/", "a.partner.example", 443),
        ("https://b.A.partner.example/", "b.a.partner.example", 443),
        ("https://odd.example.com:8443/", "odd.example.com", 8443),
        ("https://BÜCHER.example/", "xn--bcher-kva.example", 443),
        ("https://xn--bcher-kva.example/", "xn--bcher-kva.example", 443),
    ],
)
def test_what_is_allowed_is_resolved_once_and_reached_at_that_address(
    network: Network, url: str, host: str, port: int
) -> None:
    with pytest.raises(EgressFailed) as failed:
        send(Egress(ALLOWED), url)
    assert network.asked == [host]
    assert network.connected == [(PUBLIC, port)]
    assert SECRET not in str(failed.value)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1"),
        *("169.254.169.254", "192.0.0.192", "198.18.0.1", "203.0.113.7", "224.0.0.1", "239.1.1.1", "240.0.0.1"),
        *("255.255.255.255", "168.63.129.16", "::", "::1", "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1"),
        *("192.88.99.1", "3fff::1"),
        *("2001:db8::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "2002:a00:1::1"),
        *("64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b:1::8.8.8.8", "2001::1", "4000::1"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("beside", [[], [PUBLIC]])
def test_nothing_is_sent_to_an_inner_address_whatever_its_name(
    network: Network, address: str, beside: list[str]
) -> None:
    network.answers = [[*beside, address]]
    with pytest.raises(EgressRefused) as refused:
        send(Egress(ALLOWED), "https://api.example.com/")
    assert network.connected == []
    assert address not in str(refused.value)


@pytest.mark.parametrize(
    "address", [PUBLIC, "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"]
)
def test_public_addresses_are_reached(network: Network, address: str) -> None:
    network.answers = [[address]]
    with pytest.raises(EgressFailed):
        send(Egress(ALLOWED), "https://api.example.com/")
    assert [where[0] for where in network.connected] == [address]


def test_a_name_that_is_rebound_after_the_check_changes_nothing(network: Network) -> None:
    network.answers = [[PUBLIC], ["127.0.0.1"]]
    with pytest.raises(EgressFailed):
        send(Egress(ALLOWED), "https://api.example.com/")
    assert len(network.asked) == 1
    assert network.connected == [(PUBLIC, 443)]


def test_every_checked_address_is_tried(network: Network) -> None:
    network.answers = [["2606:4700::1111", PUBLIC]]
    with pytest.raises(EgressFailed):
        send(Egress(ALLOWED), "https://api.example.com/")
    assert [where[0] for where in network.connected] == ["2606:4700::1111", PUBLIC]


def test_a_name_without_an_address_is_worth_another_try(network: Network) -> None:
    network.answers = [[]]
    with pytest.raises(EgressFailed) as failed:
        send(Egress(ALLOWED), "https://api.example.com/")
    assert SECRET not in str(failed.value)


def test_an_address_is_reached_only_where_it_is_named_itself(network: Network) -> None:
    to = Egress(["8.8.8.8", "[2606:4700::1111]:8443", "*.partner.example"])
    for url in ("https://8.8.8.8/", "https://[2606:4700:0::1111]:8443/"):
        with pytest.raises(EgressFailed):
            send(to, url)
    assert len(network.connected) == 2
    for url in (
        "https://134744072/",
        "https://0x8.8.8.8/",
        "https://[2606:4700::1111]/",
        "https://1.partner.example.8/",
    ):
        with pytest.raises(EgressRefused):
            send(to, url)
    network.answers = [["127.0.0.1"]]
    with pytest.raises(EgressRefused):
        send(to, "https://8.8.8.8/")
    assert len(network.connected) == 2


@pytest.mark.parametrize(
    ("url", "host", "same"),
    [
        ("https://AI.example:443/v1", "ai.example", True),
        ("https://ai.example:8443/v1", "ai.example:8443", True),
        ("https://ai.example:8443/v1", "ai.example", False),
        ("https://ai.example/v1", "evil.example", False),
        ("https://none/v1", None, False),
        ("ftp://ai.example/v1", "ai.example", False),
    ],
)
def test_what_was_stored_for_a_host_is_for_no_other(url: str, host: str | None, same: bool) -> None:
    assert egress.is_at(url, host) is same


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "*",
        "*.",
        "https://a.example",
        "a.example/x",
        "a@b.example",
        "a.example:x",
        "*.0.0.1",
        "*.[::1]",
        "a b",
        "a.*.b",
    ],
)
def test_a_host_that_can_not_be_one_is_refused_at_the_start(entry: str) -> None:
    with pytest.raises(SettingsError, match="EGRESS_ALLOWED_HOSTS: entry 2"):
        Egress(["api.example.com", entry])


class TestOnLoopback:
    """In development, this machine may be reached too."""

    @pytest.mark.parametrize("host", ["localhost", "app.localhost", "127.0.0.1", "127.3.2.1", "[::1]"])
    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_this_machine_may_be_sent_to(self, network: Network, scheme: str, host: str) -> None:
        network.answers = [["127.0.0.1", "::1"]]
        with pytest.raises(EgressFailed):
            send(Egress([], allow_loopback=True), f"{scheme}://{host}:8000/v1")
        assert {where[:2] for where in network.connected} == {("127.0.0.1", 8000), ("::1", 8000)}

    @pytest.mark.parametrize("answer", [["10.0.0.1"], ["127.0.0.1", "10.0.0.1"], ["127.0.0.1", PUBLIC], [PUBLIC]])
    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_the_name_of_this_machine_alone_opens_nothing(
        self, network: Network, answer: list[str], scheme: str
    ) -> None:
        network.answers = [answer]
        with pytest.raises(EgressRefused):
            send(Egress([], allow_loopback=True), f"{scheme}://localhost/")
        assert network.connected == []

    @pytest.mark.parametrize(
        "url", ["http://api.example.com/", "https://evil.org/", "http://10.0.0.1/", "http://127.1/"]
    )
    def test_others_are_refused_as_ever(self, network: Network, url: str) -> None:
        with pytest.raises(EgressRefused):
            send(Egress(ALLOWED, allow_loopback=True), url)
        assert (network.asked, network.connected) == ([], [])


class Answers(BaseHTTPRequestHandler):
    """A server that redirects /moved, breaks off /cut, and records each request."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, str | None]]

    def do_POST(self) -> None:
        self.seen.append((self.path, self.headers["Host"]))
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(302 if self.path == "/moved" else 200)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "9" if self.path == "/cut" else "2")
        self.end_headers()
        self.wfile.write(b"ok")
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Starts a server on this machine, with TLS if it gets certificates. Returns its authority."""
    started: list[ThreadingHTTPServer] = []

    def start(certificates: Certificates | None = None) -> str:
        Answers.seen = []
        server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        if certificates:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates.server, certificates.key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        started.append(server)
        return f"localhost:{server.server_port}"

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def test_a_redirect_is_an_answer_and_not_followed(serve: Callable[..., str]) -> None:
    authority = serve()
    assert send(Egress([], allow_loopback=True), f"http://{authority}/moved") == (302, b"ok")
    assert Answers.seen == [("/moved", authority)]


def test_a_refused_address_is_not_reached_even_if_a_server_listens(serve: Callable[..., str]) -> None:
    authority = serve()
    with pytest.raises(EgressRefused):
        send(Egress([authority]), f"https://{authority}/")
    with pytest.raises(EgressRefused):
        send(Egress(["localhost"]), f"http://{authority}/")
    assert Answers.seen == []


def test_no_proxy_is_taken_from_the_environment(serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert send(Egress([], allow_loopback=True), f"http://{serve()}/") == (200, b"ok")


def test_an_answer_that_breaks_off_is_no_answer(serve: Callable[..., str]) -> None:
    with pytest.raises(EgressFailed):
        send(Egress([], allow_loopback=True), f"http://{serve()}/cut")


@pytest.mark.parametrize("value", [f"{SECRET}\r\nX-Evil: 1", f"{SECRET}\n", f"{SECRET}€"])
def test_a_header_can_not_bring_another_and_is_not_quoted(serve: Callable[..., str], value: str) -> None:
    authority = serve()
    with pytest.raises(EgressRefused) as refused:
        send(Egress([], allow_loopback=True), f"http://{authority}/", Authorization=value)
    assert Answers.seen == []
    assert SECRET not in str(refused.value)


class TestTls:
    @pytest.fixture
    def trusted(self, certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> Iterator[Certificates]:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
        egress._tls.cache_clear()
        yield certificates
        egress._tls.cache_clear()

    def test_a_server_with_the_right_name_is_spoken_to(self, serve: Callable[..., str], trusted: Certificates) -> None:
        authority = serve(trusted)
        assert send(Egress([], allow_loopback=True), f"https://{authority}/") == (200, b"ok")
        assert Answers.seen == [("/", authority)]

    def test_a_server_with_another_name_is_told_nothing(
        self, serve: Callable[..., str], trusted: Certificates, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The certificate is valid for localhost and 127.0.0.1, where the connection really goes."""
        port = serve(trusted).partition(":")[2]
        here = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", int(port)))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [here])
        with pytest.raises(EgressFailed, match="SSLCertVerificationError"):
            send(Egress([f"api.example.com:{port}"], allow_loopback=True), f"https://api.example.com:{port}/")
        assert Answers.seen == []

    def test_a_server_of_an_unknown_authority_is_told_nothing(
        self, serve: Callable[..., str], certificates: Certificates
    ) -> None:
        with pytest.raises(EgressFailed, match="SSLCertVerificationError"):
            send(Egress([], allow_loopback=True), f"https://{serve(certificates)}/")
        assert Answers.seen == []
