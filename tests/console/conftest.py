"""The console in a real browser, over the real service: `python -m local`, driven by headless Chromium.

Whatever a test is about, no page of it may have run a script that isn't the console's, shown a dialog of the browser's,
or broken its Content-Security-Policy; and no word of a patient's may be where it outlives the tab.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pg8000.native
import pytest
import requests
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from local.psql import address_file
from local.stores import free_port

ROOT = Path(__file__).parents[2]
#: In each message that a test types; nowhere else may it be found.
CANARY = "c4n4ry"
#: A loaded machine with two cores takes its time.
PATIENCE_MS = 30_000
START_SECONDS = 60

expect.set_options(timeout=PATIENCE_MS)


@dataclass
class Host:
    """A running `python -m local`; `report` is what it printed when it was ready."""

    process: subprocess.Popen[bytes]
    url: str
    log_file: Path
    report: str

    @property
    def console(self) -> str:
        return f"{self.url}/console"

    def call(self, method: str, path: str, **arguments: Any) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False
            return session.request(method, f"{self.url}/{path}", timeout=30, **arguments)

    def change(self, statement: str, **values: Any) -> int:
        """Do to the database what only time would; how many rows that were."""
        url = urlsplit(address_file(ROOT / ".local", urlsplit(self.url).port or 0).read_text())
        login = {"user": url.username, "password": url.password, "database": url.path.strip("/")}
        with pg8000.native.Connection(host=url.hostname, port=url.port, **login) as connection:
            connection.run(statement, **values)
            return int(connection.row_count)


def started(folder: Path, **environment: str) -> Host:
    log_file, report = folder / "functions.log", folder / "report.txt"
    command = [sys.executable, "-m", "local", "--port", str(free_port()), "--log-file", str(log_file)]
    names = ("PATH", "LD_LIBRARY_PATH", "HOME", "TMPDIR")
    own = {name: os.environ[name] for name in names if name in os.environ} | environment
    with report.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=own, stdout=output, stderr=output)
    until = time.monotonic() + START_SECONDS
    while not (ready := re.search(r"^Ready on (http://\S+)(.*\n)+Try:", report.read_text(), re.MULTILINE)):
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            pytest.fail(f"the local host didn't start:\n{report.read_text()}")
        time.sleep(0.1)
    return Host(process, ready[1], log_file, report.read_text())


def ended(host: Host) -> None:
    host.process.send_signal(signal.SIGTERM)
    host.process.wait(30)


#: What these tests share: started for the first that wants it, and ended behind the last of them. (A scope of pytest's
#: would last until the end of all tests, and a browser's event loop keeps others from theirs.)
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
def running(folder: Path, **environment: str) -> Iterator[Host]:
    host = started(folder, **environment)
    try:
        yield host
    finally:
        ended(host)
    found = [line for line in host.log_file.read_text().splitlines() if CANARY in line]
    assert not found, f"a patient's words are in the functions' log: {found[0]}"


@pytest.fixture
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    """The service, open to everybody."""
    return shared("host", lambda: running(tmp_path_factory.mktemp("console")))


@pytest.fixture
def guarded_host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    """The service that wants tokens."""
    return shared("guarded host", lambda: running(tmp_path_factory.mktemp("guarded"), AUTH="1"))


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
        browser = playwright.chromium.launch(executable_path=program)
        yield browser
        browser.close()


#: Kept in the page: what its Content-Security-Policy refused.
_WATCH = """
window.refused = [];
addEventListener("securitypolicyviolation", (event) => refused.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


class Opened:
    """A tab, and what went wrong in it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.wrong: list[str] = []
        page.set_default_timeout(PATIENCE_MS)
        page.add_init_script(_WATCH)
        page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (self.wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("console", self._told)

    def _told(self, message: Any) -> None:
        # What the API refuses, and a store that is away, the browser reports by itself.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.wrong.append(f"console: {message.text}")

    def check(self) -> None:
        assert not self.wrong, self.wrong
        assert self.page.evaluate("window.refused") == []


@pytest.fixture
def page(browser: Browser, host: Host) -> Iterator[Page]:
    """A tab of its own, with the console in it."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = Opened(context.new_page())
    opened.page.goto(host.console)
    expect(panes(opened.page)).to_have_count(1)
    yield opened.page
    opened.check()
    context.close()


# Where things are, as a person finds them: by role and name.


def panes(page: Page) -> Locator:
    return page.locator("article")


def add_pane(page: Page, conversation_id: str = "") -> Locator:
    page.get_by_label("Conversation id").fill(conversation_id)
    known = panes(page).count()
    page.get_by_role("button", name="Add a conversation").click()
    return panes(page).nth(known)


def says(pane: Locator, *texts: str) -> None:
    """Type messages, one after the other, as fast as one can."""
    box = pane.get_by_role("textbox", name="Message in")
    for text in texts:
        box.fill(text)
        box.press("Enter")


def groups(pane: Locator) -> Locator:
    """What one job answers: its messages, and the reply beneath."""
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
