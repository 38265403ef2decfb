import asyncio
import contextlib
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from goflow import Command, InvalidJob
from goflow.errors import TaskFailed
from goflow.operators import process_group, program
from tests.operators.memory_log import MemoryLog, context_with


def run(command: Command, log: MemoryLog | None = None) -> str:
    return asyncio.run(command.run(context_with(log or MemoryLog())))


def python(code: str, **options: Any) -> Command:
    return Command(sys.executable, ["-c", code], **options)


def failure(command: Command, log: MemoryLog | None = None) -> str:
    with pytest.raises(TaskFailed) as caught:
        run(command, log)
    return str(caught.value)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.005)


async def becomes(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - a file or a process sets no event
            await asyncio.sleep(0.005)


def alive(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        stat = Path(f"/proc/{pid}/stat").read_text()
        return stat.rsplit(")", 1)[1].split()[0] not in "ZX"
    return False


# -- results -----------------------------------------------------------------------


def test_the_result_is_stdout_unchanged() -> None:
    assert run(Command("printf", ["a\\nb\\n"])) == "a\nb\n"


def test_no_output_is_an_empty_text() -> None:
    assert run(Command("true")) == ""


def test_arguments_are_not_interpreted_by_a_shell() -> None:
    assert run(Command("echo", ["$HOME", ";", "*"])) == "$HOME ; *\n"


def test_shell_runs_a_shell() -> None:
    assert run(Command.shell("echo one two | wc -w")).strip() == "2"


def test_env_is_added_to_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INHERITED", "yes")
    assert run(Command.shell("echo $INHERITED $ADDED", env={"ADDED": "too"})) == "yes too\n"


def test_cwd_is_the_working_directory(tmp_path: Path) -> None:
    assert run(Command("pwd", cwd=tmp_path)) == f"{tmp_path}\n"


def test_stdin_is_empty() -> None:
    assert run(Command("cat")) == ""


def test_stdout_and_stderr_are_in_the_log_without_mixed_lines() -> None:
    code = (
        "import os\n"
        "for i in range(200):\n"
        "    os.write(1, b'o' * 50); os.write(2, b'e' * 50)\n"
        "    os.write(1, b'o' * 50 + b'\\n'); os.write(2, b'e' * 50 + b'\\n')\n"
    )
    log = MemoryLog()
    run(python(code), log)
    assert sorted(log.lines) == ["e" * 100] * 200 + ["o" * 100] * 200


def test_lines_appear_in_the_log_as_they_are_printed(tmp_path: Path) -> None:
    async def scenario() -> None:
        log = MemoryLog()
        go = tmp_path / "go"
        script = f"echo first; while [ ! -e '{go}' ]; do sleep 0.01; done; echo second"
        running = asyncio.create_task(Command.shell(script).run(context_with(log)))
        await becomes(lambda: log.lines == ["first"])
        go.touch()
        await running
        assert log.lines == ["first", "second"]

    asyncio.run(scenario())


def test_bytes_that_are_not_utf8_are_replaced() -> None:
    log = MemoryLog()
    result = run(python(r"import os; os.write(1, b'\xff\xfe ok \xc3')"), log)
    assert result == "\ufffd\ufffd ok \ufffd"
    assert log.text == result + "\n"


def test_characters_split_between_two_reads_are_decoded() -> None:
    code = r"import os, time; os.write(1, b'\xe2\x82'); time.sleep(.05); os.write(1, b'\xac')"
    assert run(python(code)) == "€"


# -- failures ----------------------------------------------------------------------


def test_a_non_zero_exit_fails_with_the_code_and_the_end_of_stderr() -> None:
    assert failure(Command.shell("echo why >&2; exit 3")) == "exit code 3: why"
    assert failure(Command("false")) == "exit code 1"


def test_the_error_has_the_end_of_a_long_stderr() -> None:
    error = failure(python("import sys; sys.exit('x' * 100_000 + 'the reason')"))
    assert error.startswith("exit code 1: …xxx")
    assert error.endswith("the reason")
    assert len(error) < 2100


def test_a_signal_is_named() -> None:
    assert failure(Command.shell("kill -KILL $$")) == "killed by signal SIGKILL"


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (Command("no-such-program"), "cannot run 'no-such-program': there is no such program on"),
        (Command("/no/such"), "cannot run '/no/such': No such file or directory"),
        (Command("/etc/passwd"), "cannot run '/etc/passwd': Permission denied"),
        (Command("true", cwd="/no/such"), "cannot run 'true' in '/no/such': No such file"),
        (Command("echo hello"), "arguments belong in args, a line of shell in Command.shell"),
        (Command("echo", ["x" * 200_000]), "cannot run 'echo': Argument list too long"),
    ],
)
def test_a_command_that_cannot_run_fails_with_the_reason(command: Command, error: str) -> None:
    assert error in failure(command)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Command(""),
        lambda: Command("  "),
        lambda: Command(["echo"]),  # type: ignore[arg-type]
        lambda: Command("echo", "hello"),
        lambda: Command("echo", b"hello"),  # type: ignore[arg-type]
        lambda: Command("echo", [1]),  # type: ignore[list-item]
        lambda: Command("echo", {"a"}),  # type: ignore[arg-type]
        lambda: Command("echo", ["a\0b"]),
        lambda: Command("echo", ["\ud800"]),
        lambda: Command("ec\0ho"),
        lambda: Command("echo", timeout=0),
        lambda: Command("echo", timeout=-1),
        lambda: Command("echo", timeout=float("nan")),
        lambda: Command("echo", timeout="5"),  # type: ignore[arg-type]
        lambda: Command("echo", timeout=True),
        lambda: Command("echo", env=["A=b"]),  # type: ignore[arg-type]
        lambda: Command("echo", env={"A=": "b"}),
        lambda: Command("echo", env={"": "b"}),
        lambda: Command("echo", env={"A": 1}),  # type: ignore[dict-item]
        lambda: Command("echo", env={"A": "\0"}),
        lambda: Command("echo", cwd=7),  # type: ignore[arg-type]
        lambda: Command("echo", cwd="/\0"),
        lambda: Command.shell(""),
        lambda: Command.shell(["a"]),  # type: ignore[arg-type]
    ],
)
def test_an_invalid_argument_is_refused_at_construction(make: Callable[[], Command]) -> None:
    with pytest.raises(InvalidJob, match="Command"):
        make()


