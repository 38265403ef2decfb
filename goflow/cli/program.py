"""Loads the jobs of a user's file without serving them.

The file is executed as a module with its own name, not as `__main__`, and with its folder first on
`sys.path`. So it can import its neighbours, and its classes can be pickled.
"""

import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from goflow import Goflow, InvalidJob, Job
from goflow.cli.terminal import Unusable
from goflow.loading import loading, programs

_OURS = str(Path(__file__).parent.parent)

file_argument: Callable[[Any], Any] = click.argument("file", metavar="FILE")


class NotLoaded(Unusable):
    """The file is invalid. `problems` has one line each, `details` is the user's traceback."""

    def __init__(self, *problems: str, details: str = "") -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
        self.details = details

    def show(self, file: Any = None) -> None:
        if self.details:
            click.echo(self.details, err=True, nl=False)
        for problem in self.problems:
            click.echo(f"Error: {problem}", err=True)


def load(target: str) -> Goflow:
    """The `Goflow` in a file, given as `main.py` or `main.py:name`, or a new one with its jobs.

    Raises `NotLoaded` for an invalid file, `Unusable` for a wrong name.
    """
    path, name = _parse(target)
    gf = _find(path, name, target, _execute(path))
    try:
        gf.engine.registry.check_after()
    except InvalidJob as error:
        raise NotLoaded(f"{path}: {error}") from None
    return gf


def _find(path: Path, name: str | None, target: str, module: ModuleType) -> Goflow:
    if name is not None:
        found = getattr(module, name, None)
        if not isinstance(found, Goflow):
            raise Unusable(f"{path}: {name!r} is not a Goflow")
        return found
    apps = {id(value): (name, value) for name, value in vars(module).items() if _is(value, Goflow)}
    if len(apps) > 1:
        names = [name for name, _ in apps.values()]
        raise NotLoaded(
            f"{path} has several Goflow objects, {', '.join(names)}; "
            f"choose one, such as {target}:{names[0]}"
        )
    if apps:
        gf: Goflow = next(iter(apps.values()))[1]
        return gf
    return _gather(path, module)


def find_job(gf: Goflow, target: str, name: str | None) -> Job:
    """The job with the given name, or the only one."""
    known = ", ".join(repr(job.name) for job in gf.jobs) or "none"
    if name is None and len(gf.jobs) == 1:
        return gf.jobs[0]
    if name is None:
        raise Unusable(f"name one of the jobs in {target}: {known}")
    for job in gf.jobs:
        if job.name == name:
            return job
    raise Unusable(f"there is no job {name!r} in {target}; it has {known}")


def _parse(target: str) -> tuple[Path, str | None]:
    path, name = Path(target), None
    if not path.exists() and target.rpartition(":")[2].isidentifier():
        head, separator, tail = target.rpartition(":")
        if separator:
            path, name = Path(head), tail
    if not path.exists():
        raise Unusable(f"there is no file {str(path)!r}")
    if not path.is_file():
        raise Unusable(f"{str(path)!r} is not a file")
    return path, name


def _execute(path: Path) -> ModuleType:
    full = path.resolve()
    sys.path.insert(0, str(full.parent))
    name = full.stem
    if name in sys.modules:  # the name of an imported module, such as goflow.py
        name = f"{name}_program"
    spec = importlib.util.spec_from_loader(name, SourceFileLoader(name, str(full)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    programs.add(name)
    try:
        with loading():
            spec.loader.exec_module(module)
    except InvalidJob as error:
        raise NotLoaded(f"{_place(error, path)}: {error}") from error
    except SystemExit as error:
        raise NotLoaded(f"{path} called sys.exit({error.code!r}) while it was loaded") from error
    except Exception as error:
        raise _unreadable(path, error) from error
    return module


def _is(value: object, kind: type) -> bool:
    """Like `isinstance`, but not fooled by an object with a `__class__` of its own."""
    return issubclass(type(value), kind)


def _gather(path: Path, module: ModuleType) -> Goflow:
    """A Goflow with the jobs in a file, and those that its functions return."""
    gf = Goflow()
    values = list({id(value): value for value in vars(module).values()}.values())
    held = [value for value in values if _is(value, Job)]
    names = {job.name for job in held}
    problems: list[str] = []
    for source in [*held, *filter(_makes_a_job, values)]:
        try:
            made = source if _is(source, Job) else source()
            if made is not source and _is(made, Job) and made.name in names:
                continue  # the module has already called this function
            gf.add_job(made)
        except InvalidJob as error:
            problems.append(f"{_place(error, path)}: {error}")
        except Exception as error:
            raise _unreadable(path, error) from error
    if problems:
        raise NotLoaded(*problems)
    if not gf.jobs:
        raise NotLoaded(
            f"{path} defines no jobs: it has no Goflow, no Job and no function `def name() -> Job`"
        )
    return gf


def _makes_a_job(value: Any) -> bool:
    if not callable(value) or isinstance(value, type) or not hasattr(value, "__code__"):
        return False
    code = value.__code__
    required = code.co_argcount - len(value.__defaults__ or ())
    named = code.co_kwonlyargcount - len(value.__kwdefaults__ or {})
    returned = value.__annotations__.get("return")
    if isinstance(returned, str):  # from __future__ import annotations
        returned = Job if returned.rpartition(".")[2] == "Job" else None
    return returned is Job and not required and not named and value.__name__[0] != "_"


# -- errors in the user's file --------------------------------------------------------


def _users(frames: Iterable[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    return [
        frame
        for frame in frames
        if not frame.filename.startswith((_OURS, "<frozen importlib", "<frozen runpy"))
    ]


def _unreadable(path: Path, error: Exception) -> NotLoaded:
    return NotLoaded(f"{path} failed to load: {_summary(error)}", details=_users_traceback(error))


def _place(error: Exception, path: Path) -> str:
    """The place of the error in the user's code, as file:line."""
    frames = _users(traceback.extract_tb(error.__traceback__))
    if not frames:
        return str(path)
    last = frames[-1]
    same = Path(last.filename) == path.resolve()
    return f"{path if same else last.filename}:{last.lineno}"


def _summary(error: Exception) -> str:
    last = traceback.format_exception_only(error)[-1].strip()
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__} in line {error.lineno}: {error.msg}"
    return last.splitlines()[0] if last else type(error).__name__


def _users_traceback(error: Exception) -> str:
    """The traceback without frames of goflow and of the import system."""
    whole = traceback.TracebackException.from_exception(error)
    at: traceback.TracebackException | None = whole
    seen = set()
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        at.stack = traceback.StackSummary.from_list(_users(at.stack))
        at = at.__cause__ or at.__context__
    return "".join(whole.format())
