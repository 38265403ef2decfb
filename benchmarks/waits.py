"""What do waiting tasks cost: between their looks, and while they look?

The sensors are items of one mapped task, or tasks of executions of their own.
"""

import time
from collections.abc import Callable

from benchmarks.harness import PATIENCE, Client, Report, Server, at_most, goflow, new_folder

MAIN = """\
from goflow import Goflow, Job, Task, WaitFor

async def no():
    return False

def job(name, every):
    made = Job(name)

    @made.task
    def list():
        return [*range({sensors})]

    made.add(Task("wait", WaitFor(no, every=every), map_over="list"))
    return made

gf = Goflow(max_unfinished={executions} + 100)
gf.add_job(job("rare", 3600))
gf.add_job(job("often", {every}))
gf.add_job(Job("single", tasks=[Task("wait", WaitFor(no, every=3600))]))
"""


def main(
    report: Report,
    sensors: int = 10_000,
    executions: int = 1_000,
    every: float = 30.0,
    seconds: float = 20.0,
) -> None:
    report.title("waiting tasks: processor of one core")
    text = MAIN.format(sensors=sensors, executions=executions, every=every)
    with new_folder() as folder, goflow(folder, text) as server, Client(server.port) as client:
        report.row("no task waits", server.idle_share(seconds), "%")
        before, begun = server.memory(), time.perf_counter()
        id = _sensors(client, "rare", sensors)
        report.row(f"{sensors:,} sensors wait after", time.perf_counter() - begun, "s")
        report.row("  memory of each", (server.memory() - before) * 1024**2 / sensors, "bytes")
        report.row("  between looks", server.idle_share(seconds), "%", at_most(2))
        begun = time.perf_counter()
        client.ask("POST", f"/api/executions/{id}/cancel")
        client.wait_until_idle()
        report.row("  all are cancelled after", time.perf_counter() - begun, "s")
        for _ in range(executions):
            client.submit("single")
        _until(lambda: _waiting(client, executions))
        what = f"{executions:,} executions wait: between looks"
        report.row(what, server.idle_share(seconds), "%", at_most(2))
        _sensors(client, "often", sensors)
        time.sleep(every)  # the last first looks are over
        # In one period each sensor looks once, however their looks are spread over it.
        share = _share(server, every)
        report.row(f"{sensors:,} sensors look every {every:g} s", share, "%", at_most(2))
        report.row("  each look", share / 100 * every / sensors * 1e6, "µs")


def _sensors(client: Client, job: str, sensors: int) -> str:
    """Submit a job; returns its execution when all its sensors wait."""
    id = client.submit(job)

    def all_wait() -> bool:
        tasks = client.json(f"/api/executions/{id}")["tasks"]
        (items,) = [task["items"] for task in tasks if "items" in task]
        return items.get("running") == sensors and _slots(client) == 0

    _until(all_wait)
    return id


def _waiting(client: Client, executions: int) -> bool:
    """Whether so many executions run, without a slot."""
    unfinished: int = client.json("/api/now?limit=1")["unfinished"]
    return unfinished == executions and _slots(client) == 0


def _slots(client: Client) -> int:
    """The slots in use or waited for."""
    every = client.json("/api/now?limit=1")["pools"][0]
    used: int = every["running"] + every["waiting"]
    return used


def _until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not met():
        if time.monotonic() > deadline:
            raise RuntimeError("the sensors do not come to wait")
        time.sleep(0.1)


def _share(server: Server, seconds: float) -> float:
    """Percent of one core used, though never idle."""
    before, begun = server.cpu(), time.perf_counter()
    time.sleep(seconds)
    return (server.cpu() - before) / (time.perf_counter() - begun) * 100


if __name__ == "__main__":
    main(Report())
