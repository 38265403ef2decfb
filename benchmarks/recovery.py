"""How long does the recovery of running executions take after a kill -9?

The time begins with the start of the new process, and ends when no execution is unfinished and
no process of them is left.
"""

import time
from pathlib import Path

from benchmarks.harness import (
    PATIENCE,
    Client,
    Report,
    at_most,
    goflow,
    median,
    new_folder,
)

# `inside` waits in the server itself, with tasks before and after; `program` runs a process.
MAIN = """\
import asyncio
from goflow import Command, Goflow, Job, Task

class Nothing:
    async def run(self): pass

class Waiting:
    async def run(self): await asyncio.sleep(3600)

gf = Goflow(max_running={running}, max_unfinished={running})
gf.add_job(Job("inside", tasks=[Task("before", Nothing()),
                                Task("waiting", Waiting(), after=["before"]),
                                Task("after", Nothing(), after=["waiting"])]))
gf.add_job(Job("program", tasks=[Task("program", Command("sleep", ["3600"]))]))
"""


def main(report: Report, executions: int = 1000, programs: int = 50, repeat: int = 3) -> None:
    """`executions` wait in the server when it is killed; `programs` run processes."""
    report.title("recovery: from the start after a kill -9 until all is settled")
    shapes = {
        "1 execution that ran a program": {"program": 1},
        f"{programs} that ran programs": {"program": programs},
        f"{executions:,} that waited in the server": {"inside": executions},
    }
    for what, submits in shapes.items():
        runs = [_settle(submits) for _ in range(repeat)]
        answered, settled = zip(*runs, strict=True)
        report.row(what, median(settled), "s", at_most(5))
        report.row("  the longest", max(settled), "s", at_most(5))
        report.row("  start to first 200, median", median(answered), "s")


def _settle(submits: dict[str, int]) -> tuple[float, float]:
    """Seconds from the start to the first response, and to the end of the recovery."""
    with new_folder() as folder:
        text = MAIN.format(running=sum(submits.values()))
        with goflow(folder, text) as server, Client(server.port) as client:
            for job, number in submits.items():
                for _ in range(number):
                    client.submit(job)
            _wait_until_running(client, sum(submits.values()))
            server.kill()
        return _restart(folder, text)


def _restart(folder: Path, text: str) -> tuple[float, float]:
    begin = time.perf_counter()
    with goflow(folder, text) as server, Client(server.port) as client:
        client.wait_until_idle()
        settled = time.perf_counter() - begin
        states = {execution["state"] for execution in client.executions()}
        if states != {"failed"}:
            raise RuntimeError(f"interrupted executions are {states}")
        return server.seconds_to_answer, settled


def _wait_until_running(client: Client, executions: int) -> None:
    """Wait until each execution runs the task that the benchmark interrupts."""
    deadline = time.monotonic() + PATIENCE
    while True:
        running = sum(
            any(task["state"] == "running" and task["name"] != "before" for task in one["tasks"])
            for one in client.executions()
        )
        if running == executions:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"{running} of {executions} executions run")
        time.sleep(0.05)


if __name__ == "__main__":
    main(Report())
