"""Takes the pictures in docs/images from the demo, for `make screenshots`.

The demo runs in a temporary folder. The script submits extra executions, so that the pages have
content.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser import chromium  # noqa: E402  # after the change of sys.path

IMAGES = ROOT / "docs" / "images"
JOB = "example-complex-analytics"
SIZE = {"width": 1280, "height": 760}
SUBMITS = 12
PATIENCE = 120.0  # seconds


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, demo(Path(folder)) as url, browser() as page:
        for _ in range(SUBMITS):
            for job in ask(url, "/api/jobs")["jobs"]:
                ask(url, f"/api/jobs/{job}/submit", "POST")
            time.sleep(0.5)
        failed = wait_for_one(url, "failed")
        take(page, f"{url}/ui/", "jobs")
        take(page, f"{url}/ui/jobs/{JOB}", "job")
        take(page, f"{url}/ui/executions/{failed}", "execution")
        ask(url, f"/api/jobs/{JOB}/submit", "POST")
        take(page, f"{url}/ui/now?ahead=10m", "now", dark=True)


@contextmanager
def demo(folder: Path) -> Iterator[str]:
    """Runs `goflow demo` in a folder and gives its address."""
    with (folder / "output").open("w+") as output:
        command = [sys.executable, "-m", "goflow", "demo", "--port", "0"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
        try:
            deadline = time.monotonic() + PATIENCE
            while not (found := re.search(r"http://\S+", (folder / "output").read_text())):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("the demo did not start")
                time.sleep(0.05)
            yield found[0]
        finally:
            process.terminate()
            process.wait(PATIENCE)


@contextmanager
def browser() -> Iterator[Page]:
    sandbox = [] if os.geteuid() else ["--no-sandbox"]
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium.find(), args=sandbox)
        yield opened.new_page(viewport=SIZE, locale="en-GB", timezone_id="UTC")
        opened.close()


def ask(url: str, path: str, method: str = "GET") -> Any:
    with urllib.request.urlopen(urllib.request.Request(url + path, method=method)) as answer:
        return json.load(answer)


def wait_for_one(url: str, state: str) -> str:
    """Waits for an execution of the job in this state, and returns the id of the newest."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = ask(url, f"/api/executions?jobname={JOB}&state={state}&limit=1")["executions"]
        if found:
            return str(found[0]["id"])
        time.sleep(0.2)
    raise SystemExit(f"no execution was {state} in {PATIENCE} s")


def take(page: Page, address: str, name: str, *, dark: bool = False) -> None:
    page.emulate_media(color_scheme="dark" if dark else "light", reduced_motion="reduce")
    page.goto(address)
    page.locator("[data-hears=live]").wait_for()
    page.wait_for_timeout(1500)  # for the requests that the page sends after it loads
    page.screenshot(path=IMAGES / f"{name}.jpeg", type="jpeg", quality=72)
    print(f"{name}: {(IMAGES / f'{name}.jpeg').stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
