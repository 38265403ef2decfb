"""What does a stream cost: a generator, and two tasks that work on its items while it yields?"""

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

def streaming(name, number):
    job = Job(name)

    @job.task(name="source")
    def source():
        yield from range(number)

    @job.task(map_over="source")
    async def first(source): return None

    @job.task(map_over="first")
    async def second(first): return None

    return job

class NoOp:
    async def run(self): pass

gf = Goflow()
gf.add_job(Job("plain", tasks=[Task(f"t{{place}}", NoOp()) for place in range({items})]))
gf.add_job(streaming("few", {items}))
gf.add_job(streaming("many", {many}))
"""


def main(report: Report, items: int = 10_000, many: int = 100_000, repeat: int = 3) -> None:
    report.title("streams: items per second, each through two tasks; memory above idle")
    with (
        new_folder() as folder,
        goflow(folder, MAIN.format(items=items, many=many)) as server,
        Client(server.port) as client,
    ):
        plain = [items / seconds_of(client, "plain") for _ in range(repeat)]
    with (
        new_folder() as folder,
        goflow(folder, MAIN.format(items=items, many=many)) as server,
        Client(server.port) as client,
    ):
        idle = server.memory()
        few, rate = _measure(server, client, "few", items)
        rates = [rate, *(_measure(server, client, "few", items)[1] for _ in range(repeat - 1))]
        most, large = _measure(server, client, "many", many)
    report.row(f"{items:,} plain tasks", median(plain), "/s")
    report.row(f"{items:,} items", median(rates), "/s")
    report.row(
        "  attempts, to plain tasks", 2 * median(rates) / median(plain), "times", at_least(0.4)
    )
    report.row(f"{many:,} items", large, "/s")
    report.row(f"{items:,} items: memory above idle", few - idle, "MB")
    report.row(f"{many:,} items: memory above idle", most - idle, "MB", at_most(150))


def _measure(server: Server, client: Client, job: str, items: int) -> tuple[float, float]:
    """The largest memory while a job runs, in MB, and its items per second."""
    largest = server.memory()
    with Listener(server.port, f"?jobname={job}") as listener:
        id = client.submit(job)
        while not client.json(f"/api/executions/{id}")["finished"]:
            largest = max(largest, server.memory())
        return largest, items / took(listener.wait_until_finished(id).execution)


if __name__ == "__main__":
    main(Report())
