"""Gives every task its own sys.stdout and sys.stderr; its changes to them affect no other code.

The rule that must not be broken: outside tasks nothing changes. Streams are the original ones, and
code outside tasks that replaces one replaces it for all such code, also after the capture.

`print` and the interpreter look streams up in the module's dictionary, which holds one object for
the time of the capture. Other code reads and sets attributes of the module, as
`contextlib.redirect_stdout` does; there a property distinguishes the tasks.
"""

import codecs
import importlib
import io
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from goflow.engine.current import UNSET, Own, current_log
from goflow.operators.base import Log

STREAMS = ("stdout", "stderr")

_routes: "dict[str, Route]" = {}  # while tasks are captured


def route() -> Callable[[], None]:
    """Send the output of tasks to their logs. Returns the undo function."""
    plain = type(sys)
    routes = {name: Route(name) for name in STREAMS}
    properties: dict[str, Any] = {}
    for name, one in routes.items():
        properties[name] = property(one.get, one.put, one.delete)
        properties[f"__{name}__"] = property(one.get_raw, one.put_raw)
        sys.__dict__[name] = one.front
    # A pickled operator may refer to the module.
    properties["__reduce__"] = lambda module: (importlib.import_module, (module.__name__,))
    routed = type("RoutedModule", (plain,), properties)
    sys.__class__ = routed
    _routes.update(routes)

    def undo() -> None:
        _routes.clear()
        if type(sys) is routed:
            sys.__class__ = plain
        for name, one in routes.items():
            if sys.__dict__[name] is one.front:
                sys.__dict__[name] = one.outside()

    return undo


def originals() -> dict[str, list[Any]]:
    """The streams of code outside tasks, by the names of `STREAMS`."""
    found = {name: [sys.__dict__[f"__{name}__"]] for name in STREAMS}
    for name, route in _routes.items():
        found[name].append(route.base.original)
    return found


def reopen(opened: dict[str, Any]) -> None:
    """In a fork of this process: put other streams in their place."""
    for name, stream in opened.items():
        sys.__dict__[f"__{name}__"] = stream
        if (route := _routes.get(name)) is not None:
            route.base.original = stream


class Route:
    """One of the streams: `print` finds `front`, and code that reads the attribute finds `base`."""

    def __init__(self, name: str) -> None:
        self._raw = f"__{name}__"
        self._put: Own[Any] = Own()
        self.base = RoutedStream(sys.__dict__[name])
        self.front = Front(self.find)
        # Setting one of these undoes a redirection.
        self._known = [self.base, self.front, self.base.original, sys.__dict__[self._raw]]

    def find(self) -> Any:
        """The stream of the calling code."""
        put = self._put.get()
        return self.base if put is UNSET else put

    def get(self, module: Any) -> Any:
        return self.find()

    def put(self, module: Any, stream: Any) -> None:
        self._put.set(UNSET if any(stream is one for one in self._known) else stream)

    def delete(self, module: Any) -> None:
        self._put.set(None)

    def get_raw(self, module: Any) -> Any:
        """The original stream, which for tasks is their log."""
        return sys.__dict__[self._raw] if current_log.get() is None else self.base

    def put_raw(self, module: Any, stream: Any) -> None:
        sys.__dict__[self._raw] = stream

    def outside(self) -> Any:
        """The stream of code outside tasks after the capture."""
        put = self._put.get()
        return self.base.original if put is UNSET else put


class Front:
    """Passes everything on to the stream of the calling code."""

    def __init__(self, find: Callable[[], Any]) -> None:
        self._find = find

    def write(self, text: str) -> int:
        stream = self._find()
        return len(text) if stream is None else stream.write(text)

    def flush(self) -> None:
        if (stream := self._find()) is not None:
            stream.flush()

    def __iter__(self) -> Iterator[str]:
        return iter(self._find())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._find(), name)


class RoutedStream:
    """Sends a task's text to its log. Other text, and all other attributes, go to the original
    stream, which may be None.

    A task that closes or reconfigures the stream does not affect the original one.
    """

    def __init__(self, original: Any) -> None:
        self.original = original
        self._bytes: Own[BytesToLog] = Own()

    def write(self, text: str) -> int:
        log = current_log.get()
        if log is not None:
            if not isinstance(text, str):
                raise TypeError(f"write() argument must be str, not {type(text).__name__}")
            return log.write(text)
        return len(text) if self.original is None else self.original.write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if (log := current_log.get()) is not None:
            log.flush()
        elif self.original is not None:
            self.original.flush()

    def isatty(self) -> bool:
        """False inside a task, since a log shows no colours and no progress bars."""
        return self.original is not None and current_log.get() is None and self.original.isatty()

    def fileno(self) -> int:
        if self.original is None:
            raise io.UnsupportedOperation("fileno")
        number: int = self.original.fileno()
        return number

    @property
    def buffer(self) -> Any:
        """Takes bytes; a task's are decoded as UTF-8, with replacements."""
        log = current_log.get()
        if log is None:
            return self.original.buffer
        stream = self._bytes.get()
        if stream is UNSET:
            stream = BytesToLog(log)
            self._bytes.set(stream)
        return stream

    def detach(self) -> Any:
        return self.original.detach() if current_log.get() is None else self.buffer

    def close(self) -> None:
        if self.original is not None and current_log.get() is None:
            self.original.close()

    def reconfigure(self, **options: Any) -> None:
        if self.original is not None and current_log.get() is None:
            self.original.reconfigure(**options)

    def __enter__(self) -> "RoutedStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[str]:
        return iter(self.original)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)


class BytesToLog(io.RawIOBase):
    """A binary stream that writes text to a task's log."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        data = bytes(data)
        self._log.write(self._decode(data))
        return len(data)

    def flush(self) -> None:
        self._log.flush()

    def close(self) -> None:
        """Do nothing: the task's log stays open."""
