"""How long does it take from a submit to its response, to its first task, and to the stream?

`bare` is a web server without goflow that responds after a durable commit of one row.
"""

import time
from datetime import datetime

from benchmarks.harness import (
    Client,
    Listener,
    Report,
    at_most,
    bare,
    goflow,
    median,
    milliseconds,
    new_folder,
    quantile,
)

MAIN = """\
import time
from goflow import Goflow, Job, Task

class Now:
    async def run(self):
        return time.time()

gf = Goflow()
gf.add_job(Job("now", tasks=[Task("first", Now()), Task("second", Now(), after=["first"])]))
"""


def main(report: Report, submits: int = 300) -> None:
    report.title("latency: ms, one submit after the other")
    with (
        new_folder() as folder,
        bare(folder) as limit,
        goflow(folder, MAIN) as server,
        Client(server.port) as client,
    ):
        ids, commit = _measure_submits(report, limit.port, client, submits)
        _measure_first_task(report, client, ids)
        _measure_stream(report, client, server.port, submits, commit)


def _measure_submits(
    report: Report, bare_port: int, client: Client, submits: int
) -> tuple[list[str], float]:
    """The ids, and the median of the bare commits."""
    ids: list[str] = []
    answered: list[float] = []
    committed: list[float] = []
    with Client(bare_port) as plain:
        for _ in range(submits):  # alternately, so that both run under the same conditions
            committed += milliseconds(lambda: plain.ask("POST", "/commit"), 1)
            answered += milliseconds(lambda: ids.append(client.submit("now")), 1)
            client.wait_until_idle()
    commit = median(committed)
    report.row("submit answered and committed, median", median(answered), "ms", at_most(2), commit)
    for share in (0.1, 0.99):
        report.row(
            f"  {share * 100:.0f} of 100 within",
            quantile(answered, share),
            "ms",
            bare=quantile(committed, share),
        )
    return ids, commit


def _measure_first_task(report: Report, client: Client, ids: list[str]) -> None:
    started, ran = [], []
    for id in ids:
        execution = client.json(f"/api/executions/{id}")
        first = execution["tasks"][0]
        begin = _unix(execution["submitted"])
        started.append(1000 * (_unix(first["attempts"][0]["started"]) - begin))
        ran.append(1000 * (first["result"] - begin))
    report.row("submitted to first task started, median", median(started), "ms", at_most(3))
    report.row("submitted to the first line of its operator, median", median(ran), "ms", at_most(3))


def _measure_stream(report: Report, client: Client, port: int, submits: int, commit: float) -> None:
    with Listener(port) as listener:
        # Skip the snapshot, which ends where the first change begins.
        begin = time.time()
        for _ in range(submits):
            listener.wait_until_finished(client.submit("now"))
        events = listener.wait_for(bool)
    delays = [
        1000 * (event.arrived - _unix(event.execution["modifiedTimestamp"]))
        for event in events
        if _unix(event.execution["modifiedTimestamp"]) >= begin
    ]
    what = "change, its commit included, to event, median"
    report.row(what, median(delays), "ms", at_most(10), commit)
    report.row("  99 of 100 within", quantile(delays, 0.99), "ms")


def _unix(instant: str) -> float:
    return datetime.fromisoformat(instant).timestamp()


if __name__ == "__main__":
    main(Report())
