"""Tasks in a separate process: how they behave, and that they cannot harm the server."""

import asyncio
import ctypes
import itertools
import logging
import os
import re
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from goflow import Context, InvalidJob, Job, Task, TaskFailed
from goflow.engine.engine import Engine
from goflow.engine.executors.thread import ABANDONED
from goflow.engine.options import Options
from goflow.run import FinishedExecution, FinishedTask
from goflow.stores.memory import MemoryStore
from tests.engine.scripted import Blocking, Scripted, running, states, until

OPTIONS: dict[str, Any] = {"isolation": "process"}


class Does:
    """An operator that calls a function."""

    def __init__(self, function: Callable[[Context], Any]) -> None:
        self.function = function

    def run(self, context: Context) -> Any:
        return self.function(context)


def exit_at_once(_: Context) -> None:
    os._exit(3)


def segfault(_: Context) -> None:
    ctypes.string_at(0)


def kill_itself(_: Context) -> None:
    os.kill(os.getpid(), 9)


def take_all_memory(_: Context) -> None:
    limit = 1 << 30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    bytearray(2 * limit)


def exit_politely(_: Context) -> None:
    sys.exit(4)


def exit_well(_: Context) -> None:
    sys.exit(0)


async def exit_well_async(_: Context) -> None:
    sys.exit()


def fail(_: Context) -> None:
    raise TaskFailed("for a known reason")


def revoke(_: Context) -> None:
    raise TaskFailed("revoked", final=True)


def break_down(_: Context) -> None:
    raise ValueError("broken")


def return_much(_: Context) -> str:
    return "x" * (1024 * 1024)


def return_a_lock(_: Context) -> Any:
    return threading.Lock()


def return_much_that_fits(_: Context) -> str:
    return "y" * (1024 * 1024 - 2)


def print_much(_: Context) -> None:
    for _number in range(10 * 1024):
        print("z" * 1023)


def speak(context: Context) -> None:
    print("printed", end="")
    context.log("logged")
    print("to stderr", file=sys.stderr)
    logging.warning("warned")
    os.system("echo from a program")
    context.log.info("%d", 7)


def close_everything(_: Context) -> None:
    os.closerange(3, 100)


