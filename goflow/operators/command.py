"""Runs a program, with its whole process group under control.

The rule that must not be broken: when `run` has returned or raised, for whatever reason,
nothing of the program's process group is left behind.

The program is spawned and watched here rather than through asyncio's transports: there is
no moment at which a cancellation could lose the process, and no thread per child.
"""

import asyncio
import codecs
import contextlib
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from goflow.errors import InvalidJob, TaskFailed
from goflow.operators import checks
from goflow.operators.base import Context, Log

RESULT_LIMIT = 1024 * 1024  # bytes of JSON; of longer output the head and the tail are kept
ERROR_LIMIT = 2000  # characters of stderr in the error
LINE = 16 * 1024  # characters; longer lines are broken
READ = 64 * 1024  # bytes at a time: what a pipe holds
DRAIN_EVERY = 256 * 1024  # bytes of output between two looks at whether the log keeps up
GRACE = 5.0  # seconds between SIGTERM and SIGKILL
LINGER = 0.25  # seconds: the longest of the doubling pauses, 0.5 in all, that what the
# program left behind has to end by itself


@dataclass(frozen=True)
class Command:
    """Runs a program without a shell; `Command.shell` is the explicit way to one.

    - `cmd`: a program on PATH, or a path to one. `args`: its arguments.
    - `env`: variables added to this process's environment.
    - `cwd`: the folder to run in, this process's by default.
    - `timeout`: seconds until the program is ended and the attempt fails; None for no limit.

    Its standard input is empty. Both outputs go to the task's log as they come, as UTF-8
    with undecodable bytes replaced. The result is the standard output as it is, final
    newline included; of more than 1 MiB the head and the tail, with the cut marked. A
    non-zero exit fails the attempt with the code and the end of stderr.

    The program gets a process group of its own. On timeout, cancellation and stop, and when
    it ends but leaves processes of its group behind, the group gets SIGTERM, and SIGKILL 5
    seconds later. Raises `InvalidJob` for what cannot be run on any machine.
    """

    cmd: str
    args: Sequence[str] = ()
    env: Mapping[str, str] | None = field(default=None, kw_only=True, repr=False, hash=False)
    cwd: str | os.PathLike[str] | None = field(default=None, kw_only=True)
    timeout: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not checks.text("Command: cmd", self.cmd).strip():
            raise InvalidJob(f"Command: cmd must name a program, not {self.cmd!r}")
        where = f"Command({self.cmd!r})"
        if isinstance(self.args, str | bytes) or not isinstance(self.args, Sequence):
            raise InvalidJob(
                f"{where}: args must be a list of str, not {self.args!r}; "
                "for a line of shell use Command.shell"
            )
        args = tuple(checks.text(f"{where}: args[{i}]", arg) for i, arg in enumerate(self.args))
        object.__setattr__(self, "args", args)
        if self.env is not None:
            env = checks.mapping(f"{where}: env", self.env)
            for name, value in env.items():
                checks.text(f"{where}: env name", name)
                checks.text(f"{where}: env[{name!r}]", value)
                if not name or "=" in name:
                    raise InvalidJob(f"{where}: {name!r} cannot be the name of a variable")
            object.__setattr__(self, "env", env)
        if self.cwd is not None:
            if not isinstance(self.cwd, str | os.PathLike):
                raise InvalidJob(f"{where}: cwd must be a path, not {self.cwd!r}")
            checks.text(f"{where}: cwd", os.fspath(self.cwd))
        checks.seconds(f"{where}: timeout", self.timeout)

    @classmethod
    def shell(
        cls,
        script: str,
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        timeout: float | None = None,
    ) -> "Command":
        """Runs `script` in /bin/sh. What comes from outside belongs in `env`, not in the text."""
        if not checks.text("Command.shell: script", script).strip():
            raise InvalidJob(f"Command.shell: there is nothing to run in {script!r}")
        return cls("/bin/sh", ("-c", script), env=env, cwd=cwd, timeout=timeout)

    async def run(self, context: Context) -> str:
        program = Program(self, context.log)
        try:
            async with asyncio.timeout(self.timeout):
                await program.ended
        except TimeoutError:
            raise TaskFailed(f"timed out after {self.timeout:g} s") from None
        finally:
            if program.leftovers():
                await _uninterrupted(program.end())
            program.close()
        if (failure := program.failure()) is not None:
            raise TaskFailed(failure)
        return program.stdout.kept(RESULT_LIMIT)


