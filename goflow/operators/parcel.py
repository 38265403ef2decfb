"""Operators packed to be sent to a process of their own.

The rule that must not be broken: what cannot be sent is refused when the job is registered,
never when it runs.

What another interpreter can import is sent by its name. What it cannot (the program itself,
functions inside functions, a notebook's cells) is sent as it is, with what it refers to.
"""

import functools
import importlib
import importlib.machinery
import io
import linecache
import os
import pickle
import sys
import types
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

from goflow.errors import InvalidJob
from goflow.operators.function import FunctionOperator

SIZE_LIMIT = 16 * 1024 * 1024  # bytes
TEXT_LIMIT = 256 * 1024  # characters of a text that is in no file

programs: set[str] = set()
"""Names of modules that are a program which was read from its file: sent as they are, like
`__main__`, so that editing the file changes nothing of what was registered."""


def pack(value: object, where: str) -> bytes:
    """What `unpack` makes an equal value of. Raises `InvalidJob`; `where` begins the message."""
    if not sys.executable:
        raise InvalidJob(
            f"{where} cannot have a process of its own: "
            "this program does not know where its Python interpreter is"
        )
    try:
        packed = _pickled(value)
    except Exception as error:  # of the user's classes, whatever they do when pickled
        raise InvalidJob(
            f"{where} cannot be sent to a process of its own: {error}; open files, "
            "connections and locks cannot be sent: make them inside the task, or move it "
            "into a module that can be imported"
        ) from error
    if len(packed) > SIZE_LIMIT:
        raise InvalidJob(
            f"{where} holds {len(packed)} bytes that would be sent to its process, more than "
            f"{SIZE_LIMIT}; let the task read its data itself"
        )
    return packed


def unpack(packed: bytes) -> Any:
    """In the other interpreter. Raises whatever the user's modules raise when imported."""
    return pickle.loads(packed)


def _pickled(value: object) -> bytes:
    by_value: set[str] = set()
    while True:
        written = io.BytesIO()
        packer = _Packer(written)
        with _sent_as_they_are(by_value):
            packer.dump(value)
        unknown = {name for name in packer.named - by_value if not _importable(name)}
        if not unknown:
            return written.getvalue()
        by_value |= unknown


class _Packer(cloudpickle.Pickler):  # type: ignore[misc]
    """Takes note of the modules whose names are sent."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.named: set[str] = set()

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, types.FunctionType | type) and obj.__module__ in sys.modules:
            self.named.add(obj.__module__)
            if isinstance(obj, types.FunctionType) and _is_by_task(obj):
                return _function_of_task, (obj.__module__, obj.__name__)
        elif isinstance(obj, types.ModuleType):
            self.named.add(obj.__name__)
        elif isinstance(obj, types.CodeType):
            return self._code(obj)
        return super().reducer_override(obj)

    def _code(self, code: types.CodeType) -> Any:
        """With the name of its file, which cloudpickle leaves out, so that tracebacks are as they
        would be here; and with its text, if that is known here alone, as of a notebook's cell."""
        _, given = self.dispatch_table[types.CodeType](code)
        name = code.co_filename
        given = tuple(name if one == "<dynamic-code>" else one for one in given)
        lines = [] if os.path.exists(name) else linecache.getlines(name)
        return _make_code, (lines if sum(map(len, lines)) <= TEXT_LIMIT else [], *given)


def _make_code(lines: list[str], /, *given: Any) -> types.CodeType:
    code = types.CodeType(*given)
    if lines:
        size = sum(map(len, lines))
        linecache.cache[code.co_filename] = size, None, lines, code.co_filename
    return code


def _is_by_task(function: types.FunctionType) -> bool:
    """Whether a name that can be imported has become that of the function's task."""
    name = function.__module__
    if name == "__main__" or not _importable(name):
        return False
    task = getattr(sys.modules[name], function.__name__, None)
    operator = getattr(task, "operator", None)
    return isinstance(operator, FunctionOperator) and operator.function is function


def _function_of_task(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name).operator.function


@contextmanager
def _sent_as_they_are(names: Iterable[str]) -> Iterator[None]:
    ours = [sys.modules[name] for name in names]
    theirs = cloudpickle.list_registry_pickle_by_value()
    ours = [module for module in ours if module.__name__ not in theirs]
    for module in ours:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in ours:
            cloudpickle.unregister_pickle_by_value(module)


def _importable(name: str) -> bool:
    """Whether another interpreter with the same path finds this very module by its name."""
    if name in programs:
        return False
    file = getattr(sys.modules.get(name), "__file__", None)
    # __main__ is sent as it is in any case; what is no Python file is found in other ways
    if name == "__main__" or not str(file).endswith(".py"):
        return True
    return _file_of(name) in (file, "frozen")


@functools.lru_cache(1000)
def _file_of(name: str) -> str | None:
    """The file that an import of a module would read."""
    path: list[str] | None = None
    parts = name.split(".")
    spec: importlib.machinery.ModuleSpec | None = None
    for end in range(1, len(parts) + 1):
        part = ".".join(parts[:end])
        found = (finder.find_spec(part, path) for finder in sys.meta_path)
        spec = next((one for one in found if one is not None), None)
        if spec is None:
            return None
        path = (
            None
            if spec.submodule_search_locations is None
            else list(spec.submodule_search_locations)
        )
    return None if spec is None else spec.origin
