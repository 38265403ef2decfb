"""What does a result of 1 MB cost that goes through ten tasks, compared to ten commits of it?"""

import sqlite3
import time
from pathlib import Path

from benchmarks.harness import Client, Report, at_most, goflow, median, new_folder
from benchmarks.throughput import seconds_of

MAIN = """\
from goflow import Goflow, Job

def chain(name, size):
    job = Job(name)

    async def begin():
        return "x" * size

    before = job.task(begin, name="t0")
    for place in range(1, {tasks}):
        async def passes(context):
            (value,) = context.results.values()
            return value

        before = job.task(passes, name=f"t{{place}}", after=[before.name])
    return job

gf = Goflow()
gf.add_job(chain("large", {size}))
gf.add_job(chain("small", 1))
"""


def main(report: Report, size: int = 1_000_000, tasks: int = 10, repeat: int = 15) -> None:
    report.title(
        f"a result of {size:,} bytes through {tasks} tasks: ms from `started` to `finished`"
    )
    with (
        new_folder() as folder,
        goflow(folder, MAIN.format(size=size, tasks=tasks)) as server,
        Client(server.port) as client,
    ):
        large, small, bare = [], [], []
        for _ in range(repeat + 1):  # the first one warms up
            large.append(seconds_of(client, "large") * 1000)
            small.append(seconds_of(client, "small") * 1000)
            bare.append(_commits(folder, size, tasks))
        commits = median(bare[1:])
        report.row("whole execution", median(large[1:]), "ms", bare=commits)
        report.row("  with results of 1 byte", median(small[1:]), "ms")
        more = median(large[1:]) - median(small[1:])
        report.row("  the results alone, to commits of them", more / commits, "times", at_most(1))


def _commits(folder: Path, size: int, times: int) -> float:
    """Milliseconds for durable commits of so many bytes, one after another."""
    path = folder / "bare.db"
    with sqlite3.connect(path, isolation_level=None) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("CREATE TABLE IF NOT EXISTS results (id INTEGER PRIMARY KEY, value TEXT)")
        text = "x" * size
        begun = time.perf_counter()
        for _ in range(times):
            database.execute("BEGIN IMMEDIATE")
            database.execute("INSERT INTO results (value) VALUES (?)", (text,))
            database.execute("COMMIT")
        spent = time.perf_counter() - begun
    database.close()
    return spent * 1000


if __name__ == "__main__":
    main(Report())
