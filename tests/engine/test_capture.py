import asyncio
import contextlib
import contextvars
import io
import logging
import logging.config
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from goflow.engine.current import current_log
from goflow.engine.output.capture import captured
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
    """stdout and stderr of a program without configured logging."""
    head = (
        "import logging, sys\n"
        "from goflow.engine.output.capture import captured\n"
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


def test_print_outside_tasks_is_not_captured(capsys: pytest.CaptureFixture[str]) -> None:
    with captured():
        print("out")
        print("err", file=sys.stderr)
        with task():
            pass
        print("again")
    assert capsys.readouterr() == ("out\nagain\n", "err\n")


def test_concurrent_tasks_get_their_own_lines_on_the_loop_and_in_threads() -> None:
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


def test_other_attributes_are_those_of_the_original_streams() -> None:
    original = sys.stdout
    with captured():
        assert sys.stdout is not original
        assert sys.stdout.encoding == original.encoding
        assert sys.stdout.isatty() == original.isatty()
        assert sys.stdout.writable()
        with task():
            assert not sys.stdout.isatty()
    assert sys.stdout is original


def test_missing_streams_cause_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_engines_may_start_and_stop_in_any_order() -> None:
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


def test_a_stream_replaced_by_the_program_stays() -> None:
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


def test_records_of_a_task_from_info_on_land_in_its_log() -> None:
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


def test_outside_tasks_unconfigured_logging_is_unchanged() -> None:
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


def test_the_users_handlers_get_only_records_of_their_level() -> None:
    out, err = in_a_fresh_process(
        "logging.basicConfig(level=logging.ERROR, format='user: %(message)s')\n"
        "with captured(), task() as log:\n"
        "    logging.info('i')\n"
        "    logging.error('e')\n"
        "print(log.text, end='')\n"
    )
    assert (out, err) == ("INFO root: i\nERROR root: e\n", "user: e\n")


def test_a_logger_keeps_its_own_level() -> None:
    out, _ = in_a_fresh_process(
        "logging.getLogger('quiet').setLevel(logging.ERROR)\n"
        "logging.getLogger('loud').setLevel(logging.DEBUG)\n"
        "with captured(), task() as log:\n"
        "    logging.getLogger('quiet.child').warning('w')\n"
        "    logging.getLogger('loud.child').debug('d')\n"
        "print(log.text, end='')\n"
    )
    assert out == "DEBUG loud.child: d\n"


def test_a_logger_that_does_not_propagate_is_captured_too() -> None:
    out, _ = in_a_fresh_process(
        "logging.getLogger('alone').propagate = False\n"
        "with captured(), task() as log:\n"
        "    logging.getLogger('alone').warning('w')\n"
        "print(log.text, end='')\n"
    )
    assert out == "WARNING alone: w\n"


def test_a_bad_record_does_not_fail_the_task() -> None:
    out, err = in_a_fresh_process(
        "with captured(), task() as log:\n"
        "    logging.getLogger('a').warning('%d', 'x')\n"
        "    print('went on')\n"
        "print(log.text, end='')\n"
    )
    assert "Logging error" in out
    assert out.endswith("went on\n")
    assert err == ""


def test_a_record_of_a_thread_with_the_context_lands_in_the_log() -> None:
    with captured(), task() as log:
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(logging.warning, "from there"))
        thread.start()
        thread.join()
    assert log.lines == ["WARNING root: from there"]


# -- streams of one task -------------------------------------------------------------


def side_by_side(*steps: Callable[[threading.Barrier], None]) -> list[MemoryLog]:
    """Run each step in its own task, concurrently; they meet at the barrier."""
    barrier = threading.Barrier(len(steps), timeout=60)
    logs: list[MemoryLog] = []
    failures: list[BaseException] = []

    def one(step: Callable[[threading.Barrier], None]) -> None:
        with task() as log:
            logs.append(log)
            try:
                step(barrier)
            except BaseException as failure:
                failures.append(failure)
                barrier.abort()

    with captured():
        threads = [threading.Thread(target=one, args=(step,)) for step in steps]
        for number, thread in enumerate(threads):
            thread.start()
            while len(logs) == number:
                time.sleep(0.001)
        for thread in threads:
            thread.join(60)
    assert not failures, failures
    return logs


def test_overlapping_redirections_affect_only_their_own_tasks() -> None:
    mine: list[io.StringIO] = [io.StringIO(), io.StringIO()]

    def first(meet: threading.Barrier) -> None:
        with contextlib.redirect_stdout(mine[0]):
            meet.wait()
            print("one")
            meet.wait()
        print("one again")
        meet.wait()

    def second(meet: threading.Barrier) -> None:
        meet.wait()
        with contextlib.redirect_stdout(mine[1]):
            meet.wait()
            meet.wait()
            print("two")
        print("two again")

    def third(meet: threading.Barrier) -> None:
        for _ in range(3):
            print("three")
            meet.wait()

    before = sys.stdout
    logs = side_by_side(first, second, third)
    assert [one.getvalue() for one in mine] == ["one\n", "two\n"]
    assert [log.text for log in logs] == ["one again\n", "two again\n", "three\n" * 3]
    assert sys.stdout is before