def answer(data: bytes) -> None:
    """Write invalid data to the server's socket."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            is_socket = stat.S_ISSOCK(os.fstat(fd).st_mode)
        except OSError:  # that of the listing
            continue
        if is_socket:
            os.write(fd, data)


def answer_nonsense(_: Context) -> None:
    answer(b"\0" * 7 + b"\x05" + b"[1,2}")


def answer_endlessly(_: Context) -> None:
    answer(b"\xff" * 8)


def fork_and_return(_: Context) -> bool:
    return os.fork() != 0


def leave_a_thread(_: Context) -> str:
    threading.Thread(target=time.sleep, args=(0.1,)).start()
    return "left"


def know(context: Context) -> dict[str, Any]:
    return {
        "context": [context.job, context.task, context.attempt, context.params, context.results],
        "main thread": threading.current_thread() is threading.main_thread(),
        "argv": sys.argv,
    }


class Await:
    async def run(self, context: Context) -> str:
        await asyncio.sleep(0.001)
        return f"awaited after {context.results['fail'] if context.results else 'nothing'}"


BEHAVIOURS = [
    exit_at_once,
    segfault,
    kill_itself,
    take_all_memory,
    exit_politely,
    exit_well,
    exit_well_async,
    fail,
    break_down,
    return_much,
    return_a_lock,
    return_much_that_fits,
    print_much,
    speak,
    close_everything,
    answer_nonsense,
    answer_endlessly,
    fork_and_return,
    leave_a_thread,
    know,
]


@pytest.fixture(scope="module")
def behaved() -> FinishedExecution:
    job = Job("behaving", params={"n": 1})
    for behaviour in BEHAVIOURS:
        job.add(Task(behaviour.__name__, Does(behaviour), **OPTIONS))
    job.add(Task("await", Await(), **OPTIONS))
    with pytest.MonkeyPatch.context() as patch:
        # On a busy machine, an interpreter exits slowly, and a warning would be justified.
        patch.setattr("goflow.engine.executors.process.GRACE", 60.0)
        return job.run()


@pytest.fixture
def task(behaved: FinishedExecution, request: pytest.FixtureRequest) -> FinishedTask:
    return behaved.tasks[request.param]


def of(behaviour: Callable[[Context], Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("task", [behaviour.__name__], indirect=True, ids=[""])


@pytest.mark.parametrize(
    ("task", "error"),
    [
        ("exit_at_once", r"the task's process ended with exit code 3 before the task did"),
        ("segfault", r"the task's process was ended by signal SIGSEGV"),
        ("kill_itself", r"the task's process was killed by signal SIGKILL \(out of memory\?\)"),
        ("take_all_memory", r"MemoryError\n\nTraceback(.|\n)*in take_all_memory(.|\n)*"),
        ("exit_politely", r"exit code 4\n\nTraceback(.|\n)*in exit_politely(.|\n)*"),
        ("fail", r"for a known reason"),
        ("break_down", r"ValueError: broken\n\nTraceback(.|\n)*in break_down(.|\n)*"),
        ("return_much", r"the result is 1048578 bytes as JSON, more than the 1048576 .*"),
        ("return_a_lock", r"the result, of type lock, cannot be stored as JSON: .*"),
        ("close_everything", r"the task's process ended with exit code .*"),
        ("answer_nonsense", r"the task's process sent an invalid answer"),
        ("answer_endlessly", r"the task's process sent an invalid answer"),
    ],
    indirect=["task"],
)
def test_it_fails_with_the_reason(task: FinishedTask, error: str) -> None:
    assert task.state == "failed"
    assert re.fullmatch(error, str(task.error)), task.error


def test_a_final_failure_is_not_retried() -> None:
    def revoked(_: Context) -> None:
        raise TaskFailed("revoked", final=True)

    job = Job("j")
    job.task(retries=3, isolation="process")(revoke)
    job.task(retries=3)(revoked)
    for task in job.run().tasks.values():
        assert (task.state, task.error, len(task.attempts)) == ("failed", "revoked", 1)


@pytest.mark.parametrize("task", ["exit_well", "exit_well_async"], indirect=True)
def test_a_successful_exit_is_a_success(task: FinishedTask) -> None:
    assert (task.state, task.result, task.error) == ("successful", None, None)


@of(segfault)
def test_the_log_shows_where_it_crashed(task: FinishedTask) -> None:
    assert "in segfault" in task.logs


@of(speak)
def test_all_output_is_in_the_log_in_order(task: FinishedTask) -> None:
    assert task.logs.splitlines() == [
        "printed",
        "logged",
        "to stderr",
        "WARNING root: warned",
        "from a program",
        "INFO 7",
    ]


@of(print_much)
def test_large_output_is_accepted(task: FinishedTask) -> None:
    assert task.state == "successful"
    assert task.logs.count("z") == 10 * 1024 * 1023


@of(return_much_that_fits)
def test_a_result_may_reach_the_limit(task: FinishedTask) -> None:
    assert task.result == "y" * (1024 * 1024 - 2)


@of(fork_and_return)
def test_after_a_fork_the_first_process_counts(task: FinishedTask) -> None:
    assert task.result is True


@of(leave_a_thread)
def test_it_waits_for_threads_that_end(task: FinishedTask) -> None:
    assert (task.state, task.result) == ("successful", "left")


@of(know)
def test_it_has_the_same_context_as_other_tasks(task: FinishedTask) -> None:
    assert task.result == {
        "context": ["behaving", "know", 1, {"n": 1}, {}],
        "main thread": True,
        "argv": sys.argv,
    }


def test_an_async_operator_runs_too(behaved: FinishedExecution) -> None:
    assert behaved.tasks["await"].result == "awaited after nothing"


def hang_in_c() -> None:
    # No signal handler can run, even before `begun` is printed.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    print("begun")
    sum(itertools.repeat(0))


def sleep_and_clean_up() -> None:
    try:
        print("begun")
        time.sleep(600)
    finally:
        print("cleaned up")


@pytest.mark.parametrize(
    ("function", "log"),
    [
        (hang_in_c, r"begun\nWARNING still there 0\.3 s after SIGTERM; sending SIGKILL\n"),
        (sleep_and_clean_up, r"begun\ncleaned up\n"),
    ],
)
@pytest.mark.anyio
async def test_it_can_be_cancelled(
    function: Callable[[], None], log: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("goflow.operators.process_group.GRACE", 0.3)
    job = Job("cancelled", tasks=[Task("t", Does(lambda _: function()), **OPTIONS)])
    async with running(job) as engine:
        id = (await engine.submissions.submit("cancelled")).id
        async with asyncio.timeout(60):
            while not await text_of(engine, id):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert await engine.control.cancel(id)
        await engine.runners.finished(id)
        assert await states(engine, id) == {"": "cancelled", "t": "cancelled"}
        assert re.fullmatch(log, await text_of(engine, id))


async def text_of(engine: Engine, id: str) -> str:
    log = await engine.reader.log_of(id, "t", 1)
    return "".join([text async for text in log.texts])


# -- pickling operators ----------------------------------------------------------------


def test_a_closure_can_be_sent() -> None:
    factor, job = 3, Job("closure", params={"n": 2})

    @job.task(isolation="process")
    def times(n: int) -> int:
        return n * factor

    assert job.run().tasks["times"].result == 6


@pytest.mark.parametrize("isolation", ["processes", "", 1, True])
def test_an_unknown_isolation_is_refused(isolation: Any) -> None:
    with pytest.raises(InvalidJob, match="isolation must be one of thread, process"):
        Task("t", Scripted(), isolation=isolation)


def test_an_operator_that_cannot_be_pickled_is_refused_when_the_job_is_registered() -> None:
    lock, job = threading.Lock(), Job("locked")

    @job.task(isolation="process")
    def locked() -> None:
        with lock:
            pass

    with pytest.raises(InvalidJob, match=r"(?s)job 'locked', task 'locked' cannot .*lock.*inside"):
        Engine(MemoryStore(), Options()).registry.register(job)


def test_an_operator_with_too_much_data_is_refused() -> None:
    data = bytes(17 * 1024 * 1024)
    job = Job("large", tasks=[Task("t", Does(lambda _: len(data)), **OPTIONS)])
    with pytest.raises(InvalidJob, match=r"task 't' holds .* more than 16777216"):
        job.seal()


PROGRAM = """
import threading
from dataclasses import dataclass

