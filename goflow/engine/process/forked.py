"""Handles children that a task forks from the server's process.

The rule that must not be broken: a child prints into its task's log and can be found and ended
like a program of the task, and it never touches the server's event loop.

Its standard output and error are a pipe to the log, one for all children of an attempt, so that
what C code and programs print gets there as well. It has the attempt's process tag in its
environment, for the programs it starts. Other processes still see the server's environment there,
so it also holds a descriptor named by the tag, and has a process name that a scan looks for.
"""

import asyncio
import codecs
import contextlib
import io
import logging
import os
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from goflow import forks
from goflow.engine.current import current_log
from goflow.engine.output import streams
from goflow.engine.output.tasklog import LINE, TaskLog
from goflow.operators.base import Log
from goflow.operators.process_tag import tag_fork

READ = 64 * 1024  # bytes at a time: what a pipe holds
NUMBERS = dict(zip(streams.STREAMS, (1, 2), strict=True))
DRAIN_EVERY = 256 * 1024  # bytes between two looks at whether the log keeps up

unfinished: set[str] = set()  # tags of attempts that have forked and may fork again
_listening: "weakref.WeakSet[Children]" = weakref.WeakSet()
_tags: dict[Log, str] = {}  # of the attempts that run in this process
_of_logs: "dict[Log, Children]" = {}  # of attempts that have forked, or whose thread is abandoned


class Children:
    """The children of one attempt, created at its first fork, from any thread. Closed on the event
    loop."""

    def __init__(self, log: TaskLog, tag: str) -> None:
        self._log = log
        self._tag = tag
        self._loop = log.loop
        self._lock = threading.Lock()  # never taken in a child, where another may hold it
        self._ours = self._theirs = -1  # the ends of the pipe, once it exists
        self._closed = False
        self.abandoned = False  # whether a thread of the ended attempt still runs
        self._line = ""  # unfinished
        self._undrained = 0
        self._draining: asyncio.Task[None] | None = None

    # -- around a fork, in the thread that makes it --------------------------------

    def before(self) -> None:
        with self._lock:
            if self._closed or self._ours >= 0:
                return
            unfinished.add(self._tag)
            try:
                self._ours, self._theirs = os.pipe()
            except OSError:  # out of descriptors: the child prints to the output of the server
                return
        os.set_blocking(self._ours, False)
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._give_up = forks.withhold(lambda: [self._ours, self._theirs])
        with contextlib.suppress(RuntimeError):  # the loop has closed
            self._loop.call_soon_threadsafe(self._listen)

    def in_child(self) -> None:
        tag_fork(self._tag)
        print_to(None if self._closed or self._theirs < 0 else self._theirs, self._log)

    # -- reading -------------------------------------------------------------------

    def _listen(self) -> None:
        if self._ours >= 0:
            _listening.add(self)
            self._loop.add_reader(self._ours, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._ours, READ)
        except BlockingIOError:
            return
        if not data:
            self._hang_up()
        elif not self._closed:  # otherwise it is discarded, so that the child is not blocked
            self._feed(data)
            self._undrained += len(data)
            if self._undrained >= DRAIN_EVERY:
                self._undrained = 0
                self._loop.remove_reader(self._ours)
                self._draining = self._loop.create_task(self._drain())

    async def _drain(self) -> None:
        await self._log.drain()
        self._draining = None
        if self._ours >= 0:
            self._loop.add_reader(self._ours, self._read)

    def _feed(self, data: bytes, final: bool = False) -> None:
        """Write whole lines, since lines of the task itself come in between."""
        *lines, self._line = (self._line + self._decode(data, final)).split("\n")
        if lines:
            self._log.line("\n".join(lines))
        if self._line and (final or len(self._line) > LINE):
            self._log.line(self._line)
            self._line = ""

    # -- the end -------------------------------------------------------------------

    def close(self) -> None:
        """The attempt has ended, but its log has not. Take the output up to now. Later output of
        surviving children is read and discarded, so that they are not blocked."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if not self.abandoned:
                self.forget()
            if self._ours < 0:
                return
            os.close(self._theirs)
            self._theirs = -1
        if self._draining is not None:
            self._draining.cancel()
        with contextlib.suppress(BlockingIOError):
            self._feed(os.read(self._ours, READ))
        self._feed(b"", final=True)
        self._listen()

    def forget(self) -> None:
        """The attempt cannot fork any more."""
        _of_logs.pop(self._log, None)
        unfinished.discard(self._tag)

    def _hang_up(self) -> None:
        self._loop.remove_reader(self._ours)
        with self._lock:
            self._give_up()
            os.close(self._ours)
            self._ours = -1
        _listening.discard(self)


def begin(log: TaskLog, tag: str) -> None:
    """An attempt begins, which may fork."""
    _tags[log] = tag


def end(log: TaskLog) -> None:
    """The attempt has ended, but its log has not; see `Children.close`."""
    _tags.pop(log, None)
    if (children := _of_logs.get(log)) is not None:
        children.close()


def abandon(log: Log, thread: "Future[Any]") -> None:
    """Note that a thread of the attempt outlives it, and may still fork."""
    if (children := _of(log)) is not None:
        children.abandoned = True
        thread.add_done_callback(lambda _: children.forget())


def _of(log: Log) -> Children | None:
    """The children of an attempt; None if it has ended."""
    children = _of_logs.get(log)
    if children is None and (tag := _tags.get(log)) is not None and isinstance(log, TaskLog):
        children = _of_logs.setdefault(log, Children(log, tag))
        if log not in _tags:  # it has ended meanwhile, perhaps without noticing them
            _of_logs.pop(log, None)
            return None
    return children


def _whose() -> Children | None:
    log = current_log.get()
    return None if log is None else _of(log)


forks.whose = _whose


# -- printing in a child -----------------------------------------------------------


def print_to(fd: int | None, log: TaskLog) -> None:
    """Redirect all output of this process and the task's log to a descriptor, or to the server's
    own output if it is None.

    Handlers configured by the user print to their original streams.
    """
    originals = streams.originals()
    for reference in list(logging._handlerList):  # type: ignore[attr-defined]
        handler = reference()
        if isinstance(handler, logging.StreamHandler):
            for name, number in NUMBERS.items():
                if handler.stream in originals[name]:
                    handler.stream = _stream(os.dup(number))
    if fd is not None:
        os.dup2(fd, 1)
        os.dup2(fd, 2)
    # Their buffers may hold text of the server, which the child must not print.
    forks.keep(originals)
    opened = {name: _stream(number) for name, number in NUMBERS.items()}
    streams.reopen(opened)
    log.become(opened["stdout"])


def _stream(fd: int) -> io.TextIOWrapper:
    buffered = io.BufferedWriter(_Patient(fd, "w", closefd=False))
    return io.TextIOWrapper(buffered, "utf-8", "backslashreplace", line_buffering=True)


class _Patient(io.FileIO):
    """Output of a child that ignores a closed pipe."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            return len(data)


