"""Does memory stay flat under load?

A steady mix of everything that uses memory: schedules that fire each second, submits, logs,
results, failures, retries, programs, and an open stream. The history is short, so that purges
are part of the load. The first third is for warming up.
"""

import argparse
import time

from benchmarks.harness import (
    Client,
    Listener,
    Report,
    Server,
    at_most,
    goflow,
    median,
    new_folder,
)

MAIN = """\
from goflow import Command, ConstantDelay, Goflow, Job, Task

class Talking:
    def run(self, context):
        for number in range(100):
            context.log(f"line {number} of attempt {context.attempt}")
        return "x" * 1000

class Failing:
    async def run(self, context):
        if context.attempt < 3:
            raise ValueError(f"attempt {context.attempt} fails")

class Broken:
    async def run(self):
        raise ValueError("it fails for good")

gf = Goflow(with_seconds=True, keep_executions=1000)
for n in range(10):
    job = Job(f"job-{n}", schedule="* * * * * *", active=True)
    job.add(Task("talking", Talking()))
    job.add(Task("failing", Failing(), retries=3, retry_delay=ConstantDelay(0.1)))
    job.add(Task("last", Talking(), after=["talking", "failing"]))
    gf.add_job(job)
gf.add_job(Job("program", tasks=[Task("program", Command("echo", ["hello"]))]))
gf.add_job(Job("broken", tasks=[Task("broken", Broken())]))
"""
SAMPLE = 0.5  # seconds


def main(report: Report, seconds: float = 60.0) -> None:
    """Measure for `seconds` under load."""
    report.title(f"soak: memory under load, {seconds:g} s")
    with (
        new_folder() as folder,
        goflow(folder, MAIN) as server,
        Client(server.port) as client,
        Listener(server.port) as listener,
    ):
        begun = time.monotonic()
        _load(server, client, listener, seconds / 3)
        warm = _load(server, client, listener, seconds / 3)
        last = _load(server, client, listener, seconds / 3)
        took = time.monotonic() - begun
        number = client.json("/api/health")["unfinished"]
    report.row("events on the stream", listener.heard / took, "/s")
    report.row("memory after a third of the time", median(warm[: len(warm) // 4 + 1]), "MiB")
    report.row("memory, median of the second third", median(warm), "MiB")
    report.row("memory, median of the last third", median(last), "MiB")
    report.row("the most", max(warm + last), "MiB")
    growth = (median(last) / median(warm) - 1) * 100
    report.row("the last third above the second", growth, "%", at_most(5))
    report.row("executions unfinished at the end", number)


def _load(server: Server, client: Client, listener: Listener, seconds: float) -> list[float]:
    """Submit, and sample the memory in MiB, about ten times a second."""
    memory: list[float] = []
    end = time.monotonic() + seconds
    while not memory or time.monotonic() < end:
        for _ in range(5):
            id = client.submit("program")
            client.submit("broken")
            client.get(f"/api/executions/{id}")
            client.get("/api/executions")
            time.sleep(SAMPLE / 5)
        memory.append(server.memory())
        listener.forget()
    return memory


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=60.0, help="under load; 3600")
    main(Report(), options.parse_args().seconds)
