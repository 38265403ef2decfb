"""Do jobs fire on time: many at once, one of many, many a second for long, and after a long
downtime?

A fire is recorded with its execution in one commit, before any task starts. So the start of the
first task is an upper bound for the time of the record.
"""

import argparse
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from benchmarks.harness import (
    PATIENCE,
    Client,
    Report,
    at_most,
    goflow,
    median,
    new_folder,
    quantile,
)
from goflow import Schedule, SqliteStore
from goflow.engine.entries import ScheduleState, put_state
from goflow.stores.base import Change

NOTHING = """\
from datetime import UTC, datetime, timedelta
from goflow import Goflow, Job, Task

class Nothing:
    async def run(self): pass

gf = Goflow(with_seconds=True)
"""

# All are due in the same second, shortly after the start. Schedules differ as far as there are
# enough hours and minutes.
AT_ONCE = """\
due = datetime.now(UTC) + timedelta(seconds={soon})
for n in range({jobs}):
    schedule = f"{{due.second}} {{due.minute}},{{n % 60}} {{due.hour}},{{n // 60 % 24}} * * *"
    gf.add_job(Job(f"job-{{n}}", schedule=schedule, active=True, tasks=[Task("t", Nothing())]))
"""

EACH_SECOND = """\
for n in range({jobs}):
    gf.add_job(
        Job(f"job-{{n}}", schedule="* * * * * *", active=True, tasks=[Task("t", Nothing())])
    )
"""

# Each fires in a different minute of the year, as far as there are enough; one in ten has
# daylight saving time. None fires during the run, except in January.
REGISTERED = """\
from goflow import Command, Goflow, Job, Task

gf = Goflow()
for n in range({jobs}):
    job = Job(f"job-{{n}}", schedule=f"{{n % 60}} {{n // 60 % 24}} {{1 + n // 1440}} 1 *",
              active=True, timezone="UTC" if n % 10 else "Europe/Berlin")
    job.add(Task("extract", Command("true")))
    job.add(Task("load", Command("true"), after=["extract"]))
    gf.add_job(job)
"""


EACH_MINUTE = """\
for n in range({jobs}):
    gf.add_job(Job(f"job-{{n}}", schedule="* * * * *", active=True, tasks=[Task("t", Nothing())]))
"""


class Fire(NamedTuple):
    """A due time that fired, with the seconds until the claim and the start."""

    due: datetime
    claimed: float
    started: float


def main(report: Report, jobs: int = 1000, registered: int = 10_000, rate: int = 100,
         seconds: float = 20.0, idle: float = 10.0) -> None:  # fmt: skip
    """`rate` jobs fire each second for `seconds`; `idle` is how long the idle server is
    measured."""
    _measure_burst(report, jobs)
    _measure_registered(report, registered, idle)
    _measure_downtime(report, jobs)
    _measure_rate(report, rate, seconds)


def _measure_burst(report: Report, jobs: int) -> None:
    report.title(f"ticks: {jobs:,} jobs due in the same second")
    soon = 3 + jobs // 200
    while (measured := _burst(jobs, soon)) is None:
        soon *= 2
    fires, cost = measured
    report.row("fired", len(fires), f"of {jobs:,}")
    report.row("the earliest, after its due time", min(f.claimed for f in fires) * 1000, "ms")
    report.row("half of the fires claimed within", median(f.claimed for f in fires), "s")
    report.row("the last fire claimed within", max(f.claimed for f in fires), "s", at_most(2))
    report.row("half of the tasks started within", median(f.started for f in fires), "s")
    within = quantile((f.started for f in fires), 0.99)
    report.row("99 of 100 tasks started within", within, "s", at_most(1))
    longest = max(f.started for f in fires)
    report.row("all of them, so every fire recorded", longest, "s", at_most(2))
    report.row("processor time of a fire and its execution", cost / jobs * 1000, "ms")


def _burst(jobs: int, soon: int) -> tuple[list[Fire], float] | None:
    """The fires of jobs due `soon` seconds after their definition, and their processor time; None
    if the server was not ready in time."""
    main = NOTHING + AT_ONCE.format(jobs=jobs, soon=soon)
    with (
        new_folder() as folder,
        goflow(folder, main) as server,
        Client(server.port) as client,
    ):
        before = server.cpu()
        [due] = client.json("/api/jobs/job-0/upcoming?n=1")["upcoming"]
        ahead = _after(datetime.now(UTC), due)
        if ahead > soon:  # the next due time is a year later
            return None
        time.sleep(max(0.0, ahead))
        _wait_for(client, jobs)
        return _fires(client, jobs), server.cpu() - before


def _measure_registered(report: Report, jobs: int, idle: float) -> None:
    report.title(f"ticks: {jobs:,} jobs registered, schedules on")
    main = REGISTERED.format(jobs=jobs)
    with new_folder() as folder:
        with goflow(folder, main) as server:
            report.row("start to first 200, new store", server.seconds_to_answer, "s", at_most(5))
            report.row("  processor time of that", server.cpu(), "s")
        with goflow(folder, main) as server:
            report.row("start to first 200, again", server.seconds_to_answer, "s", at_most(5))
            report.row("  processor time of that", server.cpu(), "s")
            what = f"processor, of one core, idle for {idle:g} s"
            report.row(what, server.idle_share(idle), "%", at_most(2))
            report.row("memory", server.memory(), "MiB")


