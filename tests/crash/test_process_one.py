"""goflow as process 1 of a container, here of a PID namespace: it must reap orphans, and the
container ends with it."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

ENOUGH = 60  # seconds
ORPHANS = 20
PROGRAM = f"""
import os, subprocess, time
from goflow import Command, Goflow, Job

job = Job("orphans")

@job.task
def make():
    for _ in range({ORPHANS}):
        subprocess.run(["sh", "-c", "setsid sleep 0.05 >/dev/null 2>&1 &"], check=True)

@job.task
def own():
    # the exit codes of children go to their parents
    return [subprocess.run(["sh", "-c", "exit 7"]).returncode for _ in range(20)]

look = Job("look")

@look.task
def zombies():
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                stat = open(f"/proc/{{entry}}/stat").read()
            except (FileNotFoundError, ProcessLookupError):
                continue
            found.append(stat.rpartition(")")[2].split()[0])
    return [found.count("Z"), os.getpid(), len(found)]

gf = Goflow("store.db", ui_path=None)
gf.add_job(job)
gf.add_job(look)
THREAD
gf.run("127.0.0.1:0")
"""


class Container:
    def __init__(self, folder: Path, *command: str) -> None:
        self.process = subprocess.Popen(
            ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", *command],
            cwd=folder,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        self.said = ""
        for line in self.process.stderr:
            self.said += line
            if found := re.match("goflow serves (http:.*)", line):
                break
        else:
            raise AssertionError(f"no PID namespace, or no server in it: {self.said}")
        self.client = httpx2.Client(base_url=found[1], timeout=ENOUGH)

    def result(self, job: str, task: str) -> Any:
        id = self.client.post(f"/api/jobs/{job}/submit").raise_for_status().json()["id"]
        deadline = time.monotonic() + ENOUGH
        while True:
            found = self.client.get(f"/api/executions/{id}").raise_for_status().json()
            if found["state"] in ("successful", "failed"):
                (one,) = (each for each in found["tasks"] if each["name"] == task)
                assert one["error"] is None
                return one["result"]
            assert time.monotonic() < deadline

    @property
    def process_one(self) -> int:
        """Its PID outside the namespace."""
        ours = str(self.process.pid)
        for entry in os.listdir("/proc"):
            if entry.isdecimal():
                try:
                    stat = Path(f"/proc/{entry}/stat").read_text()
                except (FileNotFoundError, ProcessLookupError):
                    continue
                if stat.rpartition(")")[2].split()[1] == ours:
                    return int(entry)
        raise AssertionError("there is no process 1")


@contextmanager
def container(folder: Path, *command: str) -> Iterator[Container]:
    made = Container(folder, *command)
    try:
        yield made
    finally:
        made.client.close()
        made.process.kill()
        made.process.communicate()


def command(folder: Path, how: str, thread: str = "") -> list[str]:
    (folder / "main.py").write_text(PROGRAM.replace("THREAD", thread))
    if how == "program":
        return [sys.executable, "main.py"]
    return [sys.executable, "-m", "goflow", "serve", "main.py", "--port", "0"]


@pytest.mark.parametrize("how", ["program", "command"])
def test_zombies_are_reaped(tmp_path: Path, how: str) -> None:
    with container(tmp_path, *command(tmp_path, how)) as made:
        assert made.result("orphans", "own") == [7] * 20
        deadline = time.monotonic() + ENOUGH
        while (found := made.result("look", "zombies"))[0] or found[2] > 3:
            assert time.monotonic() < deadline, found
        assert found[1] != 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_reach_the_server_and_the_container_has_its_exit_code(
    tmp_path: Path, number: signal.Signals
) -> None:
    with container(tmp_path, *command(tmp_path, "command")) as made:
        os.kill(made.process_one, number)
        assert made.process.wait(ENOUGH) == 0


def test_a_container_ends_with_its_server(tmp_path: Path) -> None:
    with container(tmp_path, *command(tmp_path, "command")) as made:
        made.result("look", "zombies")
        children = Path(f"/proc/{made.process_one}/task/{made.process_one}/children").read_text()
        os.kill(int(children.split()[0]), signal.SIGKILL)
        assert made.process.wait(ENOUGH) == 128 + signal.SIGKILL


def test_a_program_with_threads_gets_a_clear_message(tmp_path: Path) -> None:
    thread = (
        "import threading; threading.Thread(target=time.sleep, args=(600,), daemon=True).start()"
    )
    with container(tmp_path, *command(tmp_path, "program", thread)) as made:
        assert "--init" in made.said
        os.kill(made.process_one, signal.SIGTERM)
        assert made.process.wait(ENOUGH) == 0
