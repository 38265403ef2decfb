"""How long does a purge block the writer, with a million executions in the store?

Each has three tasks, a log of two lines and a fired tick. A purge deletes less than requested if
it would take too long, so the longest purges matter. `bare` appends as many bytes as a purge
writes to a file, with a sync each time.
"""

import os
import random
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from benchmarks.harness import Report, at_most, median, milliseconds, new_folder
from goflow import SqliteStore
from goflow.core.events import AnyFact, Finished, Submitted, TaskStarted, TaskSucceeded
from goflow.core.graph import Plan, PlannedTask
from goflow.core.states import State
from goflow.stores.base import Change, Purge, Put, Record, Submit
from goflow.stores.logs import AppendLog

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
JOBS = [f"job-{n}" for n in range(100)]
TASKS = ("extract", "transform", "load")
SUMMARY = b'{"cause":"schedule","tasks":[["extract",3],["transform",3],["load",3]]}'
PURGE = 500  # executions at a time
WRITTEN = 2**20  # approximate bytes that a purge writes


def main(report: Report, executions: int = 1_000_000, purges: int = 40) -> None:
    """`purges` is the number of measured purges of each kind."""
    report.title(f"retention: ms to forget {PURGE} of {executions:,} executions")
    with new_folder() as folder:
        store = SqliteStore(folder / "goflow.db")
        store.open()
        try:
            begin = time.perf_counter()
            fill(store, executions)
            report.row("written a second, to begin with", executions / _since(begin), "a second")
            report.row("size", store.size() / 2**20, "MiB")
            left = executions
            for what in ("by age", "by number", "by age, of a job", "by number, of a job"):
                took, before = [], left
                for _ in range(purges):
                    purge = _purge(what, executions)
                    begin = time.perf_counter()
                    [gone] = store.commit([purge])
                    took.append(_since(begin) * 1000)
                    assert isinstance(gone, int)
                    left -= gone
                bare = _write_bare(folder / "bare", purges)
                report.row(what, median(took), "ms", at_most(50), median(bare))
                report.row("  the longest", max(took), "ms", at_most(50), max(bare))
                report.row("  executions and ticks at a time", (before - left) / purges)
            nothing = Purge(None, BEGIN, executions, PURGE)
            took = milliseconds(lambda: store.commit([nothing]), purges)
            report.row("with nothing to forget", median(took), "ms")
            put = Put("kind", "key", b"1")
            took = milliseconds(lambda: store.commit([put]), purges)
            report.row("the least commit there is", median(took), "ms")
            begin = time.perf_counter()
            store.backup(str(folder / "copy.db"))
            report.row("a backup", _since(begin), "s")
        finally:
            store.close()


def _purge(what: str, executions: int) -> Purge:
    return {
        "by age": Purge(None, BEGIN + timedelta(seconds=executions // 2), None, PURGE),
        "by number": Purge(None, None, 100, PURGE),
        "by age, of a job": Purge(JOBS[7], BEGIN + timedelta(days=999), None, PURGE),
        "by number, of a job": Purge(JOBS[8], None, 1, PURGE),
    }[what]


def fill(store: SqliteStore, executions: int) -> None:
    """Add finished executions, one a second, with one commit per fact as in practice."""
    rng = random.Random(1)
    plan = Plan(tuple(PlannedTask(name) for name in TASKS))
    numbers = iter(range(executions))
    while some := list(islice(numbers, 500)):
        store.commit([change for number in some for change in _execution(rng, plan, number)])


def _execution(rng: random.Random, plan: Plan, number: int) -> Iterator[Change]:
    now = BEGIN + timedelta(seconds=number)
    id = str(uuid.UUID(int=rng.getrandbits(128), version=4))
    job = JOBS[number % len(JOBS)]
    fact = Submitted(now, id=id, job=job, plan=plan.id, cause="schedule", scheduled_at=now)
    yield Submit(fact, plan, tick=True)
    yield Record(id, [TaskStarted(now, task, 1) for task in TASKS], State.RUNNING, now)
    yield AppendLog(id, TASKS[0], 1, 0, 2, f"begin {id}\ndone\n")
    for task in TASKS[:-1]:
        yield Record(id, [TaskSucceeded(now, task, 1)], State.RUNNING, now)
    ended: list[AnyFact] = [TaskSucceeded(now, TASKS[-1], 1), Finished(now, "successful")]
    yield Record(id, ended, State.SUCCESSFUL, now, SUMMARY)


def _write_bare(path: Path, times: int) -> list[float]:
    """Milliseconds to append as many bytes as a purge writes to a file, durably."""
    with path.open("ab", buffering=0) as file:

        def append() -> None:
            file.write(bytes(WRITTEN))
            os.fsync(file.fileno())

        return milliseconds(append, times)


def _since(begin: float) -> float:
    return time.perf_counter() - begin


if __name__ == "__main__":
    main(Report())
