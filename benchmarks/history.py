"""Does a long history slow down lists, the start or streams?

`bare` is a web server without goflow; it responds to a page with as many prepared bytes.
"""

import argparse
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.harness import (
    Client,
    Listener,
    Report,
    at_most,
    bare,
    goflow,
    median,
    milliseconds,
    new_folder,
    quantile,
)
from benchmarks.seeding import seed
from goflow import Command, Job, Task

MAIN = """\
from goflow import Command, Goflow, Job, Task

gf = Goflow(keep_days=None, keep_executions=None)
for n in range(10):
    gf.add_job(Job(f"job-{n}", tasks=[Task("t", Command("true"))]))
"""


def main(report: Report, executions: int = 100_000, streams: int = 100, repeat: int = 7,
         seconds: float = 10.0) -> None:  # fmt: skip
    """`seconds` is how long the idle server is measured."""
    with new_folder() as short, new_folder() as long:
        report.title(f"history: {executions:,} executions kept")
        seed(short / "goflow.db", _jobs(), min(100, executions))
        seed(long / "goflow.db", _jobs(), executions)
        size = (long / "goflow.db").stat().st_size / executions
        report.row("store, of an execution of three tasks", size, "bytes")
        _measure_start(report, short, long, repeat)
        _measure_pages(report, long, executions)
        _measure_streams(report, long, streams, seconds)


def _jobs() -> list[Job]:
    def job(n: int) -> Job:
        tasks = [Task("extract", Command("true")), Task("load", Command("true"), after=["extract"])]
        return Job(f"job-{n}", tasks=[*tasks, Task("report", Command("true"), after=["load"])])

    return [job(n) for n in range(10)]


def _measure_start(report: Report, short: Path, long: Path, repeat: int) -> None:
    runs = [(_start(long), _start(short)) for _ in range(repeat + 1)][1:]
    took, limit = (median(column) for column in zip(*runs, strict=True))
    report.row("start to first 200", took, "ms", at_most(2000))
    report.row("start to first 200 with 100 executions", limit, "ms")
    ratio = median(with_long / with_short for with_long, with_short in runs)
    report.row("start, compared with 100 executions, median of pairs", ratio, "times")


def _start(folder: Path) -> float:
    with goflow(folder, MAIN) as server:
        return server.seconds_to_answer * 1000


def _measure_pages(report: Report, folder: Path, executions: int) -> None:
    pages = {
        "first page": "/api/executions",
        "first page of one job": "/api/executions?jobname=job-3",
        "first page of one state": "/api/executions?state=failed",
        "first page of both": "/api/executions?jobname=job-0&state=failed",
        "first page where there is none": "/api/executions?state=cancelled",
        "page in the middle": f"/api/executions?cursor={executions // 2 + 1}",
    }
    with (
        bare(folder) as limit,
        Client(limit.port) as plain,
        goflow(folder, MAIN) as server,
        Client(server.port) as client,
    ):
        for what, path in pages.items():
            size = len(client.get(path))
            took = milliseconds(partial(client.get, path), 100)
            ready = milliseconds(partial(plain.get, f"/bytes/{size}"), 100)
            report.row(f"{what}, median", median(took), "ms", at_most(10), median(ready))
            report.row("  99 of 100 within", quantile(took, 0.99), "ms", at_most(20))


def _measure_streams(report: Report, folder: Path, streams: int, seconds: float) -> None:
    with goflow(folder, MAIN) as server:
        alone = server.idle_share(seconds)
        before = server.memory()
        with ExitStack() as stack:
            for _ in range(streams):
                listener = stack.enter_context(Listener(server.port))
                listener.wait_for(lambda events: len(events) > 0)
            share = server.idle_share(seconds)
            what = f"processor, of one core, {streams} open streams, idle"
            report.row(what, share, "%", at_most(1), alone)
            report.row("memory of a stream", (server.memory() - before) * 1024 / streams, "KiB")


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--executions", type=int, default=100_000, help="kept; 1000000")
    main(Report(), options.parse_args().executions)
