"""A running program: reads its two pipes and waits for its end.

The rule that must not be broken: memory stays bounded, whatever the program prints.

asyncio's own transports are not used: a cancellation could lose the process at its start, and some
of them need a thread per child.
"""

import asyncio
import codecs
import contextlib
import functools
import os
import resource
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from goflow.errors import TaskFailed
from goflow.operators import open_files, unrunnable
from goflow.operators.base import Log
from goflow.operators.process_group import ProcessGroup

RESULT_LIMIT = 1024 * 1024  # bytes of JSON; longer output is cut to its head and tail
ERROR_LIMIT = 2000  # characters of stderr in the error
LINE = 16 * 1024  # characters of an unfinished line that are written to the log at once
MOMENT = 0.5  # seconds after which an unfinished line is written to the log
READ = 64 * 1024  # bytes at a time, the size of a pipe
DRAIN_EVERY = 256 * 1024  # bytes of output between two checks that the log keeps up
LOOK, LONGEST_LOOK = 0.002, 0.1  # seconds between two checks for the end
MEASURE, LONGEST_MEASURE = 0.02, 5.0  # seconds between two looks at the memory of a program
# getrusage(2) counts memory in KiB on Linux and the BSDs, and in bytes on macOS.
UNIT = 1 if sys.platform == "darwin" else 1024
LINGER = 0.25  # seconds: the longest of the doubling pauses (0.5 in all) in which processes left
# by the program may end on their own