def let_go(loop: asyncio.AbstractEventLoop) -> None:
    """Stop reading from children that outlive their attempts; the loop is about to close."""
    for children in [one for one in _listening if one._loop is loop]:
        children._hang_up()


# -- the event loop ----------------------------------------------------------------


@contextlib.contextmanager
def own(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Keep the loop's descriptors from forks, and end forks that wait on the loop, while inside."""
    with forks.disinherited(), forks.withheld(lambda: _descriptors_of(loop)):
        yield


def _descriptors_of(loop: Any) -> Iterator[int]:
    """In the child: all descriptors that asyncio's loop has open. It also ensures that the child
    ends if its code waits on the loop, where no event would ever arrive."""
    ready = getattr(loop, "_ready", None)
    if ready is None:  # another loop, such as uvloop's
        return
    ready.clear()
    ready.append(asyncio.Handle(_leave_loop, (), loop))
    selector = loop._selector
    yield selector.fileno()
    yield from selector.get_map() or ()
    for end in (loop._ssock, loop._csock):
        yield end.fileno()
    for transport in list(loop._transports.values()):
        if (socket := transport.get_extra_info("socket")) is not None:
            yield socket.fileno()


def _leave_loop() -> None:
    forks.leave_child(
        RuntimeError(
            "a forked child cannot wait on the event loop of the process it was forked from: "
            "give it its own loop with asyncio.run(), or end it with os._exit()"
        )
    )