def _measure_downtime(report: Report, jobs: int) -> None:
    report.title(f"ticks: {jobs:,} jobs that are due each minute, after a week without a server")
    with new_folder() as folder:
        _stop_a_week_ago(folder, jobs)
        main = NOTHING + EACH_MINUTE.format(jobs=jobs)
        with goflow(folder, main) as server, Client(server.port) as client:
            begin = time.perf_counter()
            report.row("start to first 200", server.seconds_to_answer, "s", at_most(5))
            _wait_for(client, jobs)
            took = time.perf_counter() - begin
            report.row("  then until the last has caught up", took, "s", at_most(10))
            report.row("  processor time of both", server.cpu(), "s")
            missed = sum(t["count"] for t in _ticks(client, jobs) if t["outcome"] == "missed")
            if not missed:
                raise RuntimeError("no due time was missed, so nothing was measured")
            report.row("missed ones in the ledger", missed)


def _stop_a_week_ago(folder: Path, jobs: int) -> None:
    """Create the store of a server that stopped a week ago."""
    last = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(weeks=1)
    schedule = Schedule("* * * * *", with_seconds=True).text
    state = ScheduleState(schedule, last, last)
    states: list[Change] = [put_state(f"job-{n}", state) for n in range(jobs)]
    store = SqliteStore(folder / "goflow.db")
    store.open()
    try:
        store.commit(states)
    finally:
        store.close()


def _measure_rate(report: Report, rate: int, seconds: float) -> None:
    report.title(f"ticks: {rate} fires a second, {seconds:g} s")
    with (
        new_folder() as folder,
        goflow(folder, NOTHING + EACH_SECOND.format(jobs=rate)) as server,
        Client(server.port) as client,
    ):
        begin, most = time.monotonic(), 0
        used = [(begin, server.cpu())]
        while time.monotonic() - begin < seconds:
            time.sleep(0.25)
            most = max(most, client.json("/api/health")["unfinished"])
            used.append((time.monotonic(), server.cpu()))
        for n in range(rate):
            client.ask("POST", f"/api/jobs/job-{n}/toggle")
        client.wait_until_idle()
        missed = sum(tick["count"] for tick in _ticks(client, rate) if tick["execution"] is None)
        fires = sorted(_fires(client, rate))
    report.row("fired", len(fires), "fires")
    report.row("missed or skipped", missed, "fires", at_most(0))
    report.row("most executions unfinished at a look", most)
    third = max(1, len(used) // 3)
    report.row("processor, of one core", _share(used), "%")
    growth = _share(used[-third - 1 :]) / max(_share(used[: third + 1]), 0.01)
    report.row("  the last third of the time to the first", growth, "times", at_most(1.5))
    tenth = max(1, len(fires) // 10)
    first, last = fires[:tenth], fires[-tenth:]
    for what, some in (("first", first), ("last", last)):
        report.row(f"claimed, {what} tenth, median", median(f.claimed for f in some) * 1000, "ms")
        report.row("  99 of 100 within", quantile((f.claimed for f in some), 0.99) * 1000, "ms")
        report.row("  started, median", median(f.started for f in some) * 1000, "ms")
    growth = median(f.started for f in last) / median(f.started for f in first)
    report.row("started, last tenth to first, medians", growth, "times", at_most(1.5))


def _share(used: list[tuple[float, float]]) -> float:
    """Percent of a core, from pairs of instant and processor time."""
    (begin, before), (end, after) = used[0], used[-1]
    return (after - before) / (end - begin) * 100


def _wait_for(client: Client, executions: int) -> None:
    """Wait until this number of executions have finished."""
    deadline = time.monotonic() + PATIENCE
    while True:
        client.wait_until_idle()
        if sum(1 for _ in client.executions()) >= executions:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"fewer than {executions} executions")
        time.sleep(0.1)


def _fires(client: Client, jobs: int) -> list[Fire]:
    """Every fired due time, from its record in the ledger and its execution."""
    started = {one["id"]: one["started"] for one in client.executions()}
    fires = []
    for tick in _ticks(client, jobs):
        if tick["execution"] is not None:
            due = datetime.fromisoformat(tick["due"])
            fires.append(
                Fire(due, _after(due, tick["at"]), _after(due, started[tick["execution"]]))
            )
    return fires


def _ticks(client: Client, jobs: int) -> list[Any]:
    ticks = []
    for n in range(jobs):
        page = client.json(f"/api/jobs/job-{n}/ticks?limit=1000")
        ticks += page["ticks"]
        while page["next"] is not None:
            cursor = quote(page["next"])
            page = client.json(f"/api/jobs/job-{n}/ticks?limit=1000&cursor={cursor}")
            ticks += page["ticks"]
    return ticks


def _after(due: datetime, instant: str) -> float:
    """Seconds from a due time to an instant."""
    return (datetime.fromisoformat(instant) - due).total_seconds()


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=20.0, help="of 100 fires each; 600")
    main(Report(), seconds=options.parse_args().seconds)
