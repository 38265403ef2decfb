"""What do the items of mapped tasks cost, compared to plain tasks?"""

import json

from benchmarks.harness import (
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
from benchmarks.throughput import seconds_of, took

MAIN = """\
from goflow import Goflow, Job, Task

class NoOp:
    async def run(self): pass

class Numbers:
    def __init__(self, number): self.number = number
    async def run(self): return [*range(self.number)]

def mapped(name, number, times):
    job = Job(name, tasks=[Task("t0", Numbers(number))])
    for place in range(times):
        job.add(Task(f"t{{place + 1}}", NoOp(), map_over=f"t{{place}}"))
    return job

gf = Goflow()
gf.add_job(Job("plain", tasks=[Task(f"t{{place}}", NoOp()) for place in range({items})]))
gf.add_job(mapped("items", {items}, 1))
gf.add_job(mapped("twice", {items}, 2))
gf.add_job(mapped("many", {many}, 1))
"""


def main(report: Report, items: int = 10_000, many: int = 100_000, repeat: int = 3) -> None:
    report.title("mapped tasks: per second between an execution's `started` and `finished`")
    with (
        new_folder() as folder,
        goflow(folder, MAIN.format(items=items, many=many)) as server,
        Client(server.port) as client,
    ):
        plain, mapped, twice = [], [], []
        for _ in range(repeat):
            plain.append(items / seconds_of(client, "plain"))
            mapped.append(items / seconds_of(client, "items"))
            twice.append(2 * items / seconds_of(client, "twice"))
        report.row(f"{items:,} plain tasks", median(plain), "/s")
        report.row(f"{items:,} items", median(mapped), "/s")
        report.row("  to plain tasks", median(mapped) / median(plain), "times", at_least(0.5))
        report.row("  through two mapped tasks", median(twice), "/s")
        _measure_many(report, server, client, many)


def _measure_many(report: Report, server: Server, client: Client, many: int) -> None:
    before = server.memory()
    with Listener(server.port, "?jobname=many") as listener:
        id = client.submit("many")
        largest = before
        while True:
            largest = max(largest, server.memory())
            if client.json(f"/api/executions/{id}")["finished"]:
                break
        took(listener.wait_until_finished(id).execution)  # it must have succeeded
        events = listener.wait_for(lambda events: bool(events))
    report.row(f"{many:,} items: memory above idle", largest - before, "MB", at_most(200))
    size = max(len(json.dumps(event.execution)) for event in events)
    report.row("  the largest event of the stream", size / 1024, "KiB", at_most(4))


if __name__ == "__main__":
    main(Report())
