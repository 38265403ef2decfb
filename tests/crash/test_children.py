"""No process that a task starts survives, even of the kinds that are hard to end."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from goflow.operators.process_tag import VARIABLE, parse
from tests.crash.strays import HOW_MANY, start_of
from tests.crash.test_kill import Server, until

SCRIPT = Path(__file__).with_name("strays_server.py")
EVERYONE = Counter(
    {f"{how}-{kind}": count for kind, count in HOW_MANY.items() for how in ("command", "isolated")}
)

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")


class Strays:
    """The processes reported in a file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def told(self) -> list[tuple[str, int, str]]:
        lines = [line.split() for line in self._file.read_text().splitlines()]
        return [(kind, int(pid), start) for kind, pid, start in lines]

    def alive(self) -> list[tuple[str, int]]:
        return [(kind, pid) for kind, pid, start in self.told() if start_of(pid) == start]

    def all_there(self) -> bool:
        return Counter(kind for kind, _ in self.alive()) == EVERYONE


@pytest.fixture
def strays(tmp_path: Path) -> Iterator[Strays]:
    found = Strays(tmp_path / "effects.txt")
    yield found
    for _, pid in found.alive():  # left by a failed test
        os.kill(pid, signal.SIGKILL)


def test_none_survives_a_cancel(tmp_path: Path, strays: Strays) -> None:
    server = Server(tmp_path, SCRIPT)
    id = server.submit("strays")
    until(strays.all_there)
    server.client.post(f"/api/executions/{id}/cancel").raise_for_status()
    until(lambda: server.get(f"/api/executions/{id}")["state"] == "cancelled")
    assert strays.alive() == []
    assert server.stop() == 0


def test_none_survives_a_timeout(tmp_path: Path, strays: Strays) -> None:
    server = Server(tmp_path, SCRIPT)
    for seconds in (8, 60):
        before = len(strays.told())
        id = server.submit(f"timed {seconds}")
        until(lambda id=id: server.get(f"/api/executions/{id}")["state"] == "failed", 120)
        assert strays.alive() == []
        errors = {task["error"] for task in server.get(f"/api/executions/{id}")["tasks"]}
        assert errors == {f"timed out after {seconds} s"}
        if len(strays.told()) - before == EVERYONE.total():
            break
    else:
        raise AssertionError("they were not all there before the time was up")
    assert server.stop() == 0


def test_none_survives_a_stop_of_the_server(tmp_path: Path, strays: Strays) -> None:
    server = Server(tmp_path, SCRIPT)
    server.submit("strays")
    until(strays.all_there)
    assert server.stop() == 0
    assert strays.alive() == []


def test_none_survives_a_kill_of_the_server_and_its_next_start(
    tmp_path: Path, strays: Strays
) -> None:
    server = Server(tmp_path, SCRIPT)
    id = server.submit("strays")
    until(strays.all_there)
    server.kill()
    server = Server(tmp_path, SCRIPT)
    assert strays.alive() == []
    until(lambda: server.get(f"/api/executions/{id}")["state"] == "failed")
    assert server.stop() == 0


def test_a_killed_server_takes_its_isolated_tasks_with_it(tmp_path: Path, strays: Strays) -> None:
    """Even before a restart, except processes that ignore SIGTERM or left the group."""
    server = Server(tmp_path, SCRIPT)
    server.submit("strays")
    until(strays.all_there)
    server.kill()
    until(lambda: not {"isolated-plain", "isolated-grandchild"} & {k for k, _ in strays.alive()})
    assert Server(tmp_path, SCRIPT).stop() == 0


def test_a_daemon_that_a_finished_task_left_on_purpose_stays(
    tmp_path: Path, strays: Strays
) -> None:
    server = Server(tmp_path, SCRIPT)
    id = server.submit("daemon")
    until(lambda: server.get(f"/api/executions/{id}")["state"] == "successful")
    until(lambda: server.effects.read_text().endswith("\n"))
    pid = int(server.effects.read_text().split()[1])
    server.submit("strays")  # so that there is an interrupted task
    until(lambda: len(strays.alive()) == EVERYONE.total())
    server.kill()
    server = Server(tmp_path, SCRIPT)
    alive = bool(start_of(pid))
    os.kill(pid, signal.SIGKILL)
    assert alive
    assert strays.alive() == []
    assert server.stop() == 0


def test_children_of_a_living_server_are_left_alone(tmp_path: Path, strays: Strays) -> None:
    """Even if the new server serves a copy of the store."""
    server = Server(tmp_path, SCRIPT)
    server.submit("strays")
    until(strays.all_there)
    copy = tmp_path / "copy"
    copy.mkdir()
    subprocess.run(
        [sys.executable, "-c", BACKUP, tmp_path / "store.db", copy / "store.db"], check=True
    )
    assert Server(copy, SCRIPT).stop() == 0
    assert strays.all_there()
    assert server.stop() == 0
    assert strays.alive() == []


BACKUP = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as reading, sqlite3.connect(sys.argv[2]) as writing:
    reading.backup(writing)
"""


def test_the_process_tag_names_execution_and_attempt(tmp_path: Path, strays: Strays) -> None:
    server = Server(tmp_path, SCRIPT)
    id = server.submit("strays")
    until(strays.all_there)
    for _, pid in strays.alive():
        environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        (word,) = [one.decode() for one in environ if one.startswith(VARIABLE.encode())]
        tag = parse(word.partition("=")[2])
        assert tag is not None
        assert tag.execution == id
        assert tag.attempt == 1
    assert server.stop() == 0
    assert strays.alive() == []
