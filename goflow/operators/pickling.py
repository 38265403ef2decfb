"""Pickles operators for separate processes.

The rule that must not be broken: an operator that cannot be pickled is refused when its job is
registered, never when it runs.

Objects that another interpreter can import are pickled by name. Others (the program itself, nested
functions, cells of a notebook) are pickled by value, with everything they refer to.
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
from goflow.loading import programs
from goflow.operators.function import FunctionOperator

SIZE_LIMIT = 16 * 1024 * 1024  # bytes
TEXT_LIMIT = 256 * 1024  # characters of source text that is in no file


def dump(value: object, where: str) -> bytes:
    """Pickle a value for another interpreter, which reads it with `load`.

    Raises `InvalidJob`; `where` begins the message.
    """
    if not sys.executable:
        raise InvalidJob(
            f"{where} cannot run in a separate process: "
            "this program does not know where its Python interpreter is"
        )
    try:
        pickled = _dump(value)
    except Exception as error:  # users' classes may raise anything when pickled
        raise InvalidJob(
            f"{where} cannot be sent to a separate process: {error}; open files, "
            "connections and locks cannot be sent: create them inside the task, or move it "
            "into a module that can be imported"
        ) from error
    if len(pickled) > SIZE_LIMIT:
        raise InvalidJob(
            f"{where} holds {len(pickled)} bytes that would be sent to its process, more than "
            f"{SIZE_LIMIT}; let the task read its data itself"
        )
    return pickled


def load(pickled: bytes) -> Any:
    """The value that `dump` pickled. Raises whatever the user's modules raise when imported."""
    return pickle.loads(pickled)


def dump_by_value(value: object) -> bytes:
    """Pickle a value; objects that another interpreter cannot import are pickled by value."""
    return _dump(value)


def _dump(value: object) -> bytes:
    by_value: set[str] = set()
    while True:
        written = io.BytesIO()
        pickler = _Pickler(written)
        with _pickled_by_value(by_value):
            pickler.dump(value)
        unknown = {name for name in pickler.named - by_value if not _importable(name)}
        if not unknown:
            return written.getvalue()
        by_value |= unknown


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Records the modules that are pickled by name."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.named: set[str] = set()

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, type) and "__msgspec_cache__" in vars(obj):
            type.__delattr__(
                obj, "__msgspec_cache__"
            )  # it cannot be pickled; msgspec makes it anew
        if isinstance(obj, types.FunctionType | type) and obj.__module__ in sys.modules:
            self.named.add(obj.__module__)
            if isinstance(obj, types.FunctionType) and _is_replaced_by_task(obj):
                return _function_of_task, (obj.__module__, obj.__name__)
        elif isinstance(obj, types.ModuleType):
            self.named.add(obj.__name__)
        elif isinstance(obj, types.CodeType):
            return self._code(obj)
        return super().reducer_override(obj)

    def _code(self, code: types.CodeType) -> Any:
        """A code object with the name of its file, which cloudpickle leaves out and tracebacks
        need. Source text that is in no file, such as a notebook's cell, goes along."""
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


def _is_replaced_by_task(function: types.FunctionType) -> bool:
    """Whether importing the function by its name gives the task that `@job.task` made of it."""
    name = function.__module__
    if name == "__main__" or not _importable(name):
        return False
    task = getattr(sys.modules[name], function.__name__, None)
    operator = getattr(task, "operator", None)
    return isinstance(operator, FunctionOperator) and operator.function is function


def _function_of_task(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name).operator.function


@contextmanager
def _pickled_by_value(names: Iterable[str]) -> Iterator[None]:
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
    """Whether another interpreter with the same path finds the same module by this name."""
    if name in programs:
        return False
    file = getattr(sys.modules.get(name), "__file__", None)
    # cloudpickle always pickles __main__ by value; other modules need not be Python files
    if name == "__main__" or not str(file).endswith(".py"):
        return True
    return _file_of(name) in (file, "frozen")


@functools.lru_cache(1000)
def _file_of(name: str) -> str | None:
    """The file that an import of the module would read."""
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
