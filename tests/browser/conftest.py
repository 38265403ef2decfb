"""A real browser and a real server, in separate processes.

Rule: a page that logs an error, violates the content security policy or sends a request to
another server fails its test.
"""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Page,
    ViewportSize,
    expect,
    sync_playwright,
)

from tests.browser import chromium

DEADLINE = 60.0  # seconds
PROGRAM = Path(__file__).with_name("jobs.py")
TIMED = Path(__file__).with_name("timed.py")
FLOW = Path(__file__).with_name("flow.py")
LOGS = Path(__file__).with_name("logs.py")
SCHEDULES = Path(__file__).with_name("schedules.py")
THOUSAND = Path(__file__).with_name("thousand.py")
REPORTS = Path(__file__).with_name("reports.py")
QUIET = (
    *("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)

expect.set_options(timeout=DEADLINE * 1000)


class Server:
    """A program that serves goflow in its own folder; `url` ends with a slash."""

    def __init__(self, folder: Path, command: list[str], prefix: str = "/") -> None:
        self.folder = folder
        self.command = command
        self.prefix = prefix
        self.url = ""

    def start(self) -> None:
        """Start it: first on a free port, later on the same one."""
        port = re.search(r":(\d+)/", self.url)
        extra = ["--port", port[1] if port else "0"] if "serve" in self.command else []
        self.output = (self.folder / "output").open("w+b")
        self.process = subprocess.Popen(
            [sys.executable, *self.command, *extra],
            cwd=self.folder,
            stdout=self.output,
            stderr=subprocess.STDOUT,
        )
        ends = time.monotonic() + DEADLINE
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", self.said())):
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < ends, f"no address after {DEADLINE} s: {self.said()}"
            time.sleep(0.02)
        self.url = found[0] + quote(self.prefix)

    def said(self) -> str:
        return (self.folder / "output").read_text(errors="replace")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(DEADLINE)
        self.output.close()

    def job(self, name: str) -> str:
        """The address of a job's page."""
        return f"{self.url}ui/jobs/{quote(name, safe='')}"

    def submit(self, job: str, **params: object) -> str:
        """Submits a job as a script would, and returns the id of the execution."""
        address = f"{self.url}api/jobs/{quote(job, safe='')}/submit"
        body = json.dumps({"params": params}).encode() if params else b""
        headers = {"content-type": "application/json"} if params else {}
        asked = urllib.request.Request(address, body, headers, method="POST")
        with urllib.request.urlopen(asked) as answer:
            return str(json.load(answer)["id"])

    def serve_instead(self, program: Path) -> None:
        """Serve another program on the same store, at the same address."""
        self.stop()
        self.command = ["-m", "goflow", "serve", str(program)]
        self.start()

    def open_gate(self) -> None:
        (self.folder / "open").touch()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """`goflow serve jobs.py`."""
    yield from _serving(Server(tmp_path, ["-m", "goflow", "serve", str(PROGRAM)]))


@pytest.fixture
def timed(tmp_path: Path) -> Iterator[Server]:
    """`goflow serve timed.py`."""
    yield from _serving(Server(tmp_path, ["-m", "goflow", "serve", str(TIMED)]))


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[Server]:
    """`goflow serve flow.py`."""
    yield from _serving(Server(tmp_path, ["-m", "goflow", "serve", str(FLOW)]))


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[Server]:
    """`goflow serve logs.py`."""
    yield from _serving(Server(tmp_path, ["-m", "goflow", "serve", str(LOGS)]))


@pytest.fixture
def thousand(tmp_path: Path) -> Iterator[Server]:
    """`goflow serve thousand.py`."""
    yield from _serving(Server(tmp_path, ["-m", "goflow", "serve", str(THOUSAND)]))


@pytest.fixture
def reports(tmp_path: Path) -> Iterator[Server]:
    """`goflow serve reports.py`."""
    yield from _serving(Server(tmp_path, ["-m", "goflow", "serve", str(REPORTS)]))


@pytest.fixture
def schedules(tmp_path: Path) -> Iterator[Server]:
    """`goflow serve schedules.py`."""
    yield from _serving(Server(tmp_path, ["-m", "goflow", "serve", str(SCHEDULES)]))


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Server]:
    """The same jobs, mounted below a path of another application."""
    yield from _serving(Server(tmp_path, [str(PROGRAM)], "/tools/my flow/"))


def _serving(server: Server) -> Iterator[Server]:
    server.start()
    yield server
    server.stop()


# Playwright keeps an event loop running in this thread while it is open, so it is closed before
# the tests of other folders begin.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = chromium.find()
    assert path, "no browser to test the dashboard with: run `make browser`"
    sandbox = [] if os.geteuid() else ["--no-sandbox"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*QUIET, *sandbox])
        yield browser
        browser.close()


class Watch:
    """Records forbidden actions of pages."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.asked: list[str] = []
        self.server_may_be_away = False
        self.server_may_refuse = False
        self.server_may_miss = False
        self.server_may_fail = False

    def over(self, context: BrowserContext) -> None:
        context.on("console", lambda message: self._said(message.type, message.text))
        context.on("weberror", lambda error: self.wrong.append(str(error.error)))
        context.on("request", lambda request: self.asked.append(request.url))

    def _said(self, kind: str, text: str) -> None:
        away = "net::ERR_" in text and self.server_may_be_away
        codes = "status of 400", "status of 422"
        refused = self.server_may_refuse and any(code in text for code in codes)
        missing = "status of 404" in text and self.server_may_miss
        failing = "status of 503" in text and self.server_may_fail
        if kind in ("error", "warning") and not (away or refused or missing or failing):
            self.wrong.append(text)

    def check(self, origin: str) -> None:
        assert self.wrong == []
        elsewhere = [url for url in self.asked if not url.startswith((origin, "data:"))]
        assert elsewhere == []


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def page(browser: Browser, watch: Watch) -> Iterator[Page]:
    """A page in a new profile, watched for forbidden actions."""
    # Without animations, since a browser without a graphics card draws each frame of them.
    size: ViewportSize = {"width": 1200, "height": 900}
    with browser.new_context(viewport=size, reduced_motion="reduce") as context:
        watch.over(context)
        page = context.new_page()
        yield page
        origin = re.match(r"https?://[^/]+/", page.url)
        assert origin, "the test opened no page"
        watch.check(origin[0])
