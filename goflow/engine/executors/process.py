"""Runs operators in separate processes: the server's side.

The rule that must not be broken: even if the process crashes, hangs or sends garbage, there is an
`Outcome`, and no process of its process group is left.

It is a new interpreter, not a fork: a fork would inherit locks held by other threads, connections,
the listening socket and the store. The two processes communicate over a socket: one request and
one answer, each as a length and that many bytes. The output of the task is the output of the
process, as for any program.
"""

import asyncio
import contextlib
import os
import signal
import socket
import struct
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any

import msgspec

from goflow import forks
from goflow.core.cost import summed
from goflow.core.execution import Failed, Outcome, Postponed, Skipped, Succeeded
from goflow.core.result import Format, Kept, StoredResult
from goflow.core.retry import CENTURY
from goflow.core.summary import WHY
from goflow.engine.executors import reports
from goflow.engine.executors.base import Run, Work
from goflow.errors import TaskFailed
from goflow.loading import is_loading
from goflow.operators.base import Context, Shared
from goflow.operators.deadline import real_work
from goflow.operators.meter import Meter
from goflow.operators.outcome import Outcome as HowItEnded
from goflow.operators.process_group import GRACE, uninterrupted
from goflow.operators.process_tag import ProcessTag, tagged
from goflow.operators.program import Program, signal_name

REPORTS = 0.25  # seconds between two looks for reports of the process
LENGTH = struct.Struct(">Q")
LINGER = 1.0  # seconds to wait for the answer after the process has ended
LOOKS = 10  # how often to check in that time
ERROR_ROOM = 256 * 1024  # bytes: more than the JSON of any error

# The code that the interpreter runs. It sets the path first, since all imports need it.
START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from goflow.engine.executors.child import main; main(int(sys.argv[2]))"
)


