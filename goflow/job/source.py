"""The source code of a job's definition, for the API and the dashboard.

The rule that must not be broken: goflow reads only files whose code made a job. It reads them when
the job is registered, so it shows the code that runs even after an edit.
"""

import ast
import contextlib
import functools
import inspect
import linecache
import os
import sys
import textwrap
from types import FunctionType, MethodType
from typing import NamedTuple

SOURCE_LIMIT = 64 * 1024  # bytes


class Source(NamedTuple):
    """Source code that begins at `line` (from 1), cut after `SOURCE_LIMIT` bytes."""

    line: int | None
    text: str
    truncated: bool


class Definition:
    """The location of the code that made a job.

    `file` is relative if it is below the working directory. `file` and `line` are None if the code
    is in no file, for example in an interactive session.
    """

    def __init__(self, path: str, line: int) -> None:
        self._path = path
        self._lines: list[str] = []
        known = not path.startswith("<")
        self.file = _shown(path) if known else None
        self.line = line if known else None
        self._line = line

    @classmethod
    def of_caller(cls, made: object) -> "Definition":
        """The location of the call of `made`'s constructor. Call it in that constructor."""
        frame = sys._getframe(2)
        # skip the constructors of subclasses
        while frame.f_code.co_name == "__init__" and frame.f_locals.get("self") is made:
            assert frame.f_back is not None
            frame = frame.f_back
        return cls(frame.f_code.co_filename, frame.f_lineno)

    @classmethod
    def of_function(cls, function: object) -> "Definition | None":
        """The location of a function; None for other objects, unless they wrap a function."""
        while isinstance(function, functools.partial):
            function = function.func
        if callable(function):
            function = inspect.unwrap(function)
        if not isinstance(function, FunctionType | MethodType):
            return None
        code = function.__code__
        return cls(code.co_filename, code.co_firstlineno)

    def keep(self) -> None:
        """Read the file and keep its text."""
        self._lines = linecache.getlines(self._path)

    def source(self) -> Source:
        """The function that made the job. For a job made at module level, the statements from the
        first one about it to the last one. Empty if the code is unknown."""
        if not 1 <= self._line <= len(self._lines):
            return Source(self.line, "", truncated=False)
        try:
            begin, end = _extent(ast.parse("".join(self._lines)), self._line)
        except (SyntaxError, ValueError, RecursionError):  # the file was edited after the import
            begin, end = self._line, self._line
        text = textwrap.dedent("".join(self._lines[begin - 1 : end]))
        encoded = text.encode("utf-8", "replace")
        shown = encoded[:SOURCE_LIMIT].decode("utf-8", "ignore")
        return Source(begin, shown, truncated=len(encoded) > SOURCE_LIMIT)


def _shown(path: str) -> str:
    with contextlib.suppress(OSError):  # the working directory may be gone
        path = os.path.abspath(path).removeprefix(os.path.join(os.getcwd(), ""))
    return os.fsencode(path).decode("utf-8", "replace")  # a file name may be any bytes


def _extent(module: ast.Module, line: int) -> tuple[int, int]:
    """The first and the last line of the code to show for a line."""
    functions = [
        node
        for node in ast.walk(module)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _holds(node, line)
    ]
    if functions:
        innermost = max(functions, key=_first)
        return _first(innermost), _last(innermost)
    place = next((n for n, node in enumerate(module.body) if _holds(node, line)), None)
    if place is None:
        return line, line
    statement, following = module.body[place], module.body[place + 1 :]
    end = statement
    names = _assigned(statement)
    for other in following:
        if names & _assigned(other):
            break
        if names & _mentioned(other) and not _registers(other):
            end = other
    return _first(statement), _last(end)


def _holds(node: ast.stmt, line: int) -> bool:
    return _first(node) <= line <= _last(node)


def _first(node: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _last(node: ast.stmt) -> int:
    return node.end_lineno or node.lineno


def _assigned(statement: ast.stmt) -> set[str]:
    """The names that a simple assignment binds."""
    match statement:
        case ast.Assign(targets=targets):
            return {target.id for target in targets if isinstance(target, ast.Name)}
        case ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
    return set()


def _mentioned(statement: ast.stmt) -> set[str]:
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}


def _registers(statement: ast.stmt) -> bool:
    match statement:
        case ast.Expr(value=ast.Call(func=ast.Attribute(attr="add_job"))):
            return True
    return False
