"""The jobs of the chaos test: five good ones, and a bad one for each kind of misbehaviour.

Each bad job misbehaves once per execution. Its `Bad` has the expected report: the final state of
its executions, and a pattern that their errors or logs must match.
"""

import contextlib
import io
import locale
import logging
import multiprocessing
import os
import random
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from goflow import Command, ConstantDelay, Context, Get, Job, Task

ARMED = False  # whether values read during a job's definition misbehave as well


class Bad(NamedTuple):
    """A job that misbehaves, and the expected report."""

    job: Job
    state: str
    reason: str  # a pattern, searched for in the errors and logs of its tasks


class Places(NamedTuple):
    """The environment that the jobs need."""

    folder: Path
    refusing: int  # a port that refuses connections
    punycode: int  # ports of HTTP servers with hostile responses
    layered: int


# -- good jobs ---------------------------------------------------------------------------


class Add:
    def run(self) -> int:
        print("adding")
        return 2 + 3


class AddAsync:
    async def run(self, context: Context) -> int:
        context.log("adding")
        return 2 + 3


class WhereAmI:
    """Checks for process-wide changes left by other tasks."""

    def __init__(self) -> None:
        self._folder = os.getcwd()

    def run(self) -> None:
        logging.getLogger("good").warning("logging works")
        print("printing works")
        if "GOFLOW_CHAOS" in os.environ:
            raise RuntimeError("another task's environment variable is here")
        if os.getcwd() != self._folder:
            raise RuntimeError(f"another task's working directory is here: {os.getcwd()}")
        if socket.getdefaulttimeout() is not None:
            raise RuntimeError("another task's time limit for sockets is here")
        warnings.warn("a warning is no error", stacklevel=1)


def good_jobs() -> list[Job]:
    """Jobs that must run each second in any case."""
    operators = {
        "good-program": Command("true"),
        "good-function": Add(),
        "good-async": AddAsync(),
        "good-shell": Command.shell("echo one; echo two | cat"),
        "good-world": WhereAmI(),
    }
    jobs = []
    for name, operator in operators.items():
        job = Job(name, schedule="* * * * * *", active=True)
        first = job.add(Task("first", operator))
        first >> job.add(Task("second", AddAsync()))
        jobs.append(job)
    return jobs


# -- bad jobs ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Doing:
    """An operator that calls a function with its context."""

    what: Callable[[Context], Any]

    def run(self, context: Context) -> Any:
        return self.what(context)


@dataclass(frozen=True)
class DoingAsync:
    what: Callable[[Context], Any]

    async def run(self, context: Context) -> Any:
        return await self.what(context)


def job_of(name: str, *operators: Any, **options: Any) -> Job:
    """A job whose tasks start together."""
    job = Job(name, schedule="* * * * * *")
    for number, operator in enumerate(operators):
        job.add(Task(f"task-{number}", operator, **options))
    return job


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise SystemExit("no text")

    __repr__ = __str__


class BadDelay:
    def delay(self, attempt: int) -> float:
        raise KeyboardInterrupt("no delay")


def fail_unspeakably(context: Context) -> None:
    raise Unspeakable


def exit_with_three(context: Context) -> None:
    sys.exit(3)


def fail(context: Context) -> None:
    raise ValueError("as it should")


async def interrupt_the_keyboard(context: Context) -> None:
    raise KeyboardInterrupt("from a task")


def recurse(context: Context) -> int:
    return 1 + recurse(context)


def square(number: int) -> int:
    return number * number


def use_a_pool(context: Context) -> list[int]:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.map_async(time.sleep, [30, 30])  # in flight when the pool ends
        return pool.map(square, range(4))


def use_an_executor(context: Context) -> list[int]:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as executor:
        return list(executor.map(square, range(4)))


def terminate_twice(context: Context) -> int | None:
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    child.start()
    child.terminate()
    child.terminate()
    child.join(30)
    print(f"the child ended with {child.exitcode}")
    return child.exitcode


