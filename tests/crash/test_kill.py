"""Real servers, really killed: acknowledged changes are kept, and nothing runs twice.

A longer run of about five minutes: `pytest tests/crash/test_kill.py --kill-rounds 200`.
"""

import itertools
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from goflow.core.events import TaskSucceeded
from goflow.engine.hints import HALF, Hint, parse
from goflow.stores.sqlite import SqliteStore

SERVER = Path(__file__).with_name("server.py")
CLIENTS = 16
SETTLED = 5  # seconds from a restart until recovery is done


class Server:
    """A server process on a store, with a client for it."""

    def __init__(self, folder: Path, script: Path = SERVER) -> None:
        self.effects = folder / "effects.txt"
        self.effects.touch()
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(folder / "store.db"), "0", str(self.effects)],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        self.said = ""  # its output before it served, and all of it after a stop
        for line in self.process.stderr:
            self.said += line
            if found := re.match("goflow serves (http:.*)", line):
                break
        else:
            self.process.stderr.close()
            self.process.wait(60)
            raise AssertionError(self.said)
        self.client = httpx2.Client(base_url=found[1], timeout=60)

    def get(self, path: str) -> Any:
        return self.client.get(path).raise_for_status().json()

    def submit(self, job: str) -> str:
        id: str = self.client.post(f"/api/jobs/{job}/submit").raise_for_status().json()["id"]
        return id

    def kill(self) -> None:
        self.process.kill()
        self.close()

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process.stderr is not None
        self.process.send_signal(number)
        code = self.process.wait(60)
        self.said += self.process.stderr.read()
        self.close()
        return code

    def close(self) -> None:
        self.process.wait(60)
        assert self.process.stderr is not None
        self.process.stderr.close()
        self.client.close()


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not within the deadline"
        time.sleep(0.01)


