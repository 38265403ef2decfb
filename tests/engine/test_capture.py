import asyncio
import contextlib
import contextvars
import io
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from goflow.engine.capture import captured, current_log
from tests.operators.memory_log import MemoryLog

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def task() -> Iterator[MemoryLog]:
    log = MemoryLog()
    token = current_log.set(log)
    try:
        yield log
    finally:
        current_log.reset(token)


def in_a_fresh_process(code: str) -> tuple[str, str]:
    """stdout and stderr of a program in which nobody has configured logging."""
    head = (
        "import logging, sys\n"
        "from goflow.engine.capture import captured\n"
        "from tests.engine.test_capture import task\n"
    )
    command = [sys.executable, "-W", "error", "-c", head + code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


# -- print -------------------------------------------------------------------------


def test_print_in_a_task_lands_in_its_log_and_nowhere_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with captured(), task() as log:
        print("to", "stdout")
        print("to stderr", file=sys.stderr)
        sys.stdout.writelines(["a", "b\n"])
        sys.stdout.flush()
    assert log.lines == ["to stdout", "to stderr", "ab"]
    assert capsys.readouterr() == ("", "")


def test_print_outside_a_task_goes_where_it_went(capsys: pytest.CaptureFixture[str]) -> None:
    with captured():
        print("out")
        print("err", file=sys.stderr)
        with task():
            pass
        print("again")
    assert capsys.readouterr() == ("out\nagain\n", "err\n")


def test_tasks_at_the_same_time_get_their_own_lines_on_the_loop_and_in_threads() -> None:
    async def one(name: str) -> MemoryLog:
        with task() as log:
            for i in range(20):
                print(name, i)
                await asyncio.sleep(0)
                await asyncio.to_thread(print, name, "thread", i)
        return log

    async def main() -> list[MemoryLog]:
        return await asyncio.gather(*(one(name) for name in "abc"))

    with captured():
        for name, log in zip("abc", asyncio.run(main()), strict=True):
            assert log.lines == [
                line for i in range(20) for line in (f"{name} {i}", f"{name} thread {i}")
            ]


def test_the_streams_are_otherwise_the_original_ones() -> None:
    original = sys.stdout
    with captured():
        assert sys.stdout is not original
        assert sys.stdout.encoding == original.encoding
        assert sys.stdout.isatty() == original.isatty()
        assert sys.stdout.writable()
        with task():
            assert not sys.stdout.isatty()
    assert sys.stdout is original


def test_where_there_are_no_streams_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with captured():
        print("lost")
        with task() as log:
            print("kept", flush=True)
        assert not sys.stdout.isatty()
        with pytest.raises(io.UnsupportedOperation):
            sys.stdout.fileno()
    assert log.lines == ["kept"]
    assert sys.stdout is None


def test_engines_may_come_and_go_in_any_order() -> None:
    before = sys.stdout, sys.stderr, logging.getLogger().level, logging.Logger.callHandlers
    first, second = captured(), captured()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    with task() as log:
        print("still")
    second.__exit__(None, None, None)
    assert log.lines == ["still"]
    after = sys.stdout, sys.stderr, logging.getLogger().level, logging.Logger.callHandlers
    assert after == before


def test_a_stream_replaced_meanwhile_stays() -> None:
    mine = io.StringIO()
    original = sys.stdout
    try:
        with captured():
            sys.stdout = mine
        assert sys.stdout is mine
    finally:
        sys.stdout = original


def test_a_redirection_inside_a_task_is_honoured() -> None:
    mine = io.StringIO()
    with captured(), task() as log, contextlib.redirect_stdout(mine):
        print("mine")
    assert (mine.getvalue(), log.text) == ("mine\n", "")


def test_warnings_land_in_the_log() -> None:
    out, err = in_a_fresh_process(
        "import warnings\n"
        "with captured(), task() as log:\n"
        "    warnings.showwarning('careful', UserWarning, 'main.py', 7)\n"
        "print(log.text, end='')\n"
    )
    assert (out, err) == ("main.py:7: UserWarning: careful\n", "")


# -- logging -----------------------------------------------------------------------


def test_records_of_a_task_land_in_its_log_from_info_on() -> None:
    out, err = in_a_fresh_process(
        "with captured(), task() as log:\n"
        "    logger = logging.getLogger('a.b')\n"
        "    logger.debug('d')\n"
        "    logger.info('i %d', 1)\n"
        "    logger.warning('w')\n"
        "    try: 1 / 0\n"
        "    except ZeroDivisionError: logger.exception('e')\n"
        "print(log.text)\n"
    )
    lines = out.splitlines()
    assert lines[:4] == [
        "INFO a.b: i 1",
        "WARNING a.b: w",
        "ERROR a.b: e",
        "Traceback (most recent call last):",
    ]
    assert "ZeroDivisionError: division by zero" in lines
    assert err == ""


def test_outside_tasks_unconfigured_logging_is_as_ever() -> None:
    out, err = in_a_fresh_process(
        "own = logging.getLogger('own')\n"
        "own.addHandler(logging.StreamHandler())\n"
        "with captured():\n"
        "    logging.getLogger('a').info('not shown')\n"
        "    logging.getLogger('a').warning('shown')\n"
        "    own.info('not shown')\n"
        "    own.warning('own shown')\n"
        "own.info('not shown')\n"
        "assert logging.getLogger().level == logging.WARNING\n"
        "assert not logging.getLogger().handlers\n"
    )
    assert (out, err) == ("", "shown\nown shown\n")


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_record_lands_once_and_the_users_handlers_get_it_too(when: str) -> None:
    configure = "logging.basicConfig(level=logging.INFO, format='user: %(message)s')\n"
    out, err = in_a_fresh_process(
        (configure if when == "before" else "")
        + "with captured():\n"
        + (f"    {configure}" if when == "during" else "")
        + "    logging.info('outside')\n"
        "    with task() as log:\n"
        "        logging.info('inside')\n"
        "print(log.text, end='')\n"
        "assert logging.getLogger().level == logging.INFO\n"
    )
    assert out == "INFO root: inside\n"
    assert err == "user: outside\nuser: inside\n"


def test_the_users_handlers_get_no_more_than_they_asked_for() -> None:
    out, err = in_a_fresh_process(
        "logging.basicConfig(level=logging.ERROR, format='user: %(message)s')\n"
        "with captured(), task() as log:\n"
        "    logging.info('i')\n"
        "    logging.error('e')\n"
        "print(log.text, end='')\n"
    )
    assert (out, err) == ("INFO root: i\nERROR root: e\n", "user: e\n")


def test_a_logger_with_a_level_of_its_own_keeps_it() -> None:
    out, _ = in_a_fresh_process(
        "logging.getLogger('quiet').setLevel(logging.ERROR)\n"
        "logging.getLogger('loud').setLevel(logging.DEBUG)\n"
        "with captured(), task() as log:\n"
        "    logging.getLogger('quiet.child').warning('w')\n"
        "    logging.getLogger('loud.child').debug('d')\n"
        "print(log.text, end='')\n"
    )
    assert out == "DEBUG loud.child: d\n"


def test_a_logger_that_does_not_propagate_is_caught_too() -> None:
    out, _ = in_a_fresh_process(
        "logging.getLogger('alone').propagate = False\n"
        "with captured(), task() as log:\n"
        "    logging.getLogger('alone').warning('w')\n"
        "print(log.text, end='')\n"
    )
    assert out == "WARNING alone: w\n"


def test_a_bad_record_fails_nobody() -> None:
    out, err = in_a_fresh_process(
        "with captured(), task() as log:\n"
        "    logging.getLogger('a').warning('%d', 'x')\n"
        "    print('went on')\n"
        "print(log.text, end='')\n"
    )
    assert "Logging error" in out
    assert out.endswith("went on\n")
    assert err == ""


def test_a_record_of_a_thread_started_with_the_context_lands() -> None:
    with captured(), task() as log:
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(logging.warning, "from there"))
        thread.start()
        thread.join()
    assert log.lines == ["WARNING root: from there"]
