"""A server whose system refuses any further thread. test_threads.py runs it as a separate program,
since the limit holds for all processes of the user.

Prints its observations as JSON.
"""

import asyncio
import json
import os
import resource
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from goflow import Command, Get, Goflow, Job, Task
from goflow.engine.executors import thread
from goflow.engine.process import loops
from tests.engine.scripted import Scripted, until

NOBODY = 65534
ran: list[str] = []


class Sync:
    def __init__(self, name: str) -> None:
        self.name = name

    def run(self) -> None:
        ran.append(self.name)


@contextmanager
def no_threads() -> Iterator[None]:
    """The system refuses to create threads and processes, except for root."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    root = os.geteuid() == 0
    if root:
        os.setresuid(NOBODY, NOBODY, 0)
    resource.setrlimit(resource.RLIMIT_NPROC, (1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard))
        if root:
            os.setresuid(0, 0, 0)


def refused() -> bool:
    try:
        threading.Thread(target=print).start()
    except RuntimeError:
        return True
    return False


def dashboard(folder: str) -> Path:
    ui = Path(folder, "ui")
    ui.mkdir()
    for name, text in (("index.html", "<html>"), ("app.js", "let one = 1")):
        (ui / name).write_text(text)
    return ui


async def main(folder: str) -> dict[str, Any]:
    thread.PAUSES = (0.05,) * 20
    gf = Goflow(os.path.join(folder, "goflow.db"), ui_path=dashboard(folder))
    for name in ("refused", "later"):
        gf.add_job(Job(name, tasks=[Task("t", Sync(name))]))
    gf.add_job(Job("get", tasks=[Task("t", Get("http://127.0.0.1:9/"))]))
    gf.add_job(Job("program", tasks=[Task("t", Command("true"))]))
    gf.add_job(Job("async", tasks=[Task("t", Scripted())]))
    transport = httpx2.ASGITransport(app=gf, raise_app_exceptions=False)
    seen: dict[str, Any] = {}

    async def ended(job: str) -> str:
        answer = await client.post(f"/api/jobs/{job}/submit")
        assert answer.status_code == 200, answer.text
        id = answer.json()["id"]
        await until(lambda: gf.engine.runners.get(id) is None)
        detail = (await client.get(f"/api/executions/{id}")).json()
        return f"{detail['state']} {detail['tasks'][0]['error']}"

    async with (
        gf.lifespan(),
        httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        await ended("async")  # so that every module is imported before the rights are dropped
        with no_threads():
            seen["refuses"] = refused()
            paths = ("health", "jobs", "jobs/async", "executions", "now", "system", "overview")
            answers = [await client.get(f"/api/{path}") for path in paths]
            seen["answers"] = [answer.status_code for answer in answers]
            seen["file"] = (await client.get("/ui/app.js")).text
            seen["get"] = await ended("get")
            seen["async"] = await ended("async")
            seen["sync"] = await ended("refused")
            seen["program"] = await ended("program")
            waiting = asyncio.create_task(ended("later"))
            await until(lambda: gf.engine.slots.usage()[0].taken == 1)
        seen["later"] = await waiting
        gate = no_threads()
        gate.__enter__()
    gate.__exit__(None, None, None)
    seen["ran"] = ran
    seen["defect"] = gf.engine.health.defect
    return seen


print(json.dumps(loops.run(main(sys.argv[1]))))