def executions(server: Server, **query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        more = {} if cursor is None else {"cursor": cursor}
        answer = server.client.get("/api/executions", params={"limit": "1000"} | query | more)
        page = answer.raise_for_status().json()
        found += page["executions"]
        cursor = page["next"]
        if cursor is None:
            return found


class Client(threading.Thread):
    """Submits continuously, and repeats each key until a server acknowledges it."""

    def __init__(self, number: int, base_url: httpx2.URL, unanswered: list[str]) -> None:
        super().__init__()
        self._keys = (f"{number}-{base_url.port}-{n}" for n in itertools.count())
        self._base_url = base_url
        self.unanswered = unanswered
        self.acknowledged: dict[str, str] = {}

    def run(self) -> None:
        with httpx2.Client(base_url=self._base_url, timeout=60) as client:
            while True:
                key = self.unanswered[0] if self.unanswered else next(self._keys)
                self.unanswered = [key]
                try:
                    answer = client.post("/api/jobs/chain/submit", headers={"Idempotency-Key": key})
                except httpx2.HTTPError:
                    return  # the server was killed; the next round repeats the request
                assert answer.status_code == 200, answer.text
                self.acknowledged[key] = answer.json()["id"]
                self.unanswered = []


Attempt = tuple[str, str, int]  # execution, task, number


def hints_in(folder: Path) -> list[Hint]:
    """The killed server's hints, committed or not."""
    data = (folder / "store.db.ends").read_bytes()
    return parse(data[:HALF], data.index(b"\n") + 1)[0] + parse(data, HALF)[0]


def committed(folder: Path, executions: Iterable[str]) -> list[tuple[str, TaskSucceeded]]:
    """The successes in these executions that the killed server has committed, by a copy of its
    store."""
    with tempfile.TemporaryDirectory() as place:
        for suffix in ("", "-wal"):
            shutil.copy(folder / f"store.db{suffix}", place)
        store = SqliteStore(Path(place) / "store.db")
        store.open()
        try:
            return [
                (id, fact)
                for id in executions
                if (history := store.history(id)) is not None
                for fact in history.facts
                if isinstance(fact, TaskSucceeded)
            ]
        finally:
            store.close()


def hints_left(folder: Path) -> set[Attempt]:
    """The attempts in the killed server's hints, committed or not."""
    return {(one.execution, one.task, one.attempt) for one in hints_in(folder)}


def uncommitted(folder: Path, attempts: set[Attempt]) -> set[Attempt]:
    """Those whose ends the killed server has not committed."""
    found = committed(folder, {id for id, _, _ in attempts})
    return attempts - {(id, fact.task, fact.attempt) for id, fact in found}


def test_acknowledged_submits_end_once_and_finished_tasks_do_not_run_again(
    tmp_path: Path, kill_rounds: int
) -> None:
    rng = random.Random(11)
    acknowledged: dict[str, str] = {}
    unanswered: list[list[str]] = [[] for _ in range(CLIENTS)]
    hinted: set[Attempt] = set()
    in_between: set[Attempt] = set()  # hinted and not committed
    for _ in range(kill_rounds):
        server = Server(tmp_path)
        clients = [Client(n, server.client.base_url, unanswered[n]) for n in range(CLIENTS)]
        for client in clients:
            client.start()
        until(lambda clients=clients: any(client.acknowledged for client in clients))
        time.sleep(rng.uniform(0, 0.4))  # not a wait: a random moment for the kill
        server.kill()
        left = hints_left(tmp_path)
        hinted |= left
        in_between |= uncommitted(tmp_path, left)
        for client in clients:
            client.join()
            for key, id in client.acknowledged.items():
                assert acknowledged.setdefault(key, id) == id, "a key created two executions"
        unanswered = [client.unanswered for client in clients]

    server = Server(tmp_path)
    server.client.post("/api/jobs/chain/toggle", json={"active": False}).raise_for_status()
    for key in (key for keys in unanswered for key in keys):
        answer = server.client.post(
            "/api/jobs/chain/submit", headers={"Idempotency-Key": key}
        ).raise_for_status()
        acknowledged[key] = answer.json()["id"]
    for state in ("running", "notstarted", "running"):
        until(lambda state=state: not executions(server, state=state), 120)
    found = {execution["id"]: execution for execution in executions(server)}
    assert len(acknowledged) > kill_rounds
    assert len(set(acknowledged.values())) == len(acknowledged)
    assert {id for id, e in found.items() if e["cause"] == "api"} == set(acknowledged.values())
    assert {execution["state"] for execution in found.values()} == {"successful"}

    said = [line.split() for line in server.effects.read_text().splitlines()]
    begun = Counter((id, task, attempt) for what, id, task, attempt in said if what == "begin")
    assert set(begun.values()) == {1}, "an attempt ran twice"
    order: dict[tuple[str, str], list[tuple[str, int]]] = {}
    for what, id, task, attempt in said:
        order.setdefault((id, task), []).append((what, int(attempt)))
    interrupted = 0
    for id in found:
        for task in server.get(f"/api/executions/{id}")["tasks"]:
            *before, last = task["attempts"]
            # The attempt recorded as successful is the last that began, and it ended.
            assert last["state"] == "successful"
            assert order[id, task["name"]][-1] == ("end", last["attempt"])
            assert all("interrupted" in attempt["error"] for attempt in before)
            interrupted += len(before)
    assert interrupted >= kill_rounds // 2, "hardly a kill came while a task ran"
    assert in_between, "no kill came between the end of an attempt and its commit"
    print(f"{len(in_between)} attempts had ended but were not committed in {kill_rounds} kills")
    again = {(id, task, n) for id, task, n in hinted if order[id, task][-1] != ("end", n)}
    assert not again, "a task ran again though its end was hinted"
    for id, task, number in hinted:
        log = server.client.get(f"/api/executions/{id}/tasks/{task}/logs?attempt={number}")
        words = f"the last words of {task}\nof attempt {number}\n"
        assert log.raise_for_status().text == words, "last lines are lost, or there twice"

    ticks = server.get("/api/jobs/chain/ticks?limit=1000")["ticks"]
    fired = {tick["due"]: tick["execution"] for tick in ticks if tick["outcome"] == "fired"}
    assert fired
    assert sorted(fired.values()) == sorted(
        id for id, e in found.items() if e["cause"] == "schedule"
    ), "a tick fired twice, or is not in the ledger"
    assert _accounted(ticks), "a due time is not in the ledger, or twice"
    assert server.stop() == 0


def _accounted(ticks: list[dict[str, Any]]) -> bool:
    """Whether the ledger of a job due every second has each second exactly once."""
    seconds: list[float] = []
    for tick in ticks:
        due = datetime.fromisoformat(tick["due"]).timestamp()
        seconds += [due + n for n in range(tick["count"])]
    return sorted(seconds) == [min(seconds) + n for n in range(len(seconds))]


def test_tasks_running_at_a_kill_fail_visibly_without_retries(tmp_path: Path) -> None:
    server = Server(tmp_path)
    ids = [server.submit("long") for _ in range(30)]
    until(lambda: all(id in server.effects.read_text() for id in ids))
    server.kill()
    server = Server(tmp_path)
    until(lambda: len(executions(server, jobname="long", state="failed")) == len(ids), SETTLED)
    for id in ids:
        (task,) = server.get(f"/api/executions/{id}")["tasks"]
        assert "interrupted" in task["error"]
        assert server.effects.read_text().count(id) == 1
    assert server.stop() == 0


def test_schedules_stay_on_or_off(tmp_path: Path) -> None:
    server = Server(tmp_path)
    for job, active in (("chain", False), ("fragile", True)):
        answer = server.client.post(f"/api/jobs/{job}/toggle", json={"active": active})
        assert answer.json()["active"] is active
    server.kill()
    server = Server(tmp_path)
    assert server.get("/api/jobs/chain")["active"] is False
    assert server.get("/api/jobs/fragile")["active"] is True
    assert server.stop() == 0


def test_a_second_server_on_the_same_file_refuses_clearly(tmp_path: Path) -> None:
    server = Server(tmp_path)
    second = subprocess.run(
        [sys.executable, str(SERVER), str(tmp_path / "store.db"), "0", str(server.effects)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 1
    assert "in use" in second.stderr
    assert "Traceback" not in second.stderr
    assert server.get("/api/health")["health"] == "OK"
    assert server.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_cleanly_with_fifty_open_streams(tmp_path: Path, number: int) -> None:
    server = Server(tmp_path)
    port = server.client.base_url.port
    assert port is not None
    streams = [socket.create_connection(("127.0.0.1", port)) for _ in range(50)]
    for stream in streams:
        stream.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
    for stream in streams:
        assert stream.recv(100).startswith(b"HTTP/1.1 200")
    assert server.stop(number) == 0
    # After some seconds uvicorn would cut off the streams, with a message.
    assert "exceeded" not in server.said
    for stream in streams:
        stream.close()


def quiet(server: Server) -> None:
    """Wait until nothing runs and nothing is written."""
    server.client.post("/api/jobs/chain/toggle", json={"active": False}).raise_for_status()
    until(lambda: server.get("/api/health")["unfinished"] == 0)
    server.effects.write_text("")


@pytest.mark.parametrize(
    ("job", "names", "kill_at"),
    [("mapped", ["each"], (8, 18, 28)), ("chained", ["first", "second"], (8, 30, 60))],
)
def test_items_of_mapped_tasks_that_had_ended_at_a_kill_do_not_run_again(
    tmp_path: Path, job: str, names: list[str], kill_at: tuple[int, ...]
) -> None:
    server = Server(tmp_path)
    quiet(server)
    id = server.submit(job)
    effects = server.effects
    kills: list[tuple[int, set[str]]] = []  # lines of effects, and items that had ended
    at_once = 5 * len(names)
    for least in kill_at:  # of the 40 items of each
        until(lambda least=least: effects.read_text().count("end ") >= least)
        server.kill()
        ended = items_ended(tmp_path, id)
        assert len(ended) >= least - at_once, "ends of items are lost"
        kills.append((len(effects.read_text().splitlines()), ended))
        server = Server(tmp_path)
    until(lambda: server.get(f"/api/executions/{id}")["state"] not in ("running", "notstarted"))

    execution = server.get(f"/api/executions/{id}")
    assert execution["state"] == "successful"
    for task in execution["tasks"]:
        if task["name"] in names:
            assert task["items"] == {"total": 40, "successful": 40}
            assert task["result"] == list(range(40))
    said = [tuple(line.split()) for line in effects.read_text().splitlines()]
    assert max(Counter(said).values()) == 1, "an attempt of an item ran twice"
    for begun, ended in kills:
        since = {task for what, _, task, _ in said[begun:] if what == "begin"}
        assert not since & ended, "an item ran again though its end was committed or hinted"
    again = [line for line in said if line[0] == "begin" and line[3] != "1"]
    assert len(again) <= at_once * len(kills), "more items ran again than a kill can interrupt"
    order = [task for what, _, task, _ in said if what == "begin"]
    for before, after in itertools.pairwise(names):
        last = max(place for place, task in enumerate(order) if task.startswith(f"{before}/"))
        assert any(task.startswith(f"{after}/") for task in order[:last]), "there was a barrier"
        for number in range(40):
            end = said.index(next(one for one in said if one[0] == "end" and
                                  one[2] == f"{before}/{number}"))  # fmt: skip
            begin = next(one for one in said if one[2] == f"{after}/{number}")
            assert said.index(begin) > end, "an item began before the one it is made of had ended"
    assert server.stop() == 0


def items_ended(folder: Path, id: str) -> set[str]:
    """The items whose ends the killed server has committed or hinted."""
    found = committed(folder, [id])
    assert found
    hinted = {f"{one.task}/{one.item}" for one in hints_in(folder) if one.execution == id}
    return hinted | {f"{fact.task}/{fact.item}" for _, fact in found}


def test_an_object_and_a_file_are_there_again_after_a_kill(tmp_path: Path) -> None:
    server = Server(tmp_path)
    quiet(server)
    id = server.submit("objects")
    until(lambda: f"begin {id} pause" in server.effects.read_text())
    server.kill()
    server = Server(tmp_path)
    url = f"/api/executions/{id}"
    until(lambda: server.get(url)["state"] not in ("running", "notstarted"))
    tasks = {task["name"]: task for task in server.get(url)["tasks"]}
    assert tasks["check"]["result"] is True, tasks["check"]["error"]
    assert len(tasks["make"]["attempts"]) == 1
    listed = server.get(f"{url}/tasks/make/artifacts")["artifacts"]
    assert [one["name"] for one in listed] == ["made.txt", "result.pickle"]
    made = server.client.get(f"{url}/tasks/make/artifacts/made.txt")
    assert made.text == id
    assert server.stop() == 0


def start_program(server: Server) -> tuple[str, int]:
    """The execution's id, and the pid of its program."""
    id = server.submit("program")
    until(lambda: server.effects.read_text().endswith("\n"))
    word, pid = server.effects.read_text().split()
    assert word == "pid"
    return id, int(pid)


def test_a_second_signal_ends_it_and_its_programs_at_once(tmp_path: Path) -> None:
    server = Server(tmp_path)
    quiet(server)
    id, pid = start_program(server)
    server.process.send_signal(signal.SIGTERM)
    until(lambda: not _accepts(server))
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 128 + signal.SIGTERM
    until(lambda: not _alive(pid))
    server.close()
    server = Server(tmp_path)
    until(lambda: server.get(f"/api/executions/{id}")["state"] == "failed")
    assert server.stop() == 0


def test_a_stop_kills_programs_that_ignore_it_and_records_that(tmp_path: Path) -> None:
    server = Server(tmp_path)
    quiet(server)
    id, pid = start_program(server)
    assert server.stop() == 0
    assert not _alive(pid)
    server = Server(tmp_path)
    execution = server.get(f"/api/executions/{id}")
    assert execution["state"] == "failed"
    assert "interrupted" in execution["tasks"][0]["error"]
    assert server.stop() == 0


def _alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _accepts(server: Server) -> bool:
    try:
        server.client.get("/api/health")
    except httpx2.HTTPError:
        return False
    return True
