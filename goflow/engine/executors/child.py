"""Runs one operator in this process, which `goflow.engine.executors.process` started for it.

The rule that must not be broken: this process does not outlive its task or its server. It ends
after its answer; on SIGTERM, which raises SystemExit in the task so that it can clean up; and,
in the same way, when the server closes the socket.

The operator runs in the main thread, and there is no other thread: it may fork and set signal
handlers, as a separate program may.
"""

import asyncio
import contextlib
import faulthandler
import fcntl
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable
from types import FrameType
from typing import Any

import msgspec

from goflow import forks
from goflow.artifacts.base import opened
from goflow.core.execution import Failed, Outcome, Postponed, Skipped, Succeeded
from goflow.engine.current import current_log
from goflow.engine.executors.base import Work
from goflow.engine.executors.outcomes import raised, run_sync, succeeded
from goflow.engine.executors.process import CONTEXT, LENGTH, Answer, Ask, Reply, Request
from goflow.engine.executors.reports import ReportingMeter
from goflow.engine.output.capture import captured
from goflow.engine.output.tasklog import Lines, Nowhere, encodable
from goflow.errors import TaskFailed
from goflow.loading import loading
from goflow.operators import pickling
from goflow.operators.actions import Done, encoded
from goflow.operators.base import Context
from goflow.operators.process_group import GRACE


def main(fd: int) -> None:
    """Answer one request on the socket `fd`, and return."""
    pid = os.getpid()
    os.set_inheritable(fd, False)
    log = OutputLog(os.dup(1))
    os.dup2(1, 2)  # one pipe, so that output to both stays in order
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    faulthandler.enable()
    server = socket.socket(fileno=fd)
    request = msgspec.json.decode(_receive(server), type=Request)
    packed = _receive(server)
    ending = Ending(server)
    sys.argv = request.argv
    shared = OfServer(server) if request.has_state else None
    artifacts = opened(request.artifacts, request.max_artifact) if request.artifacts else None
    fields = {name: getattr(request, name) for name in CONTEXT}
    objects = frozenset(request.objects)
    os.set_inheritable(request.reports, False)
    context = Context(
        log=log,
        artifacts=artifacts,
        objects=objects,
        shared=shared,
        meter=ReportingMeter(request.reports),
        **fields,
    )
    current_log.set(log)
    try:
        # Output of handlers to the streams of this process would be in the log twice.
        with captured(handlers_print_to=Nowhere()):
            outcome = _run(packed, context, request)
    except BaseException as error:
        forks.ends_here(pid, error)
        outcome = raised(error)
    forks.ends_here(pid)  # a child forked by async code of the operator
    if ending.told:
        ending.end()
    server.sendall(_answer(outcome))


def _run(packed: bytes, context: Context, request: Request) -> Outcome:
    with loading():
        operator, call = pickling.load(packed)
    work = Work(operator, call, context, request.max_result, request.format, request.objects)
    value = run_sync(work)
    return value if isinstance(value, Outcome) else asyncio.run(_awaited(value, work))


async def _awaited(value: Awaitable[Any], work: Work) -> Outcome:
    try:
        return succeeded(await value, work)
    except BaseException as error:  # a SystemExit would leave the loop, which would print it
        return raised(error)


def _answer(outcome: Outcome) -> bytes:
    match outcome:
        case Succeeded(result, kept=kept):
            answer = Answer(result, kept=kept)
        case Failed(error, final):
            answer = Answer(error=error, final=final)
        case Postponed(seconds, why):
            answer = Answer(seconds=seconds, why=why)
        case Skipped(why):
            answer = Answer(skipped=why)
        case _:
            answer = Answer(error="cancelled")
    encoded = msgspec.json.encode(answer)
    return LENGTH.pack(len(encoded)) + encoded


def _receive(server: socket.socket) -> bytes:
    (length,) = LENGTH.unpack(_exactly(server, LENGTH.size))
    return _exactly(server, length)


def _exactly(server: socket.socket, length: int) -> bytes:
    received = bytearray()
    while len(received) < length:
        data = server.recv(length - len(received))
        if not data:
            raise SystemExit("the server has gone")
        received += data
    return bytes(received)


class OfServer:
    """Implements `Shared` by questions to the server. It blocks, also in async code."""

    def __init__(self, server: socket.socket) -> None:
        self._server = server
        self._lock = threading.Lock()

    def state(self) -> Any:
        return self._asked(Ask("state"))

    def dispatch(self, action: Any) -> Awaitable[None]:
        self._asked(Ask("dispatch", msgspec.Raw(encoded(action))))
        return Done()

    def _asked(self, ask: Ask) -> Any:
        told = msgspec.json.encode(ask)
        with self._lock:
            self._server.sendall(LENGTH.pack(len(told)) + told)
            reply = msgspec.json.decode(_receive(self._server), type=Reply)
        if reply.error is not None:
            raise TaskFailed(reply.error)
        return msgspec.json.decode(reply.state)


class Ending:
    """Handles SIGTERM and the end of the server, without a thread."""

    def __init__(self, server: socket.socket) -> None:
        self.told = False
        self._server = server
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGIO, self._on_io)
        fcntl.fcntl(server, fcntl.F_SETOWN, os.getpid())
        flags = fcntl.fcntl(server, fcntl.F_GETFL)
        fcntl.fcntl(server, fcntl.F_SETFL, flags | os.O_ASYNC)
        self._on_io(signal.SIGIO, None)  # it may have gone already

    def _on_term(self, number: int, frame: FrameType | None) -> None:
        if not self.told:
            self.told = True
            raise SystemExit(128 + number)

    def _on_io(self, number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            if not self._server.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                signal.signal(signal.SIGIO, signal.SIG_IGN)
                # The server is gone, so a timer of the kernel ends this process in any case.
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.setitimer(signal.ITIMER_REAL, GRACE)
                os.killpg(0, signal.SIGTERM)

    def end(self) -> None:
        """End with the status of SIGTERM."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


class OutputLog(Lines):
    """Implements `goflow.operators.base.Log`: writes to a file descriptor, unbuffered."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._begun = False

    def write(self, text: str, /) -> int:
        with self._lock:
            self._write(text)
        return len(text)

    def line(self, text: str) -> None:
        with self._lock:
            begun = "\n" if self._begun else ""
            self._write(f"{begun}{text}\n")

    def _write(self, text: str) -> None:
        if text:
            self._begun = not text.endswith("\n")
            data = memoryview(encodable(text).encode())
            while data:
                data = data[os.write(self._fd, data) :]

    async def drain(self) -> None:
        return
