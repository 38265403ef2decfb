"""An executor whose work survives the server, and a server to kill that uses it.

The work is a shell script: it waits for the file `go`, and its result is what is in there. The
executor finds it again by the name of its files, which is the process tag without the server.

`python -m tests.crash.outside FOLDER` serves until it is killed.
"""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from goflow import Job, SqliteStore, Task
from goflow.core.execution import Failed, Outcome, Succeeded
from goflow.engine.engine import Engine
from goflow.engine.executors.base import Run, Work
from goflow.operators import process_tag
from goflow.operators.process_tag import ProcessTag

SCRIPT = 'while [ ! -e "$1/go" ]; do sleep 0.05; done; cat "$1/go" > "$2.part"; mv "$2.part" "$2"'


class Outside:
    """Implements `Executor` with processes that belong to no server."""

    shares_process = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs: list[subprocess.Popen[bytes]] = []

    async def start(self, work: Work, /) -> Run:
        return self._start(work)

    def _start(self, work: Work) -> Run:
        tag = process_tag.parse(work.context.process_tag)
        assert tag is not None
        place = self._place(tag)
        program = subprocess.Popen(
            ["/bin/sh", "-c", SCRIPT, "sh", str(self.folder), str(place)],
            start_new_session=True,
            env=process_tag.tagged(work.context.process_tag),  # as any program of an attempt
        )
        self.programs.append(program)
        place.with_suffix(".pid").write_text(f"{program.pid} {process_tag.start_of(program.pid)}")
        with open(self.folder / "starts", "a", encoding="utf-8") as starts:
            starts.write(f"{place.name}\n")
        work.context.log("started outside")
        return Outsider(program.pid, place)

    async def find(self, tag: ProcessTag, /) -> Run | None:
        place = self._place(tag)
        try:
            pid, start = map(int, place.with_suffix(".pid").read_text().split())
        except FileNotFoundError:
            return None
        runs = process_tag.start_of(pid) == start and is_alive(pid)
        if not runs and not place.exists():
            return None
        return Outsider(pid, place)

    def reap(self) -> None:
        """Wait for the processes that this server has started."""
        for program in self.programs:
            program.wait()

    def _place(self, tag: ProcessTag) -> Path:
        return self.folder / f"{tag.store}-{tag.execution}-{tag.task}-{tag.attempt}"


class Outsider:
    """Implements `Run` for one of these processes, whoever started it."""

    def __init__(self, pid: int, place: Path) -> None:
        self.pid = pid
        self._place = place

    async def hear(self) -> Outcome:
        while not self._place.exists():
            if not is_alive(self.pid):
                return Failed("it was killed")
            await asyncio.sleep(0.01)
        return Succeeded(msgspec.Raw(msgspec.json.encode(self._place.read_text())))

    def end(self) -> "asyncio.Future[None] | None":
        os.killpg(self.pid, signal.SIGKILL)
        return None


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


class Nothing:
    """The operator: its executor runs a script instead."""

    def run(self) -> None:
        raise AssertionError("it runs outside")


def job(timeout: float | None = None, retries: int = 0) -> Job:
    first = Task("first", Nothing(), timeout=timeout, retries=retries, pool="one")
    return Job("outside", tasks=[first, Task("then", Nothing(), after=["first"])])


async def serve(folder: Path) -> None:
    from tests.engine.scripted import until

    outside = Outside(folder)
    store = SqliteStore(folder / "goflow.db")
    engine = Engine(store, executors=lambda task: outside)
    engine.registry.set_pool("one", 1)
    engine.registry.register(job())
    await engine.start()
    if not store.version():
        id = (await engine.submissions.submit("outside")).id
        await until(lambda: store.logs.end(id, "first", 1))
    print("serving", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
