"""Tasks that fork the server's process, as multiprocessing does: the child belongs to the task,
and has no resources of the server."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.crash.strays import start_of
from tests.crash.test_kill import Server, until

SCRIPT = Path(__file__).with_name("forks_server.py")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


class Children:
    """The children reported in a file, with a word."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def told(self, word: str = "stays") -> list[tuple[int, str]]:
        lines = [line.split() for line in self._file.read_text().splitlines()]
        return [(int(pid), start) for said, pid, start in lines if said == word]

    def alive(self) -> list[int]:
        return [pid for pid, start in self.told() if start_of(pid) == start]


@pytest.fixture
def children(tmp_path: Path) -> Iterator[Children]:
    found = Children(tmp_path / "effects.txt")
    yield found
    for pid in found.alive():
        os.kill(pid, signal.SIGKILL)


class Forks:
    """The results of the tasks of a job."""

    def __init__(self, server: Server, job: str = "forks") -> None:
        self._server = server
        self._id = server.submit(job)
        ended = {"successful", "failed"}
        until(lambda: server.get(f"/api/executions/{self._id}")["state"] in ended, 120)
        self._tasks = {
            task["name"]: task for task in server.get(f"/api/executions/{self._id}")["tasks"]
        }

    def __getitem__(self, task: str) -> Any:
        assert self._tasks[task]["error"] is None
        return self._tasks[task]["result"]

    def log(self, task: str) -> list[str]:
        path = f"/api/executions/{self._id}/tasks/{task}/logs"
        return self._server.client.get(path).raise_for_status().text.splitlines()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("forks"), SCRIPT)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.kill()


@pytest.fixture(scope="module")
def forks(server: Server) -> Forks:
    server.submit("sleeper")
    return Forks(server)


@pytest.mark.parametrize("task", ["pool", "executor"])
def test_pools_work_and_print_into_the_log(forks: Forks, task: str) -> None:
    assert forks[task] == [number * number for number in range(10)]
    assert sorted(forks.log(task)) == [f"squaring {number}" for number in range(10)]


def test_a_pool_can_be_left_while_its_workers_run(forks: Forks) -> None:
    assert forks["busy_pool"] == "left"


def test_terminating_a_child_ends_only_that_child(forks: Forks, server: Server) -> None:
    assert forks["terminated_twice"] == [-signal.SIGTERM, -signal.SIGTERM]
    (sleeping,) = server.get("/api/executions?jobname=sleeper")["executions"]
    assert sleeping["state"] == "running"


@pytest.mark.parametrize("task", ["bare", "isolated"])
def test_a_child_ends_with_its_own_exit_code(forks: Forks, task: str) -> None:
    assert forks[task] == 3
    assert forks.log(task) == ["printed by the child"]


def test_an_exception_of_a_child_is_in_the_log(forks: Forks) -> None:
    assert forks["raising"] == 1
    assert forks.log("raising")[0] == "Traceback (most recent call last):"
    assert forks.log("raising")[-1] == "ValueError: of the child"
    assert "/goflow/" not in forks.log("raising")[1]


def test_a_child_that_returns_from_its_task_ends(forks: Forks) -> None:
    assert forks["returning"] == 0


def test_a_child_does_not_continue_the_event_loop(forks: Forks, server: Server) -> None:
    assert forks["awaiting"] == 1
    assert "asyncio.run()" in forks.log("awaiting")[-1]
    assert "the child went on" not in server.effects.read_text()


def test_a_child_may_run_its_own_event_loop(forks: Forks) -> None:
    assert forks["own_loop"] == 5


def test_output_of_a_child_always_lands_in_the_log(forks: Forks) -> None:
    assert forks.log("ways_to_print") == [
        "by print",
        "by write",
        "by stderr",
        "by the log",
        "WARNING child: by logging",
        "by a descriptor",
        "by a program",
        "by a thread",
        "without an end",
    ]


def test_a_child_has_no_resources_of_the_server(forks: Forks, server: Server) -> None:
    found = Forks(server, "alone")["has"]  # while only the sleeping task runs
    links = found["links"]
    assert found["handlers"] == [str(int(signal.SIG_DFL))] * 2
    sockets = {link for link in links if link.startswith("socket:")}
    assert f"socket:[{found['pipe']}]" in sockets
    assert len(sockets) == 2  # both ends of its own pipe
    assert [link for link in links if "anon_inode" in link] == []
    assert [link for link in links if "store.db" in link] == []


@pytest.mark.parametrize("way", ["spawn", "forkserver"])
def test_other_ways_to_start_processes_work(forks: Forks, way: str) -> None:
    assert forks["other_ways"] == {"spawn": [1], "forkserver": [1]} | {way: [1]}


def test_a_stop_during_a_pool_is_clean_and_ends_its_children(
    tmp_path: Path, children: Children
) -> None:
    server = Server(tmp_path, SCRIPT)
    server.submit("staying")
    until(lambda: len(children.alive()) == 2)
    assert server.stop() == 0
    assert server.said.splitlines()[1:] == []
    assert children.alive() == []


def test_children_of_an_attempt_that_timed_out_are_ended(
    tmp_path: Path, children: Children
) -> None:
    server = Server(tmp_path, SCRIPT)
    id = server.submit("timed")
    until(lambda: server.get(f"/api/executions/{id}")["state"] == "failed")
    assert len(children.told()) == 1
    assert children.alive() == []
    assert server.stop() == 0


def test_a_child_that_outlives_its_attempt_continues_without_harm(
    tmp_path: Path, children: Children
) -> None:
    server = Server(tmp_path, SCRIPT)
    id = server.submit("leaving")
    until(lambda: server.get(f"/api/executions/{id}")["state"] == "successful")
    until(lambda: children.told("printed"))
    (child,) = children.alive()
    server.process.terminate()
    assert server.process.wait(60) == 0
    assert children.alive() == [child]
    os.kill(child, signal.SIGKILL)  # it has the server's standard error, for its own handlers
    server.close()


def test_a_killed_server_restarts_at_once_while_children_of_its_tasks_live(
    tmp_path: Path, children: Children
) -> None:
    server = Server(tmp_path, SCRIPT)
    server.submit("staying")
    until(lambda: len(children.alive()) == 2)
    port = server.client.base_url.port
    assert port is not None
    server.kill()
    assert len(children.alive()) == 2
    with socket.create_server(("127.0.0.1", port)):
        pass
    again = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(tmp_path / "store.db"), str(port), str(server.effects)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert again.stderr is not None
    said = []
    for line in again.stderr:
        said.append(line)
        if line.startswith("goflow serves"):
            break
    again.terminate()
    assert again.wait(60) == 0
    again.stderr.close()
    assert said[-1] == f"goflow serves http://127.0.0.1:{port}\n"
    # The processes left by the killed server are ended before the task is retried.
    assert children.alive() == []
    assert re.search(r"was left over from attempt 1 of task 'map_for_ever'", "".join(said))


UNGUARDED = """
import multiprocessing
from goflow import Goflow, Job

job = Job("j")

def double(number):
    return 2 * number

@job.task
def spawned():
    with multiprocessing.get_context("spawn").Pool(1) as workers:
        return workers.map(double, [1, 2])

gf = Goflow(ui_path=None)
gf.add_job(job)
gf.run("127.0.0.1:0")
"""


def test_a_spawned_child_that_imports_the_program_serves_nothing(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(UNGUARDED)
    ended = subprocess.run(
        [sys.executable, "-m", "goflow", "run", "main.py", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.stderr == ""
    assert ended.returncode == 0
    (task,) = json.loads(ended.stdout)["tasks"]
    assert task["result"] == [2, 4]