class Program:
    """A program that runs, its process group and its two pipes.

    `ended` is done when the program has exited and its pipes are read to the end. If another
    process holds the pipes open, it is done a short time after the exit.
    """

    def __init__(
        self,
        args: list[str],
        *,
        env: dict[str, str],
        cwd: str | None,
        log: Log,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._log = log
        self._process = _spawn(args, env, cwd, pass_fds)
        # A new program inherits the peak of the process that started it, so a peak below this one
        # may not be its own.
        self._inherited = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self._usage: resource.struct_rusage | None = None
        self._seen_peak = 0  # bytes
        self._measure_again = MEASURE
        self._measuring = self._loop.call_later(MEASURE, self._measure)
        self.group = ProcessGroup(self._process)
        self.ended = self._loop.create_future()
        self._linger: asyncio.TimerHandle | None = None
        self._pause_length = 0.001
        self._draining: asyncio.Task[None] | None = None
        self._undrained = 0
        self._showing: asyncio.TimerHandle | None = None
        self._begun: Output | None = None  # the pipe whose unfinished line is in the log
        self.stdout = Output(self._process.stdout, self._say, RESULT_LIMIT // 2)
        self.stderr = Output(self._process.stderr, self._say, ERROR_LIMIT)
        self._open = [self.stdout, self.stderr]
        self._listen()
        self._pidfd = _watch(self._process, self._loop, self._exited, self.has_exited)

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
            if output.line and self._showing is None:
                self._showing = self._loop.call_later(MOMENT, self._show)
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

    def _say(self, output: "Output", text: str) -> None:
        """Write to the log: whole lines, or a line that has been unfinished for a while."""
        if self._begun is not None and self._begun is not output:
            text = f"\n{text}"
        self._begun = None if text.endswith("\n") else output
        self._log.write(text)

    def _show(self) -> None:
        self._showing = None
        self.stdout.show()
        self.stderr.show()

    # -- the end -------------------------------------------------------------------

    def _exited(self) -> None:
        if self.has_exited():
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
        if not self._open and not self.group.alive():
            self.ended.set_result(None)
        elif self._linger is None:
            self._linger = self._loop.call_later(self._pause_length, self._lingered)

    def _lingered(self) -> None:
        self._linger = None
        if self._draining is None:  # otherwise the output is still being read
            self._pause_length *= 2
        if self._pause_length <= LINGER or self.ended.done():
            self._check()
            return
        if self.group.alive():
            self._log.warning("the program ended but left processes behind; ending them")
        elif self._open:
            self._log.warning("the program ended but a process elsewhere holds its output open")
        self.ended.set_result(None)

    def close(self) -> None:
        """Read the pipes a last time and close them."""
        for timer in (self._linger, self._showing, self._measuring):
            if timer is not None:
                timer.cancel()
        if self._draining is not None:
            self._draining.cancel()
        self._pause()
        for output in self._open:
            with contextlib.suppress(BlockingIOError):
                output.feed(os.read(output.fd, READ))
        self._unwatch()
        self.group.release()
        self.stdout.close()
        self.stderr.close()

    def has_exited(self) -> bool:
        """Whether the program has exited, even if the event loop has not been notified."""
        process = self._process
        if process.returncode is None:
            # Popen would not tell the cost of the program.
            try:
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            except ChildProcessError:  # somebody else has waited for it
                return process.poll() is not None
            if pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                self._usage = usage
                self._measuring.cancel()
        return process.returncode is not None

    def _measure(self) -> None:
        """Look at the peak of the program's memory, which nobody tells after its end."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            status = Path(f"/proc/{self._process.pid}/status").read_bytes()
            self._seen_peak = 1024 * int(status.split(b"VmHWM:", 1)[1].split(None, 1)[0])
        self._measure_again = min(2 * self._measure_again, LONGEST_MEASURE)
        self._measuring = self._loop.call_later(self._measure_again, self._measure)

    @property
    def cost(self) -> tuple[float, int]:
        """The processor time of the program and of those it waited for, in seconds, and the peak of
        its memory in bytes; 0 where they are unknown."""
        if (usage := self._usage) is None:
            return 0.0, self._seen_peak
        peak = usage.ru_maxrss if usage.ru_maxrss > self._inherited else 0
        return usage.ru_utime + usage.ru_stime, max(peak * UNIT, self._seen_peak)

    @property
    def returncode(self) -> int | None:
        """The exit code, or the negated number of the signal; None while it runs."""
        return self._process.returncode

    @property
    def exit_code(self) -> int | None:
        """The exit code, of a program ended by a signal as a shell gives it; None while it runs."""
        code = self._process.returncode
        return code if code is None or code >= 0 else 128 - code

    def failure(self) -> str | None:
        """Why the program failed; None if it succeeded."""
        code = self._process.returncode
        if code == 0:
            return None
        if code is None:
            reason = "the program could not be ended"
        elif code > 0:
            reason = f"exit code {code}"
        else:
            reason = f"killed by signal {signal_name(-code)}"
        stderr = self.stderr.kept_tail(ERROR_LIMIT).strip()
        return f"{reason}: {stderr}" if stderr else reason


class Output:
    """One of a program's pipes. Its text goes to the log, and its first and last `half` characters
    are kept.
    """

    def __init__(self, pipe: Any, say: "Callable[[Output, str], None]", half: int) -> None:
        self.fd: int = pipe.fileno()
        os.set_blocking(self.fd, False)
        self.line = ""  # an unfinished line that is not in the log yet
        self._pipe = pipe
        self._say = say
        self._half = half
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
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
            self._say(self, self.line + text[:end])
            self.line = text[end:]
        else:
            self.line += text
        if len(self.line) >= LINE:
            self.show()

    def show(self) -> None:
        """Write the unfinished line to the log. Later output continues it."""
        if self.line:
            self._say(self, self.line)
            self.line = ""

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
        if self.line:
            self._say(self, f"{self.line}\n")
            self.line = ""
        self._pipe.close()

    def kept(self, limit: int) -> str:
        """The text, cut in the middle to at most `limit` bytes as JSON."""
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
        """The last `limit` characters of the text."""
        text = "".join(self._head) + "".join(self._tail)
        return text if not self._cut and len(text) <= limit else f"…{text[-limit:]}"


def _spawn(
    args: list[str], env: dict[str, str], cwd: str | None, pass_fds: Sequence[int]
) -> "subprocess.Popen[bytes]":
    try:
        return open_files.start_as_given(
            lambda: subprocess.Popen(
                args,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                cwd=cwd,
                env=env,
                pass_fds=pass_fds,
                **_of_its_own(),
            )
        )
    except OSError as error:
        program = args[0]
        if cwd is not None and error.filename == cwd:
            reason = f"cannot run {program!r} in {cwd!r}: {unrunnable.why_not_in(error, cwd)}"
        else:
            reason = f"cannot run {program!r}: {unrunnable.why(error, args, env, cwd)}"
        if len(args) == 1 and " " in program:
            reason += "; arguments belong in args, a line of shell in Command.shell"
        raise TaskFailed(reason) from None


@functools.cache
def _of_its_own() -> dict[str, Any]:
    """The options of `Popen` that give a program a process group of its own.

    With a terminal it gets a session of its own too, since a program that asks a question on the
    server's terminal would wait for ever. Without a terminal a group is enough, and starts 3 times
    faster on a busy Linux, whose scheduler gives each session its own share (sched(7)).
    """
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return {"process_group": 0}
    return {"start_new_session": True}


def _watch(
    process: "subprocess.Popen[bytes]",
    loop: asyncio.AbstractEventLoop,
    exited: Callable[[], None],
    has_exited: Callable[[], bool],
) -> int | None:
    """Call `exited` on the loop when the process has ended. Returns its pidfd, if it has one."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # not Linux, an old Linux, or too many open files
        loop.call_later(LOOK, _look, loop, exited, has_exited, LOOK)
        return None
    loop.add_reader(pidfd, exited)
    return pidfd


def _look(
    loop: asyncio.AbstractEventLoop,
    exited: Callable[[], None],
    has_exited: Callable[[], bool],
    pause: float,
) -> None:
    """Poll for the end of a process. A thread may not be available, and a started program must
    not be lost."""
    if has_exited():
        exited()
    else:
        loop.call_later(pause, _look, loop, exited, has_exited, min(2 * pause, LONGEST_LOOK))


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return str(number)