def print_from_a_fork(context: Context) -> int:
    pid = os.fork()
    if pid == 0:
        print("printed by a fork", flush=True)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def print_from_threads(context: Context) -> None:
    threads = [
        threading.Thread(target=print, args=(f"printed by thread {number}",)) for number in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def redirect(seconds: float) -> Callable[[Context], None]:
    def redirecting(context: Context) -> None:
        with contextlib.redirect_stdout(io.StringIO()) as caught:
            print("caught")
            time.sleep(seconds)
        print(f"redirected {len(caught.getvalue()) >= 0}")

    return redirecting


def replace_stdout(context: Context) -> None:
    print("about to leave a closed stdout behind")
    sys.stdout = io.StringIO()
    sys.stdout.close()


def close_stdout(context: Context) -> None:
    print("about to close stdout")
    sys.stdout.close()


def silence_logging(context: Context) -> None:
    print("about to silence logging")
    logging.disable(logging.CRITICAL)
    logging.getLogger().handlers[:] = [logging.NullHandler()]
    logging.getLogger().setLevel(logging.CRITICAL)


def change_the_process(context: Context) -> None:
    print("about to change the process")
    os.chdir("/")
    os.environ["GOFLOW_CHAOS"] = "1"
    socket.setdefaulttimeout(0.001)
    random.seed(0)
    locale.setlocale(locale.LC_ALL, "C")
    warnings.simplefilter("error")


def handle_signals(context: Context) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def hang(context: Context) -> None:
    threading.Event().wait()


async def swallow_cancellation(context: Context) -> None:
    import asyncio

    until = time.monotonic() + 30
    while time.monotonic() < until:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.1)


def print_much(line: str) -> Callable[[Context], None]:
    def printing(context: Context) -> None:
        until = time.monotonic() + 2
        while time.monotonic() < until:
            print(line)
        print("printed enough")

    return printing


def show_progress(context: Context) -> None:
    for percent in range(101):
        print(f"\r{percent} %", end="")
        time.sleep(0.005)


def return_much(context: Context) -> str:
    return "x" * 900_000


def return_not_a_number(context: Context) -> list[float]:
    return [1.0, float("nan")]


def return_a_generator(context: Context) -> Iterator[int]:
    return (number for number in range(3))


def return_too_much(context: Context) -> str:
    return "x" * 3_000_000


def spoil_params(context: Context) -> int:
    numbers: list[int] = context.params["numbers"]
    numbers.append(1)
    time.sleep(0.05)
    print(f"there are {len(numbers)} numbers")
    return len(numbers)


def die_by_signal(context: Context) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def leave_an_orphan(context: Context) -> None:
    pid = os.fork()
    if pid == 0:
        if os.fork() == 0:
            time.sleep(0.2)
        os._exit(0)
    os.waitpid(pid, 0)
    print("left an orphan")


def start_threads_that_outlive_it(context: Context) -> None:
    def talk() -> None:
        until = time.monotonic() + 1
        while time.monotonic() < until:
            print("still talking")
            time.sleep(0.01)

    for _ in range(10):
        threading.Thread(target=talk, daemon=True).start()
    print("started threads")


def script(folder: Path, name: str, text: bytes) -> Command:
    path = folder / name
    path.write_bytes(text)
    path.chmod(0o755)
    return Command(str(path))


def unruly_default() -> list[int]:
    if ARMED:
        raise SystemExit("the default of a parameter cannot be made")
    return []


@dataclass
class UnrulyParams:
    numbers: list[int] = field(default_factory=unruly_default)


@dataclass
class UncheckableParams:
    number: int = 1

    def __post_init__(self) -> None:
        if ARMED:
            raise RuntimeError("these params cannot be checked")


def unruly_by_schedule() -> list[tuple[Job, str]]:
    """Jobs that fail at each tick before an execution exists, and the expected reason."""
    params = {"unruly-default": UnrulyParams, "unruly-check": UncheckableParams}
    reasons = ["the default of a parameter cannot be made", "these params cannot be checked"]
    jobs = [
        Job(name, schedule="* * * * * *", active=True, params=declared, tasks=[Task("t", Add())])
        for name, declared in params.items()
    ]
    return list(zip(jobs, reasons, strict=True))


