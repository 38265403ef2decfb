"""A program whose tasks prevent its exit: `python stubborn_server.py STORE JOB serve|run`.

`serve` serves until a signal arrives; `run` runs the job here and prints the result. A task
announces its start on standard error, bypassing all capturing.
"""

import asyncio
import atexit
import contextlib
import logging
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from goflow import Goflow, Job, Task
from goflow import app as goflow_app
from goflow.engine.attempts import under_way
from goflow.engine.process import leaving
from goflow.web import server as web_server

STORE, NAME, HOW = sys.argv[1:]
under_way.CLEANUP = goflow_app.CLEANUP = 0.5
if NAME in ("block", "hold_a_lock"):  # those that do not stop in order
    web_server.GRACE, goflow_app.STOP_SLACK = 0, 0.2
leaving.EXIT_LIMIT = 1.0


def begun() -> None:
    os.write(2, b"begun\n")


async def swallow() -> None:
    begun()
    while True:
        with contextlib.suppress(BaseException):
            await asyncio.sleep(600)


def loop() -> None:
    begun()
    while True:
        time.sleep(0.01)


async def block() -> None:
    begun()
    time.sleep(600)  # noqa: ASYNC251


async def hold_a_lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    begun()
    lock.acquire()


async def to_thread() -> None:
    await asyncio.to_thread(loop)


async def fill_the_executor() -> None:
    for _ in range(40):
        asyncio.get_running_loop().run_in_executor(None, time.sleep, 600)
    begun()


async def background() -> None:
    task = asyncio.create_task(swallow())
    await asyncio.sleep(0)
    del task


def thread() -> None:
    threading.Thread(target=loop).start()


def at_exit() -> None:
    atexit.register(time.sleep, 600)
    begun()


def child() -> None:
    multiprocessing.get_context("fork").Process(target=time.sleep, args=(30,)).start()
    begun()


def spawned() -> None:
    """Leaves a semaphore that the resource tracker reports."""
    context = multiprocessing.get_context("spawn")
    held.append(context.Semaphore())
    loop()


def pool() -> None:
    with multiprocessing.get_context("fork").Pool(2) as workers:
        begun()
        workers.map(time.sleep, [600, 600])


def log_much() -> None:
    for number in range(20_000):
        logging.getLogger("much").error("%d %s", number, "x" * 100)
    begun()


class Does:
    def __init__(self, function: Callable[[], Any]) -> None:
        self.run = function


held: list[Any] = []
functions = [
    swallow, loop, block, hold_a_lock, to_thread, fill_the_executor, background, thread, at_exit,
    child, spawned, pool, log_much,
]  # fmt: skip
jobs = {
    one.__name__: Job(
        one.__name__, tasks=[Task("t", Does(one), timeout=0.3 if HOW == "run" else None)]
    )
    for one in functions
}

if __name__ == "__main__":
    if HOW == "run":
        print(jobs[NAME].run().tasks["t"].error, flush=True)
        os._exit(0)  # the program itself has to deal with what its task left running
    gf = Goflow(STORE, ui_path=None, stop_timeout=0.2)
    for job in jobs.values():
        gf.add_job(job)
    gf.run("127.0.0.1:0")
