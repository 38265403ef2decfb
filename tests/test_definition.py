"""The place of a job's definition, and its code at the time of registration."""

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import indent
from types import ModuleType

import pytest

from goflow import Command, Goflow, Job, MemoryStore, Task
from goflow.job.source import SOURCE_LIMIT, Source

TASKS = '[Task("t", Command("true"))]'
HEAD = """\
from functools import partial, wraps
from goflow import Command, Goflow, Job, Task

gf = Goflow(store=STORE, ui_path=None)
"""
MODULE = f"""\
job = Job("module",
          tasks={TASKS})

LIMIT = 3

@job.task
def check():
    return LIMIT
"""
AGAIN = f"""\
job = Job("again", tasks={TASKS})
"""
MADE = f"""\
def made(name="made"):
    # returns one
    return Job(name, tasks={TASKS})
"""
LAMBDA = """\
gf.add_job(lambda: made("lambda"))
"""
OWN = """\
@logged
def decorated():
    # indented
    return Own("own")
"""
METHOD = """\
def method(self):
    return made("method")
"""
LOOP = f"""\
for name in ("x", "y"):
    gf.add_job(Job(name, tasks={TASKS}))
"""
PROGRAM = f"""\
{HEAD}
{MODULE}
gf.add_job(job)
unrelated = 1

{AGAIN}
gf.add_job(job)

{MADE}
gf.add_job(made)
gf.add_job(partial(made, "partial"))
gf.add_job(made("object"))
{LAMBDA}
class Own(Job):
    def __init__(self, name):
        super().__init__(name, tasks={TASKS})

def logged(function):
    @wraps(function)
    def call():
        return function()
    return call

class Factory:
{indent(OWN, "    ")}
{indent(METHOD, "    ")}
gf.add_job(Factory.decorated)
gf.add_job(Factory().method)
{LOOP}
"""
SHOWN = {
    "module": MODULE,
    "again": AGAIN,
    "made": MADE,
    "partial": MADE,
    "object": MADE,
    "lambda": LAMBDA,
    "own": OWN,
    "method": METHOD,
    "x": LOOP,
    "y": LOOP,
}


def line(text: str) -> int:
    """The number of the first line of the program that begins with this text."""
    lines = PROGRAM.splitlines()
    return next(n for n, each in enumerate(lines, 1) if each.strip().startswith(text))


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Runs a program from a file below the working directory."""
    (tmp_path / "jobs").mkdir()
    monkeypatch.chdir(tmp_path)

    def load(text: str) -> ModuleType:
        path = tmp_path / "jobs" / "program.py"
        path.write_text(text, encoding="utf-8")
        module = ModuleType("program")
        vars(module)["STORE"] = MemoryStore()
        exec(compile(text, str(path), "exec"), vars(module))
        return module

    return load


def test_the_code_of_a_job_includes_related_statements(
    load: Callable[[str], ModuleType],
) -> None:
    jobs = load(PROGRAM).gf.jobs
    assert {job.name: job.definition.source().text for job in jobs} == SHOWN
    for job in jobs:
        found = job.definition.source()
        assert job.definition.file == os.path.join("jobs", "program.py")
        first = SHOWN[job.name].splitlines()[0]
        assert found.line == line(first)
        assert not found.truncated


def test_the_line_is_the_call_or_the_function(
    load: Callable[[str], ModuleType],
) -> None:
    lines = {job.name: job.definition.line for job in load(PROGRAM).gf.jobs}
    assert lines["module"] == line('job = Job("module"')
    assert lines["made"] == lines["partial"] == line("def made")
    assert lines["object"] == line("return Job(name")
    assert lines["own"] == line("@logged")


def test_an_edit_after_the_job_was_registered_is_not_shown(
    load: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    gf = load(PROGRAM).gf
    (tmp_path / "jobs" / "program.py").write_text("secret = 1\n" * 1000)
    assert {job.name: job.definition.source().text for job in gf.jobs} == SHOWN


def test_long_code_is_truncated(load: Callable[[str], ModuleType]) -> None:
    long = MADE.replace("    return", f'    "{"é" * SOURCE_LIMIT}"\n    return')
    [job] = [job for job in load(PROGRAM.replace(MADE, long)).gf.jobs if job.name == "made"]
    found = job.definition.source()
    assert found.truncated
    assert SOURCE_LIMIT - 4 < len(found.text.encode()) <= SOURCE_LIMIT
    assert found.text.startswith('def made(name="made"):\n')


def test_code_without_a_file_has_no_text() -> None:
    space = {"Job": Job, "Command": Command, "Task": Task}
    exec('job = Job("typed", tasks=[Task("t", Command("true"))])', space)
    job = space["job"]
    assert isinstance(job, Job)
    gf = Goflow(MemoryStore(), ui_path=None)
    gf.add_job(job)
    assert job.definition.file is job.definition.line is None
    assert job.definition.source() == Source(None, "", False)


def test_a_factory_that_is_no_function_has_the_place_of_the_job() -> None:
    class Maker:
        def __call__(self) -> Job:
            return Job("made by an object", tasks=[Task("t", Command("true"))])

    for maker in (Maker(), functools.partial(Maker())):
        gf = Goflow(MemoryStore(), ui_path=None)
        job = gf.add_job(maker)
        assert job.definition.source().text.startswith("def __call__(self)")


def test_a_deleted_working_directory_causes_no_error(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    program = (
        "import os; from goflow import Command, Job, Task; os.rmdir(os.getcwd())\n"
        "job = Job('j', tasks=[Task('t', Command('true'))]); job.seal()\n"
        "print(job.definition.source())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path / "gone",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.startswith("Source(")