def test_a_command_cannot_be_changed_from_outside() -> None:
    args, env = ["a"], {"A": "b"}
    command = Command("echo", args, env=env)
    args.append("b")
    env["A"] = "c"
    assert (command.args, command.env) == (("a",), {"A": "b"})


def test_values_of_env_are_not_shown() -> None:
    assert "hunter2" not in repr(Command("true", env={"PASSWORD": "hunter2"}))


# -- large output ------------------------------------------------------------------


def test_a_large_output_keeps_head_and_tail_with_a_mark_between() -> None:
    result = run(python("print('head', '-' * 5_000_000, 'tail')"))
    assert result.startswith("head ---")
    assert result.endswith("--- tail\n")
    assert " characters left out …\n" in result
    assert len(msgspec.json.encode(result)) <= program.RESULT_LIMIT


@pytest.mark.parametrize("text", ["\x01", "\n", "€", "\U0001f600", '"'])
def test_the_result_fits_as_json_for_any_text(text: str) -> None:
    result = run(python(f"print({text!r} * 3_000_000)"))
    size = len(msgspec.json.encode(result))
    assert program.RESULT_LIMIT // 4 < size <= program.RESULT_LIMIT


def test_nothing_is_cut_below_the_limit() -> None:
    assert run(python("print('x' * 1_000_000)")) == "x" * 1_000_000 + "\n"


