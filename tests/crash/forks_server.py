"""A server whose tasks fork it: `python forks_server.py STORE PORT EFFECTS`.

Tasks write their effects to the file EFFECTS, a line each, so that tests see them without a log.
"""

import asyncio
import concurrent.futures
import itertools
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

from goflow import Command, Context, Goflow, Job, Task

STORE, PORT, EFFECTS = sys.argv[1:] if len(sys.argv) == 4 else ("", "", "")
# Python 3.12 and later warn about it in the task's log.
warnings.filterwarnings("ignore", message=".*multi-threaded", category=DeprecationWarning)
FORK = multiprocessing.get_context("fork")
job = Job("forks")


def say(*words: object) -> None:
    out = os.open(EFFECTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(out, (" ".join(map(str, words)) + "\n").encode())
    os.close(out)


def said(word: str) -> int:
    return Path(EFFECTS).read_text().split().count(word)


def start_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def exit_code_of(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def stay(_: object = None) -> None:
    """Report the process, and stay forever."""
    say("stays", os.getpid(), start_of(os.getpid()))
    while True:
        time.sleep(600)


def square(number: int) -> int:
    print(f"squaring {number}", flush=True)
    return number * number


@job.task
def pool() -> list[int]:
    with FORK.Pool(2) as workers:
        return workers.map(square, range(10))


@job.task
def executor() -> list[int]:
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=FORK) as workers:
        return list(workers.map(square, range(10)))


@job.task
def busy_pool() -> str:
    """Leaves the `with` block while its workers run."""
    with FORK.Pool(2) as workers:
        workers.map_async(stay, [1, 2])
        while said("stays") < 2:
            time.sleep(0.01)
    return "left"


@job.task
def terminated_twice() -> list[int | None]:
    codes = []
    for _ in range(2):
        child = FORK.Process(target=time.sleep, args=(600,))
        child.start()
        child.terminate()
        child.terminate()
        child.join()
        codes.append(child.exitcode)
    return codes


@job.task
def bare() -> int:
    pid = os.fork()
    if pid == 0:
        print("printed by the child")
        sys.exit(3)
    return exit_code_of(pid)


@job.task
def raising() -> int:
    pid = os.fork()
    if pid == 0:
        raise ValueError("of the child")
    return exit_code_of(pid)


@job.task
def returning() -> int:
    """The return value of a child is not a result."""
    pid = os.fork()
    if pid == 0:
        return 7
    return exit_code_of(pid)


@job.task
async def awaiting() -> int:
    pid = os.fork()
    if pid == 0:
        await asyncio.sleep(0)
        say("the child went on")
    return exit_code_of(pid)


@job.task
async def own_loop() -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(asyncio.run(asyncio.sleep(0, 5)))
    return exit_code_of(pid)


@job.task
def ways_to_print(context: Context) -> None:
    def child() -> None:
        print("by print")
        sys.stdout.write("by write\n")
        print("by stderr", file=sys.stderr)
        context.log("by the log")
        logging.getLogger("child").warning("by logging")
        os.write(1, b"by a descriptor\n")
        subprocess.run(["echo", "by a program"], check=True)
        thread = threading.Thread(target=print, args=("by a thread",))
        thread.start()
        thread.join()
        print("without an end", end="")

    one = FORK.Process(target=child)
    one.start()
    one.join()


@job.task(isolation="process")
def isolated() -> int:
    pid = os.fork()
    if pid == 0:
        print("printed by the child")
        sys.exit(3)
    return exit_code_of(pid)


@job.task
def other_ways() -> dict[str, list[int]]:
    results = {}
    for way in ("spawn", "forkserver"):
        with multiprocessing.get_context(way).Pool(1) as workers:
            results[way] = workers.map(abs, [-1])
    return results


alone = Job("alone")


@alone.task
def has() -> dict[str, Any]:
    """The resources of the server that a child has."""
    ours, theirs = FORK.Pipe()

    def child() -> None:
        links = []
        for fd in os.listdir("/proc/self/fd"):
            try:
                links.append(os.readlink(f"/proc/self/fd/{fd}"))
            except OSError:
                continue
        handlers = [str(signal.getsignal(n)) for n in (signal.SIGTERM, signal.SIGHUP)]
        theirs.send(
            {"links": links, "handlers": handlers, "pipe": os.fstat(theirs.fileno()).st_ino}
        )

    one = FORK.Process(target=child)
    one.start()
    found: dict[str, Any] = ours.recv()
    one.join()
    return found


staying = Job("staying")


@staying.task
def map_for_ever() -> None:
    with FORK.Pool(2) as workers:
        workers.map(stay, [1, 2])


timed = Job("timed")


@timed.task(timeout=5)
def too_long() -> None:
    child = FORK.Process(target=stay)
    child.start()
    child.join()


leaving = Job("leaving")


@leaving.task
def leave_one() -> str:
    """Leaves a child that continues to print."""
    FORK.Process(target=print_for_ever).start()
    while said("stays") < 1:
        time.sleep(0.01)
    return "done"


def print_for_ever() -> None:
    say("stays", os.getpid(), start_of(os.getpid()))
    for number in itertools.count():
        print("x" * 1000)
        if number == 1000:
            say("printed", os.getpid(), start_of(os.getpid()))


sleeper = Job("sleeper", tasks=[Task("sleep", Command("sleep", ["600"]))])

if __name__ == "__main__":
    logging.basicConfig(format="of the handler: %(message)s")
    gf = Goflow(STORE, ui_path=None, stop_timeout=0.5)
    for each in (job, alone, staying, timed, leaving, sleeper):
        gf.add_job(each)
    gf.run(f"127.0.0.1:{PORT}")
