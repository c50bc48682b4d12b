"""The console in headless Chromium, over the real service of `python -m local`.

In each test, no page may run another script than the console's, show a dialog of the browser, or break its
Content-Security-Policy. No word of a patient may be stored where it outlives the tab.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pg8000.native
import pytest
import requests
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from local.stack import LocalStack
from local.tokens import Issuer

ROOT = Path(__file__).parents[2]
#: A word in each message that a test types. No other place may have it.
CANARY = "c4n4ry"
#: Long enough for a loaded machine with two cores.
PATIENCE_MS = 30_000
#: As in `make run`, but the service repeats its checks within seconds.
SETTINGS = {
    "EGRESS_ALLOW_LOOPBACK": "true",
    "ALLOW_LITERAL_SECRETS": "true",
    "JOIN_DELAY": "3",
    "HEARTBEAT_EVERY": "1",
    "HEARTBEAT_STALE": "5",
    "WAKE_AFTER": "6",
    "STORE_RETRY_AFTER": "1",
    "CONFIGURATION_TTL": "1",
    "REDIS_TIMEOUT_MS": "2000",
}

expect.set_options(timeout=PATIENCE_MS)


class Host:
    """The service on this machine with its console."""

    def __init__(self, stack: LocalStack) -> None:
        self._stack = stack
        self.url = stack.url

    @property
    def console(self) -> str:
        return f"{self.url}/console"

    def call(self, method: str, path: str, **arguments: Any) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False
            return session.request(method, f"{self.url}/{path}", timeout=30, **arguments)

    def change(self, statement: str, **values: Any) -> int:
        """Change the database as time would. Returns the number of changed rows."""
        url = urlsplit(str(self._stack.database_url))
        login = {"user": url.username, "password": url.password, "database": url.path.strip("/")}
        with pg8000.native.Connection(host=url.hostname, port=url.port, **login) as connection:
            connection.run(statement, **values)
            return int(connection.row_count)


#: Shared by these tests: started for the first test that needs it, and ended after the last one. (A session fixture
#: would last until the end of all tests, and a browser's event loop prevents other event loops.)
_shared: dict[str, Any] = {}
_ends = ExitStack()


def shared[T](name: str, start: Callable[[], AbstractContextManager[T]]) -> T:
    if name not in _shared:
        _shared[name] = _ends.enter_context(start())
    found: T = _shared[name]
    return found


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    if nextitem is None or Path(__file__).parent not in nextitem.path.parents:
        _shared.clear()
        _ends.close()


@contextmanager
def running(issuer: Issuer | None = None) -> Iterator[Host]:
    with LocalStack(ROOT / "template.yaml", environment={}, settings=SETTINGS, issuer=issuer) as stack:
        if stack.missing:
            pytest.skip("; ".join(stack.missing))
        yield Host(stack)
        found = [line for line in stack.log_file.read_text().splitlines() if CANARY in line]
    assert not found, f"a patient's words are in the functions' log: {found[0]}"


@pytest.fixture
def host() -> Host:
    """The service without tokens."""
    return shared("host", running)


@pytest.fixture(scope="session")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    return Issuer(tmp_path_factory.mktemp("tokens") / "key.pem")


@pytest.fixture
def guarded_host(issuer: Issuer) -> Host:
    """The service that needs tokens of this issuer."""
    return shared("guarded host", lambda: running(issuer))


def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if program := shutil.which(name):
            return program
    missing = "no Chromium: install Debian's chromium"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


@pytest.fixture
def browser() -> Browser:
    program = chromium()
    return shared("browser", lambda: launched(program))


@contextmanager
def launched(program: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # A page that a test serves itself has no address. As an internet page it could not reach this machine.
        without = ["--disable-features=LocalNetworkAccessChecks"]
        browser = playwright.chromium.launch(executable_path=program, args=without)
        yield browser
        browser.close()


#: A script that keeps, in the page, what its Content-Security-Policy refused.
_WATCH = """
window.refused = [];
addEventListener("securitypolicyviolation", (event) => refused.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


class Opened:
    """A tab, and the errors in it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.wrong: list[str] = []
        page.set_default_timeout(PATIENCE_MS)
        page.add_init_script(_WATCH)
        page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (self.wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("console", self._told)

    def _told(self, message: Any) -> None:
        # The browser reports each answer with an error status by itself.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.wrong.append(f"console: {message.text}")

    def check(self) -> None:
        assert not self.wrong, self.wrong
        assert self.page.evaluate("window.refused") == []


@pytest.fixture
def page(browser: Browser, host: Host) -> Iterator[Page]:
    """A new tab with the console."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = Opened(context.new_page())
    opened.page.goto(host.console)
    expect(panes(opened.page)).to_have_count(1)
    yield opened.page
    opened.check()
    context.close()


# Things in the console, found as a person finds them: by role and name.


def panes(page: Page) -> Locator:
    return page.locator("article")


def add_pane(page: Page, conversation_id: str = "") -> Locator:
    page.get_by_label("Conversation id").fill(conversation_id)
    known = panes(page).count()
    page.get_by_role("button", name="Add a conversation").click()
    return panes(page).nth(known)


def says(pane: Locator, *texts: str) -> None:
    """Type messages one after the other, as fast as possible."""
    box = pane.get_by_role("textbox", name="Message in")
    for text in texts:
        box.fill(text)
        box.press("Enter")


def groups(pane: Locator) -> Locator:
    """The groups of messages that one job answers, each with its reply."""
    return pane.locator("section.group")


def replies(pane: Locator) -> Locator:
    return pane.locator(".reply:not(.partial):visible")


def opens(page: Page, view: str) -> Locator:
    page.get_by_role("tab", name=view).click()
    return page.get_by_role("tabpanel", name=view)


def eventually[T](look: Callable[[], T]) -> T:
    until = time.monotonic() + PATIENCE_MS / 1000
    while not (found := look()):
        assert time.monotonic() < until, "this never came"
        time.sleep(0.1)
    return found