FLOOD = """
import asyncio, resource, sys
from goflow import Command
from tests.engine.logs import task_log
from tests.operators.memory_log import context_with

async def main():
    kept = {"lines": 0}

    async def append(chunk):
        kept["last"] = chunk.first + chunk.lines

    log = task_log(append)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = await Command.shell(sys.argv[1]).run(context_with(log))
    await log.close()
    for chunk in log.rest:
        await append(chunk)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(len(result), log.lines, kept["last"], grown // 1024)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("script", "lines"),
    [
        ("yes | head -c 1000000000", 500_000_000),
        ("head -c 100000000 /dev/zero | tr '\\\\0' x", 6_104),
        ("head -c 20000000 /dev/urandom", None),
    ],
    ids=["1 GB", "100 MB without a newline", "20 MB of noise"],
)
def test_large_outputs_are_read_completely_in_bounded_memory(
    script: str, lines: int | None
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FLOOD, script],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    kept, came, last, grown = map(int, done.stdout.split())
    assert kept <= program.RESULT_LIMIT
    assert last == came
    assert came == lines or lines is None
    assert grown < 100  # MB


# -- ending processes --------------------------------------------------------------


def test_a_timeout_ends_the_whole_group(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"sleep 1000 & echo $! >> '{pids}'; echo $$ >> '{pids}'; sleep 1000 | cat"
    assert failure(Command.shell(script, timeout=3)) == "timed out after 3 s"
    assert [pid for pid in pids.read_text().split() if alive(int(pid))] == []


def test_a_cancellation_ends_the_whole_group_and_propagates(tmp_path: Path) -> None:
    async def scenario() -> None:
        pids = tmp_path / "pids"
        script = f"sleep 1000 & echo $! $$ > '{pids}.new'; mv '{pids}.new' '{pids}'; wait"
        running = asyncio.create_task(Command.shell(script).run(context_with(MemoryLog())))
        await becomes(pids.exists)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert [pid for pid in pids.read_text().split() if alive(int(pid))] == []

    asyncio.run(scenario())


def test_a_program_that_ignores_sigterm_is_killed_after_the_grace_period(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_group, "GRACE", 0.3)

    async def scenario() -> None:
        pid = tmp_path / "pid"
        script = f"trap '' TERM; echo $$ > '{pid}'; while :; do sleep 0.01; done"
        log = MemoryLog()
        running = asyncio.create_task(Command.shell(script).run(context_with(log)))
        await becomes(lambda: pid.exists() and pid.read_text())
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not alive(int(pid.read_text()))
        assert log.lines[-1] == "WARNING still there 0.3 s after SIGTERM; sending SIGKILL"

    asyncio.run(scenario())


def test_a_second_cancellation_does_not_shorten_the_cleanup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_group, "GRACE", 0.3)

    async def scenario() -> None:
        pid = tmp_path / "pid"
        script = f"trap 'echo asked' TERM; echo $$ > '{pid}'; while :; do sleep 0.01; done"
        log = MemoryLog()
        running = asyncio.create_task(Command.shell(script).run(context_with(log)))
        await becomes(lambda: pid.exists() and pid.read_text())
        running.cancel()
        await becomes(lambda: "asked" in log.lines)  # its last output is still logged
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not alive(int(pid.read_text()))

    asyncio.run(scenario())


def running_with(argument: str) -> list[Path]:
    found = []
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if argument in cmdline.read_text().split("\0"):
                found.append(cmdline)
    return found


def test_a_cancellation_at_the_first_step_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        argument = f"1000.{os.getpid()}"
        command = Command("sleep", [argument])
        running = asyncio.create_task(command.run(context_with(MemoryLog())))
        await asyncio.sleep(0)
        until(lambda: running_with(argument))  # on the loop, so that the task cannot continue
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert running_with(argument) == []

    asyncio.run(scenario())


def test_a_stopped_program_is_ended_too() -> None:
    assert failure(Command.shell("kill -STOP $$", timeout=0.3)) == "timed out after 0.3 s"


def test_grandchildren_that_keep_the_output_open_are_ended_with_a_warning(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    log = MemoryLog()
    assert run(Command.shell(f"sleep 1000 & echo $! > '{pid}'; echo done"), log) == "done\n"
    assert not alive(int(pid.read_text()))
    assert log.lines == [
        "done",
        "WARNING the program ended but left processes behind; ending them",
    ]


def test_silent_grandchildren_are_ended_as_well(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    run(Command.shell(f"sleep 1000 > /dev/null 2>&1 & echo $! > '{pid}'"))
    assert not alive(int(pid.read_text()))


def test_grandchildren_that_flood_the_output_are_ended() -> None:
    assert run(Command.shell("yes & exit 0")).startswith("y\ny\n")


def test_grandchildren_may_finish_their_output() -> None:
    assert run(Command.shell("(sleep 0.05; echo late) &")) == "late\n"


def test_a_process_that_left_the_group_does_not_block_the_task(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    log = MemoryLog()
    script = f"setsid sh -c 'echo $$ > \"{pid}\"; exec sleep 1000' & echo done"
    assert run(Command.shell(script), log) == "done\n"
    assert "WARNING the program ended but a process elsewhere holds its output open" in log.lines
    until(lambda: pid.exists() and pid.read_text())
    os.kill(int(pid.read_text()), 9)


def test_no_file_stays_open() -> None:
    async def scenario() -> None:
        def opened() -> int:
            return len(os.listdir("/proc/self/fd"))

        context = context_with(MemoryLog())
        await Command("true").run(context)
        before = opened()
        for command in (
            Command("true"),
            Command.shell("sleep 100 &"),
            Command("sleep", ["100"], timeout=0.05),
            Command("no-such-program"),
        ):
            with contextlib.suppress(TaskFailed):
                await command.run(context)
        assert opened() == before

    asyncio.run(scenario())


def test_programs_run_concurrently() -> None:
    async def scenario() -> None:
        context = context_with(MemoryLog())
        runs = (Command("echo", [str(i)]).run(context) for i in range(50))
        assert await asyncio.gather(*runs) == [f"{i}\n" for i in range(50)]

    asyncio.run(scenario())


def test_without_pidfd_a_thread_waits_for_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    assert run(Command("echo", ["hello"])) == "hello\n"
    assert failure(Command("sleep", ["100"], timeout=0.1)) == "timed out after 0.1 s"


def test_a_program_gets_neither_the_terminal_nor_the_process_group_of_goflow() -> None:
    code = "import os; print(os.getpgid(0) == os.getpid())"
    assert run(python(code)) == "True\n"
    for options in ({"process_group": 0}, {"start_new_session": True}):
        program._of_its_own.cache_clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(program, "_of_its_own", lambda options=options: options)
            assert run(python(code)) == "True\n"
            failure(Command.shell("sleep 100 | cat", timeout=0.1))


def test_the_limits_of_the_machine_cause_a_clear_error() -> None:
    async def scenario() -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        context = context_with(MemoryLog())
        loop_fds = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (loop_fds + 1, hard))
        try:
            with pytest.raises(TaskFailed, match="cannot run 'true': Too many open files"):
                await Command("true").run(context)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    asyncio.run(scenario())
