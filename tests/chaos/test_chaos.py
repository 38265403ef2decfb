"""Jobs misbehave in many ways, and good jobs are not affected.

To run it for ten minutes: `pytest tests/chaos --chaos-seconds 600`.
"""

import contextlib
import itertools
import json
import re
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import misbehaving
from tests.chaos.hostile import places
from tests.crash.test_kill import Server, executions, until

SCRIPT = Path(__file__).with_name("server.py")
PACE = 0.25  # seconds between two submits of bad jobs
IDLE = 200  # idle connections
ENDING = 120  # seconds for the last bad jobs to end, on a busy machine
LOOKED_AT = 3  # executions of each bad job whose reasons are checked
LANES = [job.name for job in misbehaving.lanes()]


class Chaos(Server):
    """A server with all these jobs. Its output is not read until it stops."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, SCRIPT)
        ports = json.loads((folder / "places.json").read_text())
        self.bad = {
            bad.job.name: bad for bad in misbehaving.bad_jobs(misbehaving.Places(folder, **ports))
        }

    def misbehave(self, seconds: float) -> None:
        """Run the bad jobs in turn for `seconds`, each at least once, and wait for their ends."""
        self.begin = datetime.fromisoformat(self.get("/api/now")["at"])
        with self._idle_connections():
            self._drive(seconds)
        self.end = datetime.fromisoformat(self.get("/api/now")["at"])
        until(lambda: not self.unfinished(), ENDING)

    @contextlib.contextmanager
    def _idle_connections(self) -> Iterator[None]:
        url = self.client.base_url
        with contextlib.ExitStack() as stack:
            for _ in range(IDLE):
                stack.enter_context(socket.create_connection((url.host, url.port), timeout=60))
            yield

    def _drive(self, seconds: float) -> None:
        stop = time.monotonic() + seconds
        names = [*self.bad, *LANES]
        for number, name in enumerate(itertools.cycle(names)):
            if number >= len(names) and time.monotonic() > stop:
                return
            id = self.submit(name)
            if name in LANES:
                self.client.post(f"/api/executions/{id}/cancel").raise_for_status()
            time.sleep(PACE)  # the pace of the submits, which waits for nothing

    def of(self, job: str) -> list[dict[str, Any]]:
        return executions(self, jobname=job)

    def told(self, id: str) -> str:
        """The errors, results and logs of an execution."""
        detail = self.get(f"/api/executions/{id}")
        said = [json.dumps(detail["tasks"], ensure_ascii=False)]
        for task in detail["tasks"]:
            said += [attempt.get("error") or "" for attempt in task["attempts"]]
            path = f"/api/executions/{id}/tasks/{task['name']}/logs"
            said.append(self.client.get(path, params={"tail": 1000}).text)
        return "\n".join(said)

    def ledger(self, job: str) -> list[dict[str, Any]]:
        """The outcomes of due times during the chaos."""
        found: list[dict[str, Any]] = []
        cursor = {}
        while True:
            page = self.client.get(f"/api/jobs/{job}/ticks", params={"limit": "1000"} | cursor)
            answer = page.raise_for_status().json()
            found += answer["ticks"]
            if answer["next"] is None:
                break
            cursor = {"cursor": answer["next"]}
        during = (self.begin + timedelta(seconds=1), self.end - timedelta(seconds=5))
        return [
            tick for tick in found if during[0] <= datetime.fromisoformat(tick["due"]) <= during[1]
        ]

    def unfinished(self) -> int:
        """The number of unfinished executions of bad jobs."""
        states = ("running", "notstarted", "upforretry")
        found = [one["job"] for state in states for one in executions(self, state=state)]
        return sum(job in self.bad or job in LANES for job in found)


@pytest.fixture(scope="module")
def chaos(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Chaos]:
    folder = tmp_path_factory.mktemp("chaos")
    with places() as ports:
        (folder / "places.json").write_text(json.dumps(ports))
        server = Chaos(folder)
        try:
            server.misbehave(request.config.getoption("--chaos-seconds"))
            yield server
        finally:
            server.kill()


@pytest.mark.parametrize("job", [job.name for job in misbehaving.good_jobs()])
def test_a_good_job_runs_at_every_second(chaos: Chaos, job: str) -> None:
    ledger = chaos.ledger(job)
    assert [tick for tick in ledger if tick["outcome"] != "fired"] == []
    dues = sorted(datetime.fromisoformat(tick["due"]) for tick in ledger)
    assert len(dues) > 1
    assert dues == [dues[0] + timedelta(seconds=n) for n in range(len(dues))]
    fired = {tick["execution"] for tick in ledger}
    states = {one["id"]: one["state"] for one in chaos.of(job)}
    assert Counter(states[id] for id in fired) == {"successful": len(dues)}


def test_every_bad_job_ends_as_expected_with_its_reason(chaos: Chaos) -> None:
    wrong = {}
    for name, (_, state, reason) in chaos.bad.items():
        ended = chaos.of(name)
        assert ended, name
        states = {one["state"] for one in ended}
        told = [chaos.told(one["id"]) for one in ended[:LOOKED_AT]]
        if states != {state} or not all(re.search(reason, one) for one in told):
            wrong[name] = (states, told[0][-2000:])
    assert not wrong, "\n".join(f"{name}: {said}" for name, said in wrong.items())


def test_a_tick_without_an_execution_has_a_reason(chaos: Chaos) -> None:
    for job, reason in misbehaving.unruly_by_schedule():
        ledger = chaos.ledger(job.name)
        assert len(ledger) > 1
        assert all(reason in tick["reason"] for tick in ledger), ledger


def test_cancelled_executions_of_jobs_with_limits_end(chaos: Chaos) -> None:
    assert {one["state"] for name in LANES for one in chaos.of(name)} <= {"cancelled", "successful"}
    pools = {pool["name"]: pool for pool in chaos.get("/api/now")["pools"]}
    assert pools["narrow"]["running"] == 0
    assert chaos.submit(LANES[0])
    until(lambda: chaos.of(LANES[0])[0]["state"] == "successful", ENDING)


def test_the_server_is_healthy_and_reports_hanging_tasks(chaos: Chaos) -> None:
    health = chaos.get("/api/health")
    assert health["health"] == "OK"
    assert any("hang" in notice["text"] for notice in health["notices"]), health


def test_it_stops_cleanly(chaos: Chaos) -> None:
    assert chaos.stop(signal.SIGTERM) == 0
    assert "defect" not in chaos.said
    assert "Traceback" not in chaos.said
