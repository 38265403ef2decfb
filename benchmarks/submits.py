"""Are all concurrent submits kept, and how many are possible per second?

`bare` is a web server without goflow that responds after a durable commit of one row.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from benchmarks.harness import PATIENCE, Client, Report, at_least, bare, goflow, new_folder

MAIN = """\
from goflow import Goflow, Job, Task

class Nothing:
    async def run(self): pass

gf = Goflow()
gf.add_job(Job("burst", tasks=[Task("t", Nothing())]))
"""


def main(report: Report, clients: int = 8, each: int = 100) -> None:
    total = clients * each
    report.title(f"submits: {total} by {clients} clients at once")
    with new_folder() as folder:
        with bare(folder) as server:
            _, limit = burst(server.port, clients, each, lambda one: one.ask("POST", "/commit"))
        with goflow(folder, MAIN) as server, Client(server.port) as client:
            answered, took = burst(server.port, clients, each, lambda one: one.submit("burst"))
            begin = time.perf_counter()
            client.wait_until_idle()
            rest = time.perf_counter() - begin
            kept = {one["id"]: one["state"] for one in client.executions()}
    report.row("answered 200", len(answered), "", at_least(total))
    report.row("of these kept", len(set(answered) & kept.keys()), "", at_least(total))
    report.row("of these successful", sum(kept[id] == "successful" for id in answered), "",
               at_least(total))  # fmt: skip
    report.row("kept in all", len(kept))
    report.row("rate of submits", total / took, "/s", None, total / limit)
    report.row("last answer to last task done", rest * 1000, "ms")


def burst(
    port: int, clients: int, each: int, act: Callable[[Client], object]
) -> tuple[list[object], float]:
    """The results of `each` actions of every client, and the seconds it took in total."""
    together = threading.Barrier(clients + 1)

    def work() -> list[object]:
        with Client(port) as client:
            client.get("/api/health")
            together.wait(PATIENCE)
            return [act(client) for _ in range(each)]

    with ThreadPoolExecutor(clients) as threads:
        working = [threads.submit(work) for _ in range(clients)]
        together.wait(PATIENCE)
        begin = time.perf_counter()
        answered = [one for work in working for one in work.result(PATIENCE)]
        return answered, time.perf_counter() - begin


if __name__ == "__main__":
    main(Report())
