"""Does the dashboard stay fast with many jobs and many changes, as measured by the browser?

Needs the packages of the extra `dev` and a browser; `make browser` installs both. The browser is
headless and renders on the processor, which is the slower case.
"""

import argparse
import itertools
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from playwright.sync_api import CDPSession, Page, sync_playwright

from benchmarks.harness import (
    PATIENCE,
    Client,
    Report,
    Server,
    at_least,
    at_most,
    goflow,
    median,
    new_folder,
    quantile,
)
from benchmarks.seeding import seed
from goflow import Command, Job, Task
from tests.browser import chromium

MAIN = """\
from goflow import Goflow, Job, Task

class Nothing:
    async def run(self):
        pass

gf = Goflow(keep_days=None)
for n in range({jobs}):
    gf.add_job(Job(f"job-{{n}}", schedule="@hourly", tasks=[Task("t", Nothing())]))
"""

# Records when the first row and the first bar are painted, in ms since the navigation.
PAINTED = """
window.painted = {};
new MutationObserver(() => {
  for (const what of ["[data-job]", ".state-bar:nth-child(20)"])
    if (!(what in painted) && document.querySelector(what)) {
      painted[what] = null;
      requestAnimationFrame(() => setTimeout(() => painted[what] = performance.now()));
    }
}).observe(document, { childList: true, subtree: true });
"""

# Records the time of every frame.
FRAMES = """
window.frames_at = [];
(function frame(at) { frames_at.push(at); requestAnimationFrame(frame); })(performance.now());
"""

# Records when the bar of an execution first shows its end, as a Unix time in ms.
SHOWN = """
window.shown = {};
new MutationObserver(() => {
  for (const bar of document.querySelectorAll('.state-bar[data-state="successful"]')) {
    const id = bar.href.slice(bar.href.lastIndexOf("/") + 1);
    if (!(id in shown)) {
      shown[id] = 0;
      requestAnimationFrame(() => shown[id] = Date.now());
    }
  }
}).observe(document.body, { childList: true, subtree: true, attributes: true });
"""

CHANGES = 3  # an execution of one task is submitted, starts and ends


def main(
    report: Report,
    jobs: int = 1000,
    each: int = 100,
    rate: float = 100,
    seconds: float = 20,
    times: int = 5,
) -> None:
    """`each` is the number of kept executions of each job, `rate` the number of changes a second
    for `seconds`, and `times` the number of page loads."""
    report.title(f"dashboard: {jobs:,} jobs, {each} executions of each, {rate:g} changes a second")
    with new_folder() as folder:
        seed(
            folder / "goflow.db",
            [Job(f"job-{n}", tasks=[Task("t", Command("true"))]) for n in range(jobs)],
            jobs * each,
        )
        with goflow(folder, MAIN.format(jobs=jobs)) as server, _browser() as page:
            _paint(report, server, page, times)
            _on_screen(report, server, page, times)
            _frames(report, server, page, jobs, rate, seconds)


@contextmanager
def _browser() -> Iterator[Page]:
    path = chromium.find()
    if path is None:
        raise SystemExit("no browser to measure with: run `make browser`")
    sandbox = [] if os.geteuid() else ["--no-sandbox"]
    quiet = ("--disable-gpu", "--disable-background-networking", "--disable-component-update")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*quiet, *sandbox])
        yield browser.new_page(viewport={"width": 1400, "height": 900})
        browser.close()


def _paint(report: Report, server: Server, page: Page, times: int) -> None:
    page.add_init_script(PAINTED)
    rows, bars = [], []
    for _ in range(times):
        page.goto(f"http://127.0.0.1:{server.port}/ui/?last=100")
        bars.append(_once(page, "painted['.state-bar:nth-child(20)']"))
        rows.append(_once(page, "painted['[data-job]']"))
    report.row("first useful paint: the jobs", median(rows), "ms", at_most(1000))
    report.row("  with their last 100 executions", median(bars), "ms")


def _once(page: Page, number: str) -> float:
    """Wait until an expression is a number above 0, and return it.

    Playwright's own wait evaluates in the page, which the page's policy forbids.
    """
    deadline = time.monotonic() + PATIENCE
    while not (value := page.evaluate(number)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{number} is {value}")
        page.wait_for_timeout(20)
    return float(value)


def _on_screen(report: Report, server: Server, page: Page, times: int) -> None:
    """The time from the commit of an execution's end to the frame that shows it."""
    page.evaluate(SHOWN)
    late = []
    with Client(server.port) as client:
        for _ in range(4 * times):
            id = client.submit("job-0")
            shown = _once(page, f"shown['{id}']")
            ended = client.json(f"/api/executions/{id}")["modifiedTimestamp"]
            committed = datetime.fromisoformat(ended).timestamp() * 1000
            late.append(shown - committed)
    report.row("from a change's commit to the screen", median(late), "ms", at_most(300))
    report.row("  the latest", max(late), "ms", at_most(300))


def _frames(
    report: Report, server: Server, page: Page, jobs: int, rate: float, seconds: float
) -> None:
    inside = page.context.new_cdp_session(page)
    with _changes(server, jobs, rate):
        page.evaluate(FRAMES)
        page.wait_for_timeout(min(2.0, seconds) * 1000)
        before = _heap(inside)
        page.evaluate("frames_at.length = 0")
        page.wait_for_timeout(seconds * 1000)
        at = page.evaluate("frames_at")
        after = _heap(inside)
    gaps = [later - earlier for earlier, later in itertools.pairwise(at)] or [0.0]
    report.row("frames a second", (len(at) - 1) / seconds, "", at_least(50))
    report.row("  99 of 100 frames within", quantile(gaps, 0.99), "ms")
    report.row(f"memory after {seconds:g} s", after, "MiB", None, before)


def _heap(inside: CDPSession) -> float:
    """MiB in use by the page's script after a garbage collection."""
    inside.send("HeapProfiler.collectGarbage")
    return float(inside.send("Runtime.getHeapUsage")["usedSize"]) / 2**20


@contextmanager
def _changes(server: Server, jobs: int, rate: float) -> Iterator[None]:
    """Submit executions of the jobs in turn, at an even rate, while the block runs."""
    ended = threading.Event()

    def submit() -> None:
        begin = time.perf_counter()
        with Client(server.port) as client:
            for number in itertools.count():
                due = begin + number * CHANGES / rate
                if ended.wait(max(0.0, due - time.perf_counter())):
                    return
                client.submit(f"job-{number % jobs}")

    thread = threading.Thread(target=submit)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="of changes; default %(default)s")
    main(Report(), seconds=parser.parse_args().seconds)
