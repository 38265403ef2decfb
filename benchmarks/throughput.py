"""How many no-op tasks run per second, and does a task cost the same in a ten times larger graph?

`bare` is a program without goflow: asyncio runs the same tasks, and after each layer a
thread commits their facts as JSON to SQLite, durably.
"""

import asyncio
import json
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from benchmarks.harness import (
    TICKS,
    Client,
    Listener,
    Report,
    Server,
    at_least,
    at_most,
    goflow,
    median,
    new_folder,
)

MAIN = """\
from goflow import Goflow, Job, Task

class Async:
    async def run(self): pass

class Sync:
    def run(self): pass

gf = Goflow()
for name, layers, width, upstream, operator in {shapes!r}:
    job = Job(name)
    for layer in range(layers):
        for place in range(width):
            after = [f"t{{layer - 1}}-{{(place + n) % width}}" for n in range(upstream)]
            job.add(Task(f"t{{layer}}-{{place}}", {{"async": Async, "sync": Sync}}[operator](),
                         after=after if layer else []))
    gf.add_job(job)
"""


class Shape(NamedTuple):
    """Layers of tasks; each waits for `upstream` tasks of the previous layer."""

    name: str
    layers: int
    width: int
    upstream: int
    operator: str

    @property
    def kind(self) -> str:
        return self.name.partition("-")[0]

    @property
    def tasks(self) -> int:
        return self.layers * self.width


def main(report: Report, scale: int = 10, width: int = 100, repeat: int = 5) -> None:
    """`scale` is both the number of layers of the small graph and the factor to the large one."""
    small = Shape("small-async", scale, width, 3, "async")
    large = Shape("large-async", scale * scale, width, 3, "async")
    small_sync = Shape("small-sync", scale, width, 3, "sync")
    large_sync = Shape("large-sync", scale * scale, width, 3, "sync")
    chain = Shape("chain", width, 1, 1, "async")
    independent = Shape("independent", 1, width, 0, "async")
    shapes = [small, large, small_sync, large_sync, chain, independent]
    targets = {small: 15_000, small_sync: 6_000, chain: 1_500, independent: 12_000}

    report.title("throughput: tasks/s between an execution's `started` and `finished`, best run")
    with (
        new_folder() as folder,
        goflow(folder, MAIN.format(shapes=list(map(tuple, shapes)))) as (server),
        Client(server.port) as client,
    ):
        for shape in shapes:
            times = min(repeat, 3) if shape in (large, large_sync) else repeat
            own = min(seconds_of(client, shape.name) for _ in range(times))
            bare = min(_run_bare(folder, shape) for _ in range(times))
            own = min(own, *(seconds_of(client, shape.name) for _ in range(times)))
            target = at_least(targets[shape]) if shape in targets else None
            what = f"{shape.tasks:,} {shape.operator}, {shape.kind}"
            report.row(what, shape.tasks / own, "/s", target, shape.tasks / bare)
            watched, seen = zip(
                *(_run_watched(client, server.port, shape) for _ in range(times)), strict=True
            )
            report.row("  with a stream open", shape.tasks / min(watched), "/s")
            report.row("  submit to the stream's last event", shape.tasks / min(seen), "/s")
        for ten, one in ((large, small), (large_sync, small_sync)):
            _measure_growth(report, server, client, ten, one, repeat)


def _measure_growth(
    report: Report, server: Server, client: Client, large: Shape, small: Shape, repeat: int
) -> None:
    """The same number of tasks in one graph and in several small ones, alternately."""
    many = large.tasks // small.tasks
    took, used = [], []
    for _ in range(repeat):
        before = server.cpu()
        in_one = seconds_of(client, large.name)
        between = server.cpu()
        in_many = sum(seconds_of(client, small.name) for _ in range(many))
        took.append(in_one / in_many)
        used.append((between - before) / max(server.cpu() - between, 1 / TICKS))
    what = f"a task of {large.tasks:,}, to one of {small.tasks:,} {small.operator}"
    report.row(f"{what}: time, median", median(took), "times", at_most(1.3))
    report.row(f"{what}: processor, median", median(used), "times")


def _run_watched(client: Client, port: int, shape: Shape) -> tuple[float, float]:
    """Like `seconds_of` with an open stream, and the seconds from the submit to the last event."""
    with Listener(port, f"?jobname={shape.name}") as listener:
        begin = time.time()
        last = listener.wait_until_finished(client.submit(shape.name))
    return took(last.execution), last.arrived - begin


def seconds_of(client: Client, job: str) -> float:
    """Run a job without listeners; seconds between the execution's `started` and `finished`."""
    id = client.submit(job)
    client.wait_until_idle()
    (execution,) = client.json(f"/api/executions?jobname={job}&limit=1")["executions"]
    assert execution["id"] == id
    return took(execution)


def took(execution: dict[str, str]) -> float:
    if execution["state"] != "successful":
        raise RuntimeError(f"an execution of {execution['job']} ended {execution['state']}")
    started, ended = (datetime.fromisoformat(execution[key]) for key in ("started", "finished"))
    return (ended - started).total_seconds()


def _run_bare(folder: Path, shape: Shape) -> float:
    """Seconds for the same tasks without goflow."""
    with ThreadPoolExecutor(1) as writer, ThreadPoolExecutor(128) as threads:
        return asyncio.run(_layers(folder, shape, writer, threads))


async def _layers(
    folder: Path, shape: Shape, writer: ThreadPoolExecutor, threads: ThreadPoolExecutor
) -> float:
    loop = asyncio.get_running_loop()
    db = sqlite3.connect(folder / "bare.db", isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE IF NOT EXISTS facts (body TEXT)")

    def commit(facts: list[tuple[str]]) -> None:
        db.execute("BEGIN IMMEDIATE")
        db.executemany("INSERT INTO facts VALUES (?)", facts)
        db.execute("COMMIT")

    async def one() -> None:
        if shape.operator == "sync":
            await loop.run_in_executor(threads, int)

    begin = time.perf_counter()
    for layer in range(shape.layers):
        async with asyncio.TaskGroup() as group:
            for _ in range(shape.width):
                group.create_task(one())
        facts = [
            (json.dumps({"fact": fact, "at": time.time(), "task": f"t{layer}-{place}"}),)
            for place in range(shape.width)
            for fact in ("started", "succeeded")
        ]
        await loop.run_in_executor(writer, commit, facts)
    took = time.perf_counter() - begin
    db.close()
    return took


if __name__ == "__main__":
    main(Report())