class Request(msgspec.Struct, frozen=True):
    """The request: the context, and the settings to copy from this process. The packed operator
    follows it."""

    job: str
    task: str
    execution_id: str
    attempt: int
    params: Mapping[str, Any]
    results: Mapping[str, Any]
    scheduled_at: datetime | None
    submitted_at: datetime
    process_tag: str
    item: Any
    index: int | None
    started_at: datetime | None
    waited: float
    timezone: str
    outcome: HowItEnded | None
    interval_start: datetime | None
    interval_end: datetime | None
    has_state: bool
    argv: list[str]
    max_result: int  # bytes of JSON
    format: Format
    objects: Mapping[str, StoredResult]
    artifacts: str  # their address
    max_artifact: int  # bytes
    reports: int  # descriptor, see `goflow.engine.executors.reports`


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer: an error, why it was skipped, the seconds until the next look and why, or a
    result as JSON. A task is not retried after a `final` error."""

    result: msgspec.Raw = msgspec.Raw(b"null")
    error: str | None = None
    final: bool = False
    seconds: Annotated[float, msgspec.Meta(ge=0, le=CENTURY)] | None = None
    why: str = ""
    skipped: str | None = None
    kept: Kept | None = None


class Ask(msgspec.Struct, frozen=True):
    """A message before the answer: "dispatch" of an action to the shared state, or a look at the
    "state"."""

    ask: str
    action: msgspec.Raw = msgspec.Raw(b"null")


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """The reply to an `Ask`: the state, or an error."""

    state: msgspec.Raw = msgspec.Raw(b"null")
    error: str | None = None


ASKS = b'{"ask":'  # the beginning of an `Ask`


class ProcessExecutor:
    """Implements `Executor`: each attempt gets a new interpreter. After a crash of the server no
    run is left, since each ends when its socket is closed."""

    shares_process = False

    async def start(self, work: Work, /) -> Run:
        if is_loading():
            raise TaskFailed(
                "a program that is being loaded cannot start processes for its tasks; "
                'put code that runs jobs under if __name__ == "__main__":'
            )
        return ProcessRun(work)

    async def find(self, tag: ProcessTag, /) -> Run | None:
        return None


class ProcessRun:
    """A process that runs the operator in `work.operator`, pickled by `operators.pickling`."""

    def __init__(self, work: Work) -> None:
        self._pickled: bytes = work.operator
        self._work = work
        self._context = work.context
        self._max_result = work.max_result
        with contextlib.ExitStack() as opened:
            self._ours, theirs = socket.socketpair()
            opened.enter_context(self._ours)
            self._ours.setblocking(False)
            opened.enter_context(forks.withheld(lambda: [self._ours.fileno()]))
            self._reports = reports.create()
            opened.callback(os.close, self._reports)
            opened.enter_context(forks.withheld(lambda: [self._reports]))
            with theirs:
                self._program = self._start(self._context, theirs.fileno())
            self._opened = opened.pop_all()

    async def hear(self) -> Outcome:
        context, program = self._context, self._program
        with self._opened, self._read_reports(context.meter):
            talk = asyncio.get_running_loop().create_task(self._talk(self._ours, context))
            try:
                with real_work(program.has_exited):
                    answer = await self._await_end(program, talk, context)
            finally:
                talk.cancel()
                try:
                    if program.group.alive():
                        await uninterrupted(program.group.end(context.log.warning))
                finally:
                    program.close()
                    if context.meter is not None:
                        context.meter.used(*program.cost)
        if answer is None:
            return Failed(_reason(program.returncode))
        return self._outcome(answer)

    @contextlib.contextmanager
    def _read_reports(self, meter: Meter | None) -> Iterator[None]:
        """Look for progress and counts while the block runs, and at its end."""
        if meter is None:
            yield
            return
        loop, before, number = asyncio.get_running_loop(), dict(meter.counts or {}), 0
        timer: asyncio.TimerHandle

        def look() -> None:
            nonlocal number, timer
            number, told = reports.read(self._reports, number)
            if told is not None:
                meter.take(told.bar, summed(before, told.counts))
            timer = loop.call_later(REPORTS, look)

        timer = loop.call_later(REPORTS, look)
        try:
            yield
        finally:
            timer.cancel()
            look()
            timer.cancel()

    def end(self) -> "asyncio.Future[None] | None":
        return None  # `hear` has ended the process when it was cancelled

    def _start(self, context: Context, fd: int) -> Program:
        path = msgspec.json.encode([entry or os.getcwd() for entry in sys.path]).decode()
        # The last argument is a label for the list of processes.
        label = f"goflow task {context.job}/{context.task}"
        return Program(
            [sys.executable, "-c", START, path, str(fd), label],
            env=tagged(context.process_tag),
            cwd=None,
            log=context.log,
            pass_fds=(fd, self._reports),
        )

    async def _await_end(
        self, program: Program, talk: "asyncio.Task[bytes | None]", context: Context
    ) -> bytes | None:
        """Wait for the process to end; returns its answer, or None without one."""
        await asyncio.wait([talk, program.ended], return_when=asyncio.FIRST_COMPLETED)
        if not talk.done():  # the answer may be in transit; a child may hold the socket open
            for _ in range(LOOKS):  # more than one, since a busy loop checks late
                await asyncio.wait([talk], timeout=LINGER / LOOKS)
            return talk.result() if talk.done() else None
        answer = talk.result()
        if answer is None:  # it has closed the socket, perhaps along with all its descriptors
            await program.ended
        else:
            await asyncio.wait([program.ended], timeout=GRACE)
            if not program.ended.done() and program.group.alive():
                context.log.warning(f"still there {GRACE:g} s after the task's end; ending it")
        return answer

    async def _talk(self, ours: socket.socket, context: Context) -> bytes | None:
        """Send the request; returns the answer, or None if the socket closes without one."""
        loop = asyncio.get_running_loop()
        try:
            for part in (self._request(context), self._pickled):
                await loop.sock_sendall(ours, LENGTH.pack(len(part)) + part)
            while (told := await self._told(ours)) is not None:
                if context.shared is None or not told.startswith(ASKS):
                    return told
                reply = await _reply(context.shared, told)
                await loop.sock_sendall(ours, LENGTH.pack(len(reply)) + reply)
        except ConnectionError:
            pass
        return None

    async def _told(self, ours: socket.socket) -> bytes | None:
        """The next message; None if the socket closes before its end."""
        loop = asyncio.get_running_loop()
        received = b""
        wanted = LENGTH.size
        while len(received) < wanted:
            data = await loop.sock_recv(ours, 256 * 1024)
            if not data:
                return None
            received += data
            if wanted == LENGTH.size <= len(received):
                (length,) = LENGTH.unpack_from(received)
                if length > self._max_result + ERROR_ROOM:
                    return b""  # too long for a valid answer
                wanted += length
        return received[LENGTH.size :]

    def _request(self, context: Context) -> bytes:
        fields = {name: getattr(context, name) for name in CONTEXT}
        artifacts = context.artifacts
        request = Request(
            **fields,
            has_state=context.shared is not None,
            argv=sys.argv,
            max_result=self._max_result,
            format=self._work.format,
            objects=self._work.objects,
            artifacts="" if artifacts is None else artifacts.address,
            max_artifact=0 if artifacts is None else artifacts.limit,
            reports=self._reports,
        )
        return msgspec.json.encode(request)

    def _outcome(self, told: bytes) -> Outcome:
        try:
            answer = msgspec.json.decode(told, type=Answer)
            msgspec.json.decode(answer.result)
        except (msgspec.MsgspecError, RecursionError):
            return Failed("the task's process sent an invalid answer")
        if answer.error is not None:
            return Failed(answer.error, answer.final)
        if answer.seconds is not None:
            return Postponed(answer.seconds, answer.why)
        if answer.skipped is not None:
            return Skipped(answer.skipped[:WHY])
        if len(answer.result) > self._max_result:
            return Failed(f"the task's process sent a result of {len(answer.result)} bytes")
        return Succeeded(answer.result, kept=answer.kept)


# The fields of the request that the context has, too.
CONTEXT = [
    name
    for name in Request.__struct_fields__
    if name in Context.__struct_fields__ and name not in ("artifacts", "objects")
]


async def _reply(shared: Shared, told: bytes) -> bytes:
    try:
        asked = msgspec.json.decode(told, type=Ask)
        if asked.ask == "dispatch":
            await shared.dispatch(msgspec.json.decode(asked.action))
        reply = Reply(msgspec.Raw(msgspec.json.encode(shared.state())))
    except (TaskFailed, msgspec.MsgspecError) as error:
        reply = Reply(error=str(error))
    return msgspec.json.encode(reply)


def _reason(code: int | None) -> str:
    if code is None:
        return "the task's process could not be ended"
    if code >= 0:
        return f"the task's process ended with exit code {code} before the task did"
    if -code == signal.SIGKILL:
        return "the task's process was killed by signal SIGKILL (out of memory?)"
    return f"the task's process was ended by signal {signal_name(-code)}"