from goflow import Context, Goflow, Job, Task

{lock}
job = Job("program")

@dataclass(frozen=True)
class Add:
    a: int
    def run(self) -> int:
        return helper(self.a)

job.add(Task("add", Add(2), isolation="process"))

@job.task(isolation="process")
def function(context: Context):
    {use}
    return helper(20)

def helper(n):
    return n + 1

{end}
"""
SHOW = "print([task.result for task in job.run().tasks.values()])"
LOCK = {"lock": "lock = threading.Lock()", "use": "assert lock.acquire(blocking=False)"}
NO_LOCK = {"lock": "", "use": "pass"}


def python(folder: Path, *args: str, stdin: str = "") -> str:
    done = subprocess.run(
        [sys.executable, *args], cwd=folder, input=stdin, capture_output=True, text=True, timeout=60
    )
    return done.stdout + done.stderr


def test_operators_of_the_program_itself_can_be_sent(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(PROGRAM.format(end=SHOW, **NO_LOCK))
    assert python(tmp_path, "main.py") == "[3, 21]\n"


def test_operators_from_standard_input_can_be_sent(tmp_path: Path) -> None:
    assert python(tmp_path, "-", stdin=PROGRAM.format(end=SHOW, **NO_LOCK)) == "[3, 21]\n"


def test_operators_of_a_module_use_the_module(tmp_path: Path) -> None:
    """Even locks work, since the process imports the module itself."""
    (tmp_path / "module.py").write_text(PROGRAM.format(end="", **LOCK))
    (tmp_path / "main.py").write_text(f"from module import job\n{SHOW}")
    assert python(tmp_path, "main.py") == "[3, 21]\n"


def test_a_program_loaded_by_the_command_line_is_not_loaded_again(tmp_path: Path) -> None:
    end = 'print("read")\nif __name__ == "__main__":\n    raise SystemExit'
    (tmp_path / "main.py").write_text(PROGRAM.format(end=end, **NO_LOCK))
    said = python(tmp_path, "-m", "goflow", "run", "main.py", "--json")
    assert said.count("read\n") == 1
    assert '"result":21' in said.replace(" ", "")


def test_a_module_that_runs_its_jobs_when_imported_does_not_recurse(tmp_path: Path) -> None:
    show = "print([task.error for task in job.run().tasks.values()])"
    (tmp_path / "module.py").write_text(PROGRAM.format(end=show, **LOCK))
    assert python(tmp_path, "-c", "import module") == "[None, None]\n"


# -- compared with threads -------------------------------------------------------------


@pytest.mark.anyio
async def test_an_abandoned_thread_keeps_its_slot_until_it_ends() -> None:
    operator = Blocking()
    stuck = Job("stuck", tasks=[Task("t", operator, timeout=1)])
    other = Job("other", tasks=[Task("t", Scripted())])
    async with running(stuck, other, max_running=1) as engine:
        first = (await engine.submissions.submit("stuck")).id
        await engine.runners.finished(first)
        assert await states(engine, first) == {"": "failed", "t": "failed"}
        log = await engine.reader.log_of(first, "t", 1)
        assert ABANDONED in "".join([text async for text in log.texts])
        second = (await engine.submissions.submit("other")).id
        await until(lambda: engine.runners.waiting(second, "t"))
        assert await states(engine, second) == {"": "notstarted", "t": "notstarted"}
        operator.release.set()
        await engine.runners.finished(second)
        assert await states(engine, second) == {"": "successful", "t": "successful"}


def test_the_report_of_an_abandoned_thread_names_the_remedy() -> None:
    assert 'isolation="process"' in ABANDONED


RAISING = """
import sys
from goflow import Job

