"""Requests while a hundred tasks print as fast as possible."""

import logging
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from goflow import Command, Context, Goflow, Job, Task
from goflow.engine.metrics import memory_in_use
from tests.web.conftest import Served

TASKS = 100
PROBES = 15


@dataclass(frozen=True)
class Flood:
    """Prints until `over` is set."""

    say: Callable[[Context, int], object]
    over: threading.Event

    def run(self, context: Context) -> None:
        number = 0
        while not self.over.is_set():
            self.say(context, number)
            number += 1


@pytest.mark.parametrize(
    "say",
    [
        lambda _, number: print("line", number, "of a flood"),
        lambda _, number: print("\U0001f600" * 100, number),
        lambda _, number: print(f"\r{number} %", end=""),
        lambda _, number: print(),
        lambda _, number: logging.getLogger("flood").info("line %d", number),
        lambda context, number: context.log.info("line %d", number),
        lambda _, number: print("x" * 200_000),
        None,
    ],
    ids=["print", "emoji", "progress", "empty", "logging", "context", "long", "program"],
)
def test_the_server_answers_while_tasks_print_as_fast_as_they_can(
    say: Callable[[Context, int], object] | None, tmp_path: Path
) -> None:
    over = threading.Event()
    gf = Goflow(tmp_path / "flood.db", ui_path=None, stop_timeout=0)
    made = Command("yes", ["a line of a flood"]) if say is None else Flood(say, over)
    gf.add_job(Job("flood", tasks=[Task(f"t{number}", made) for number in range(TASKS)]))
    server = Served(gf)
    server.start()
    try:
        took, grown = probed(server)
    finally:
        over.set()
        server.stop()
    # The median, since other processes use this machine as well.
    assert statistics.median(took) < 0.5
    assert grown < 200 * 1024 * 1024


def probed(server: Served, probes: int = PROBES) -> tuple[list[float], int]:
    """The durations of requests, and the growth of memory, while the job ran."""
    took: list[float] = []
    before = most = memory_in_use()
    with httpx2.Client(base_url=server.url, timeout=120) as client:
        client.get("/api/health")
        assert client.post("/api/jobs/flood/submit").status_code == 200
        for _ in range(probes):
            begun = time.monotonic()
            assert client.get("/api/health").json()["health"] == "OK"
            took.append(time.monotonic() - begun)
            most = max(most, memory_in_use())
            threading.Event().wait(0.1)
    return took, most - before


@dataclass(frozen=True)
class Compute:
    """Computes until it is told to end."""

    over: threading.Event

    def run(self) -> None:
        while not self.over.is_set():
            pass


def test_the_server_answers_while_tasks_start_that_only_compute(tmp_path: Path) -> None:
    over = threading.Event()
    gf = Goflow(tmp_path / "flood.db", ui_path=None, stop_timeout=0)
    tasks = [Task(f"t{number}", Compute(over)) for number in range(TASKS)]
    gf.add_job(Job("flood", tasks=tasks))
    server = Served(gf)
    server.start()
    try:
        took, _ = probed(server, 6)
    finally:
        over.set()
        server.stop()
    # Started together, they delayed the first response by 18 s and later ones by 1 s. The median
    # accounts for other work on this machine.
    assert max(took[:3]) < 9 * max(1.0, statistics.median(took))