def bad_jobs(places: Places) -> list[Bad]:
    """Jobs that misbehave in each of their executions."""
    folder = places.folder
    local = "http://127.0.0.1"
    return [
        Bad(
            job_of("bad-delay", Doing(fail), retries=2, retry_delay=BadDelay()),
            "failed",
            r"as it should[\s\S]*retry_delay.*KeyboardInterrupt",
        ),
        Bad(job_of("unspeakable-error", Doing(fail_unspeakably)), "failed", "Unspeakable"),
        Bad(job_of("exit", Doing(exit_with_three)), "failed", "3"),
        Bad(
            job_of("keyboard-interrupt", DoingAsync(interrupt_the_keyboard)),
            "failed",
            "KeyboardInterrupt: from a task",
        ),
        Bad(job_of("recursion", Doing(recurse)), "failed", "RecursionError"),
        Bad(job_of("fork-pool", Doing(use_a_pool)), "successful", ""),
        Bad(job_of("fork-executor", Doing(use_an_executor)), "successful", ""),
        Bad(job_of("terminate-twice", Doing(terminate_twice)), "successful", "ended with -15"),
        Bad(job_of("fork-print", Doing(print_from_a_fork)), "successful", "printed by a fork"),
        Bad(job_of("orphan", Doing(leave_an_orphan)), "successful", "left an orphan"),
        Bad(job_of("threads", Doing(print_from_threads)), "successful", "printed by thread 4"),
        Bad(
            job_of("outliving-threads", Doing(start_threads_that_outlive_it)),
            "successful",
            "started threads",
        ),
        Bad(
            job_of("redirect", Doing(redirect(0.2)), Doing(redirect(0.1))),
            "successful",
            "redirected True",
        ),
        Bad(job_of("replace-stdout", Doing(replace_stdout)), "successful", "closed stdout behind"),
        Bad(job_of("close-stdout", Doing(close_stdout)), "successful", "about to close"),
        Bad(job_of("silence-logging", Doing(silence_logging)), "successful", "about to silence"),
        Bad(job_of("change-process", Doing(change_the_process)), "successful", "about to change"),
        Bad(job_of("signals", Doing(handle_signals)), "failed", "main thread"),
        Bad(job_of("hang", Doing(hang), timeout=0.5), "failed", r"timed out after 0\.5 s"),
        Bad(
            job_of("swallow", DoingAsync(swallow_cancellation), timeout=0.5),
            "failed",
            "timed out|did not end when told to",
        ),
        Bad(job_of("flood", Doing(print_much("x" * 80))), "successful", "printed enough"),
        Bad(job_of("emoji-flood", Doing(print_much("🦆" * 40))), "successful", "printed enough"),
        Bad(job_of("program-flood", Command("yes"), timeout=1), "failed", "timed out after 1 s"),
        Bad(job_of("progress", Doing(show_progress)), "successful", "100 %"),
        Bad(job_of("much", *[Doing(return_much)] * 10), "successful", ""),
        Bad(job_of("too-much", Doing(return_too_much)), "failed", "bytes"),
        Bad(job_of("not-a-number", Doing(return_not_a_number)), "failed", "nan"),
        Bad(job_of("generator", Doing(return_a_generator)), "failed", "generator"),
        Bad(
            job_of(
                "refused",
                Get(f"{local}:{places.refusing}/"),
                retries=1,
                retry_delay=ConstantDelay(0),
            ),
            "failed",
            "refused",
        ),
        Bad(job_of("punycode", Get(f"{local}:{places.punycode}/", timeout=5)), "successful", ""),
        Bad(
            job_of("layers", Get(f"{local}:{places.layered}/", timeout=5)),
            "failed",
            "compressed 3 times",
        ),
        Bad(
            job_of("no-interpreter", script(folder, "missing", b"#!/no/such/interpreter\n")),
            "failed",
            "/no/such/interpreter",
        ),
        Bad(
            job_of("dos-script", script(folder, "dos", b"#!/bin/sh\r\necho hello\r\n")),
            "failed",
            "CRLF|carriage return|line ending",
        ),
        Bad(job_of("segfault", Doing(die_by_signal), isolation="process"), "failed", "SIGSEGV"),
        Bad(_spoiling(), "successful", "there are 1 numbers"),
    ]


def lanes() -> list[Job]:
    """Jobs with their own limits in a shared pool, to be cancelled while they wait."""
    jobs = []
    for name in ("lanes-one", "lanes-two"):
        job = Job(name, schedule="* * * * * *", max_running=1)
        for number in range(3):
            job.add(Task(f"task-{number}", Command("sleep", ["0.2"]), pool="narrow"))
        jobs.append(job)
    return jobs


def _spoiling() -> Job:
    job = Job("spoil-params", schedule="* * * * * *", params={"numbers": []})
    for number in range(3):
        job.add(Task(f"task-{number}", Doing(spoil_params)))
    return job