class Program:
    """A program that runs, its process group and its two pipes.

    `ended` is done when the program has ended and its pipes are read to their end, or,
    where somebody else holds them open, a short while later.
    """

    def __init__(self, command: Command, log: Log) -> None:
        self._loop = asyncio.get_running_loop()
        self._log = log
        self._process = _spawn(command)
        self._pid = self._process.pid
        self.ended = self._loop.create_future()
        self._linger: asyncio.TimerHandle | None = None
        self._pause_length = 0.001
        self._gone = False
        self._draining: asyncio.Task[None] | None = None
        self._undrained = 0
        self.stdout = Output(self._process.stdout, log, RESULT_LIMIT // 2)
        self.stderr = Output(self._process.stderr, log, ERROR_LIMIT)
        self._open = [self.stdout, self.stderr]
        self._listen()
        self._pidfd = _watch(self._process, self._loop, self._exited)

    # -- reading -------------------------------------------------------------------

    def _listen(self) -> None:
        for output in self._open:
            self._loop.add_reader(output.fd, self._read, output)

    def _pause(self) -> None:
        for output in self._open:
            self._loop.remove_reader(output.fd)

    def _read(self, output: "Output") -> None:
        try:
            data = os.read(output.fd, READ)
        except BlockingIOError:
            return
        if data:
            output.feed(data)
            self._undrained += len(data)
            if self._undrained >= DRAIN_EVERY:
                self._undrained = 0
                self._pause()
                self._draining = self._loop.create_task(self._drain())
        else:
            self._loop.remove_reader(output.fd)
            self._open.remove(output)
            self._check()

    async def _drain(self) -> None:
        await self._log.drain()
        self._draining = None
        self._listen()
        self._check()

    # -- the end -------------------------------------------------------------------

    def _exited(self) -> None:
        if self._process.poll() is None:
            return
        self._unwatch()
        self._check()

    def _unwatch(self) -> None:
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None

    def _check(self) -> None:
        if self._process.returncode is None or self.ended.done():
            return
        if not self._open and not self.leftovers():
            self.ended.set_result(None)
        elif self._linger is None:
            self._linger = self._loop.call_later(self._pause_length, self._lingered)

    def _lingered(self) -> None:
        self._linger = None
        if self._draining is None:  # else what the program printed is still being read
            self._pause_length *= 2
        if self._pause_length <= LINGER or self.ended.done():
            self._check()
            return
        if self.leftovers():
            self._log.warning("the program ended but left processes behind; ending them")
        elif self._open:
            self._log.warning("the program ended but a process elsewhere holds its output open")
        self.ended.set_result(None)

    def leftovers(self) -> bool:
        """Whether anything of the process group is there, the program itself included."""
        if self._process.returncode is None:
            return True
        if self._gone:  # for good: the number may be somebody else's by now
            return False
        with contextlib.suppress(ChildProcessError):
            # As process 1 of a container we inherit orphans, and have to bury them.
            while os.waitpid(-self._pid, os.WNOHANG)[0]:
                pass
        try:
            os.killpg(self._pid, 0)
        except ProcessLookupError:
            self._gone = True
            return False
        except PermissionError:  # it is there, as another user
            return True
        return True

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, number)

    async def end(self) -> None:
        """End the whole group: ask, wait, force. Its last words still go to the log."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # a stopped process cannot follow the request
        if await self._gone_within(GRACE):
            return
        self._log.warning(f"still there {GRACE:g} s after SIGTERM; sending SIGKILL")
        self._signal(signal.SIGKILL)
        if not await self._gone_within(GRACE):
            self._log.warning(f"process group {self._pid} could not be ended")

    async def _gone_within(self, seconds: float) -> bool:
        pause = 0.001
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.leftovers():
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, 0.05)
                return True
        return not self.leftovers()

    def close(self) -> None:
        """Let go of the pipes, after a last look into them."""
        if self._linger is not None:
            self._linger.cancel()
        if self._draining is not None:
            self._draining.cancel()
        self._pause()
        for output in self._open:
            with contextlib.suppress(BlockingIOError):
                output.feed(os.read(output.fd, READ))
        self._unwatch()
        self.stdout.close()
        self.stderr.close()

    def failure(self) -> str | None:
        """Why the program failed, None if it did not."""
        code = self._process.returncode
        if code == 0:
            return None
        if code is None:
            reason = "the program could not be ended"
        elif code > 0:
            reason = f"exit code {code}"
        else:
            reason = f"killed by signal {_signal_name(-code)}"
        stderr = self.stderr.kept_tail(ERROR_LIMIT).strip()
        return f"{reason}: {stderr}" if stderr else reason


class Output:
    """One of a program's pipes: its bytes become text, lines in the log, and a bounded copy.

    Of the text the first and the last `half` characters are kept.
    """

    def __init__(self, pipe: Any, log: Log, half: int) -> None:
        self.fd: int = pipe.fileno()
        os.set_blocking(self.fd, False)
        self._pipe = pipe
        self._log = log
        self._half = half
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._line = ""  # begun, not ended
        self._head: list[str] = []
        self._head_room = half
        self._tail: deque[str] = deque()
        self._tail_size = 0
        self._cut = 0

    def feed(self, data: bytes, final: bool = False) -> None:
        text = self._decode(data, final)
        if not text:
            return
        self._keep(text)
        end = text.rfind("\n") + 1
        if end:
            self._log.write(self._line + text[:end])
            self._line = text[end:]
        else:
            self._line += text
        if len(self._line) >= LINE:
            self._log.write(self._line + "\n")
            self._line = ""

    def _keep(self, text: str) -> None:
        if self._head_room:
            self._head.append(text[: self._head_room])
            text, used = text[self._head_room :], len(self._head[-1])
            self._head_room -= used
        if text:
            self._tail.append(text)
            self._tail_size += len(text)
            while self._tail_size - len(self._tail[0]) >= self._half:
                gone = len(self._tail.popleft())
                self._tail_size -= gone
                self._cut += gone

    def close(self) -> None:
        self.feed(b"", final=True)
        if self._line:
            self._log.write(self._line + "\n")
            self._line = ""
        self._pipe.close()

    def kept(self, limit: int) -> str:
        """The text, cut in the middle so that it takes at most `limit` bytes as JSON."""
        head, tail = "".join(self._head), "".join(self._tail)
        text, half = head + tail, self._half
        if self._cut or self._tail_size > half:
            text = self._with_cut(head, tail, half)
        while len(msgspec.json.encode(text)) > limit:
            half = half * 3 // 4
            text = self._with_cut(head, tail, half)
        return text

    def _with_cut(self, head: str, tail: str, half: int) -> str:
        whole = len(head) + len(tail) + self._cut
        both = head + tail
        left_out = whole - 2 * half
        return f"{both[:half]}\n… {left_out} characters left out …\n{both[-half:]}"

    def kept_tail(self, limit: int) -> str:
        """The end of the text, at most `limit` characters."""
        text = "".join(self._head) + "".join(self._tail)
        return text if not self._cut and len(text) <= limit else f"…{text[-limit:]}"


def _spawn(command: Command) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            [command.cmd, *command.args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd=command.cwd,
            env=None if command.env is None else {**os.environ, **command.env},
            start_new_session=True,
        )
    except OSError as error:
        if command.cwd is not None and error.filename == os.fspath(command.cwd):
            reason = f"cannot run {command.cmd!r} in {error.filename!r}: {error.strerror}"
        elif isinstance(error, FileNotFoundError) and "/" not in command.cmd:
            reason = f"cannot run {command.cmd!r}: there is no such program on PATH"
        else:
            reason = f"cannot run {command.cmd!r}: {error.strerror}"
        if not command.args and " " in command.cmd:
            reason += "; arguments belong in args, a line of shell in Command.shell"
        raise TaskFailed(reason) from None


def _watch(
    process: "subprocess.Popen[bytes]",
    loop: asyncio.AbstractEventLoop,
    exited: Callable[[], None],
) -> int | None:
    """Call `exited` on the loop once the process has ended; the pidfd that tells it, if any."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # not Linux, or an old one
        threading.Thread(target=_wait, args=(process, loop, exited), daemon=True).start()
        return None
    loop.add_reader(pidfd, exited)
    return pidfd


def _wait(
    process: "subprocess.Popen[bytes]",
    loop: asyncio.AbstractEventLoop,
    exited: Callable[[], None],
) -> None:
    process.wait()
    with contextlib.suppress(RuntimeError):  # the loop has closed
        loop.call_soon_threadsafe(exited)


async def _uninterrupted(cleanup: Coroutine[Any, Any, None]) -> None:
    """Await to the end, however often the awaiting task is cancelled meanwhile."""
    task = asyncio.get_running_loop().create_task(cleanup)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return str(number)