def put_none() -> None:
    sys.stdout = None  # type: ignore[assignment]


def put_closed() -> None:
    sys.stdout = io.StringIO()
    sys.stdout.close()


def leave_with() -> None:
    with sys.stdout as stream:
        stream.write("")


def configure_over() -> None:
    logging.basicConfig(force=True, level=logging.CRITICAL)
    logging.config.dictConfig({"version": 1, "root": {"level": "CRITICAL"}})


@pytest.mark.parametrize(
    "harm",
    [
        put_none,
        put_closed,
        leave_with,
        configure_over,
        lambda: sys.stdout.close(),
        lambda: sys.stderr.close(),
        lambda: sys.__stdout__.close(),  # type: ignore[union-attr]
        lambda: sys.stdout.detach(),
        lambda: sys.stdout.reconfigure(encoding="ascii", errors="strict"),  # type: ignore[union-attr]
        lambda: setattr(sys, "stdout", sys.__stderr__),
        lambda: delattr(sys, "stdout"),
        lambda: logging.disable(),
        lambda: setattr(logging.getLogger(), "disabled", True),
        lambda: logging.getLogger().setLevel(logging.CRITICAL + 1),
        lambda: logging.getLogger().handlers.clear(),
    ],
)
def test_nothing_a_task_does_to_its_output_affects_others(
    harm: Callable[[], object], capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    own = logging.StreamHandler(sys.stderr)
    root.addHandler(own)
    handlers, level = list(root.handlers), root.level
    try:
        with captured():
            with task():
                harm()
            with task() as log:
                print("printed é")
                print("printed too", file=sys.stderr)
                logging.getLogger("some").info("logged")
                logging.warning("logged %s", "too")
            print("outside")
            root.warning("outside too")
    finally:
        root.removeHandler(own)
    assert log.lines == [
        "printed é",
        "printed too",
        "INFO some: logged",
        "WARNING root: logged too",
    ]
    out, err = capsys.readouterr()
    assert out == "outside\n"
    assert err.endswith("outside too\n")
    assert (list(root.handlers), root.level) == ([h for h in handlers if h is not own], level)
    assert logging.root.manager.disable == 0


def test_logging_settings_of_a_task_apply_to_that_task() -> None:
    with captured(), task() as log:
        logging.disable(logging.INFO)
        logging.info("no")
        logging.warning("yes")
        logging.disable(logging.NOTSET)
        logging.getLogger().setLevel(logging.ERROR)
        logging.getLogger("a").warning("no")
        logging.getLogger("a").error("yes")
        assert logging.getLogger().getEffectiveLevel() == logging.ERROR
        handler = logging.StreamHandler(mine := io.StringIO())
        logging.getLogger().addHandler(handler)
        logging.getLogger("a").error("its handler has it, too")
    assert log.lines == ["WARNING root: yes", "ERROR a: yes", "ERROR a: its handler has it, too"]
    assert mine.getvalue() == "its handler has it, too\n"
    assert handler not in logging.getLogger().handlers


def test_a_stream_that_wraps_the_previous_one_works_in_a_task() -> None:
    class Tee:
        def __init__(self) -> None:
            self.before = sys.stdout
            self.text = ""

        def write(self, text: str) -> int:
            self.text += text
            return self.before.write(text)

        def flush(self) -> None:
            self.before.flush()

    with captured(), task() as log:
        sys.stdout = tee = Tee()  # type: ignore[assignment]
        print("both")
        sys.stdout = sys.__stdout__
        print("the log alone")
    assert (tee.text, log.text) == ("both\n", "both\nthe log alone\n")


def test_bytes_land_in_the_log_as_text() -> None:
    with captured(), task() as log:
        sys.stdout.buffer.write("caf\u00e9 \u20ac".encode()[:-1])
        sys.stdout.buffer.write(b"\xac\n\xff\n")
        sys.stdout.flush()
    assert log.text == "caf\u00e9 \u20ac\n\ufffd\n"


def test_a_stream_replaced_outside_tasks_is_used_outside_tasks() -> None:
    mine = io.StringIO()
    with captured():
        with contextlib.redirect_stdout(mine):
            print("outside")
            with task() as log:
                print("inside")
            with contextlib.redirect_stdout(io.StringIO()):
                print("deeper")
            print("outside again")
        with task():
            pass
    assert (mine.getvalue(), log.text) == ("outside\noutside again\n", "inside\n")