job = Job("j")

def deeper():
    raise ValueError("deep")

@job.task(isolation="process")
def one():
    deeper()

@job.task(isolation="process")
async def two():
    deeper()

if __name__ == "__main__":
    finished = job.run()
    for task in finished.tasks.values():
        print(task.error)
"""


@pytest.mark.parametrize("how", ["main.py", "-m main", "-m goflow run main.py"])
def test_a_traceback_has_file_and_line_as_in_the_server(tmp_path: Path, how: str) -> None:
    file = tmp_path / "main.py"
    file.write_text(RAISING)
    ended = subprocess.run(
        [sys.executable, *how.split()], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    said = ended.stdout + ended.stderr
    for task, line in (("one", 12), ("two", 16)):
        assert f'File "{file}", line {line}, in {task}' in said
    assert f'File "{file}", line 8, in deeper' in said
    assert said.count('raise ValueError("deep")') == 2


def test_a_traceback_has_the_line_of_code_without_a_file(tmp_path: Path) -> None:
    program = f"""
import linecache
text = {RAISING!r}
linecache.cache["<cell 1>"] = len(text), None, text.splitlines(True), "<cell 1>"
exec(compile(text, "<cell 1>", "exec"))
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert 'File "<cell 1>", line 8, in deeper' in ended.stdout
    assert ended.stdout.count('raise ValueError("deep")') == 2
