"""The house's walls: who may know whom, and who may ask the system what time it is.

Every import counts, wherever it stands. A module that has no room here fails: give it one.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "goflow"

# room -> the rooms it may know, besides itself
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "shown": set(),
    "checks": {"errors", "shown"},
    "plain": {"shown"},
    "typed": {"shown"},
    "zones": set(),
    "core": {"errors", "shown", "checks", "zones"},
    "loading": set(),
    "forks": set(),
    "templates": {"checks", "errors", "shown"},
    "operators": {
        "forks",
        "loading",
        "templates",
        "typed",
        "core",
        "checks",
        "errors",
        "plain",
        "shown",
    },
    "artifacts": {"operators", "core", "errors", "shown"},
    "stores": {"forks", "core", "errors"},
    "state": set(),
    "job": {
        "checks",
        "operators",
        "templates",
        "typed",
        "core",
        "errors",
        "plain",
        "shown",
        "state",
    },
    "engine": {
        "artifacts",
        "loading",
        "forks",
        "state",
        "job",
        "operators",
        "stores",
        "core",
        "checks",
        "errors",
        "plain",
        "shown",
    },
    "run": {"artifacts", "engine", "job", "operators", "state", "stores", "core", "errors"},
    "web": {
        "shown",
        "forks",
        "engine",
        "job",
        "operators",
        "stores",
        "core",
        "errors",
        "zones",
    },
    "examples": {"job", "operators", "core", "errors", "templates"},
    "app": {
        "checks",
        "shown",
        "loading",
        "web",
        "engine",
        "run",
        "examples",
        "job",
        "operators",
        "stores",
        "core",
        "errors",
        "zones",
    },
    "testing": {"run", "engine", "job", "operators", "stores", "core", "errors"},
    "": {"app", "web", "run", "job", "operators", "stores", "templates", "core", "errors"},
    "cli": {
        "loading",
        "",
        "app",
        "web",
        "run",
        "engine",
        "job",
        "operators",
        "stores",
        "core",
        "errors",
        "zones",
        "shown",
        "examples",
    },
    "__main__": {"cli"},
}

# (module, the room above it): why, and only inside a function or for type checkers
UPWARD = {
    ("goflow.job.job", "run"): "job.run() is the contract's shortest way to a run",
    ("goflow.web.routes", ""): "the version is the package's own, and it is asked for",
}

IMPURE = {
    "asyncio",
    "concurrent",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "secrets",
    "socket",
    "sqlite3",
    "subprocess",
    "threading",
    "time",
    "uuid",
}

# `time.sleep` reads no time: a command that polls a server has no loop to sleep on
SLEEPERS = "goflow.cli."

CLOCKS = {
    "time": {
        "time",
        "monotonic",
        "perf_counter",
        "process_time",
        "sleep",
        "thread_time",
        "localtime",
        "gmtime",
    },
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ("goflow", *path.relative_to(PACKAGE).with_suffix("").parts)
        name = ".".join(parts).removesuffix(".__init__")
        yield name, ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def room(module: str) -> str:
    return [*module.split("."), ""][1]


def imports(module: str, tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """What a module imports, by full name, and whether it does so when it is loaded."""

    def visit(node: ast.AST, at_once: bool) -> Iterator[tuple[str, bool]]:
        match node:
            case ast.Import():
                yield from ((alias.name, at_once) for alias in node.names)
            case ast.ImportFrom():
                assert node.level == 0, f"{module}: write imports in full"
                assert node.module
                if node.module == "goflow":
                    for alias in node.names:
                        below = (PACKAGE / alias.name).is_dir()
                        below = below or (PACKAGE / f"{alias.name}.py").exists()
                        yield (f"goflow.{alias.name}" if below else "goflow", at_once)
                else:
                    yield node.module, at_once
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                at_once = False
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                at_once = False
        for child in ast.iter_child_nodes(node):
            yield from visit(child, at_once)

    yield from visit(tree, True)


def turned_arrows(module: str, tree: ast.AST) -> list[str]:
    own = room(module)
    wrong = []
    for name, at_once in imports(module, tree):
        if name.split(".")[0] != "goflow" or room(name) == own:
            continue
        if room(name) in ROOMS[own] or ((module, room(name)) in UPWARD and not at_once):
            continue
        wrong.append(f"{module} must not know {name}")
    return wrong


def impurities(module: str, tree: ast.AST) -> list[str]:
    """What in the core is not pure. A source of randomness may be a default, and no more."""
    wrong = [
        f"{module} imports {name}"
        for name, _ in imports(module, tree)
        if name.split(".")[0] in IMPURE or (name == "random" and module != "goflow.core.retry")
    ]
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="random"), attr=function)):
                wrong.append(f"{module} calls random.{function}")
            case ast.ImportFrom(module="random"):
                wrong.append(f"{module} imports names from random")
            case ast.Call(func=ast.Name(id="open" | "input" | "print" as function)):
                wrong.append(f"{module} calls {function}")
    return wrong


def readings_of_time(module: str, tree: ast.AST) -> list[str]:
    """Where a module asks the system for the time, or an event loop for its own."""
    wrong = []
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module="time"):
                wrong.append(f"{module} imports names from time: write time.name")
            case ast.Import() if any(alias.name == "time" and alias.asname for alias in node.names):
                wrong.append(f"{module} calls time something else")
            case ast.Attribute(attr=attribute):
                owner = ast.unparse(node.value)
                last = owner.split(".")[-1]
                if attribute.removesuffix("_ns") in CLOCKS.get(last, ()):
                    if attribute == "sleep" and module.startswith(SLEEPERS):
                        continue
                    wrong.append(f"{module} reads {owner}.{attribute}")
                if attribute == "time" and "loop" in last:
                    wrong.append(f"{module} reads {owner}.time")
    return wrong


MODULES = list(modules())
MODULE = pytest.mark.parametrize(("module", "tree"), MODULES, ids=[name for name, _ in MODULES])


def test_every_module_has_a_room() -> None:
    assert {room(module) for module, _ in MODULES} <= set(ROOMS)


def test_the_rooms_are_a_hierarchy() -> None:
    """No room may know one that may know it, in however many steps."""
    above = dict(ROOMS)
    while above:
        lowest = {name for name, known in above.items() if not known & set(above)}
        assert lowest, f"these know each other: {set(above)}"
        above = {name: known for name, known in above.items() if name not in lowest}


# package within the engine -> the packages it may know; any may know the engine's small modules
ENGINE: dict[str, set[str]] = {
    "output": set(),
    "process": {"output"},
    "executors": {"process", "output"},
    "attempts": {"executors", "process", "output"},
}
BELOW = {
    "clock",
    "current",
    "surroundings",
    "threads",
    "turns",
    "journal",
    "slots",
    "hints",
    "alarm",
}


@pytest.mark.parametrize("package", ENGINE)
def test_the_packages_of_the_engine_know_one_another_one_way(package: str) -> None:
    known = {package, *ENGINE[package], *BELOW}
    wrong = [
        f"{module} must not know {name}"
        for module, tree in MODULES
        if module.startswith(f"goflow.engine.{package}.")
        for name, _ in imports(module, tree)
        if name.startswith("goflow.engine.") and name.split(".")[2] not in known
    ]
    assert wrong == []


# The engine's rooms, from the top down: each may know only those after it. The scheduler calls
# those above it as functions that it is handed.
IN_ORDER = [
    "metrics",
    "engine",
    "recovery",
    "due_times",
    "backfill",
    "control",
    "submissions",
    "schedules",
    "ledger",
    "runners",
    "lineup",
    "room",
    "scheduler",
    "runner",
    "store_check",
    "broadcast",
    "reader",
    "recent",
    "registry",
    "options",
    "retention",
    "lifetime",
    "health",
    "live",
    "replay",
    "idempotency",
    "errands",
    "param_checks",
    "principal",
    "hints",
    "slots",
    "journal",
    "max_gauge",
    "alarm",
    "clock",
]


def upward(module: str, tree: ast.Module) -> list[str]:
    """What a room of the engine imports from above itself."""
    own = module.split(".")[2]
    known = IN_ORDER[IN_ORDER.index(own) :]
    return [
        f"{module} must not know {name}"
        for name, at_once in imports(module, tree)
        for place in [name.split(".")[2:3]]
        if at_once and name.startswith("goflow.engine.") and place[0] in IN_ORDER
        if place[0] not in known
    ]


ROOM_OF_THE_ENGINE = [
    (module, tree)
    for module, tree in MODULES
    if module.count(".") == 2 and module.startswith("goflow.engine.")
    if module.split(".")[2] in IN_ORDER
]


@pytest.mark.parametrize(
    ("module", "tree"), ROOM_OF_THE_ENGINE, ids=[name for name, _ in ROOM_OF_THE_ENGINE]
)
def test_no_room_of_the_engine_is_entered_from_below(module: str, tree: ast.Module) -> None:
    assert upward(module, tree) == []


def test_only_what_runs_beside_the_engine_knows_it() -> None:
    knowing = {
        module
        for module, tree in MODULES
        for name, _ in imports(module, tree)
        if module.startswith("goflow.engine.") and name == "goflow.engine.engine"
    }
    assert knowing == {"goflow.engine.metrics"}


@MODULE
def test_imports_point_one_way(module: str, tree: ast.Module) -> None:
    assert turned_arrows(module, tree) == []


def test_every_exception_is_still_needed() -> None:
    used = {
        (module, room(name))
        for module, tree in MODULES
        for name, _ in imports(module, tree)
        if name.split(".")[0] == "goflow"
    }
    assert set(UPWARD) <= used


CORE = [(module, tree) for module, tree in MODULES if room(module) == "core"]


@pytest.mark.parametrize(("module", "tree"), CORE, ids=[name for name, _ in CORE])
def test_the_core_is_pure(module: str, tree: ast.Module) -> None:
    assert impurities(module, tree) == []


@MODULE
def test_only_the_clock_reads_the_time(module: str, tree: ast.Module) -> None:
    # A deadline reads the event loop's, as asyncio.timeout does: how late its own timer comes.
    if module not in ("goflow.engine.clock", "goflow.operators.deadline"):
        assert readings_of_time(module, tree) == []


def test_the_clock_reads_the_time() -> None:
    assert readings_of_time("goflow.engine.clock", dict(MODULES)["goflow.engine.clock"])


# -- the walls hold --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("goflow.core.graph", "import goflow.job"),
        ("goflow.core.graph", "from goflow import engine"),
        ("goflow.core.graph", "from goflow import Job"),
        ("goflow.operators.http", "from goflow.engine.clock import Clock"),
        ("goflow.stores.sqlite", "from goflow.operators.base import Context"),
        ("goflow.engine.engine", "def f():\n    from goflow.web.routes import build"),
        ("goflow.engine.engine", "if TYPE_CHECKING:\n    from goflow.app import Goflow"),
        ("goflow.web.jobs", "import goflow"),
        ("goflow.web.jobs", "from goflow.cli import main"),
        ("goflow.job.job", "from goflow.run import run_once"),
        ("goflow.app", "from goflow import Job"),
        ("goflow.errors", "from goflow.core.states import State"),
        ("goflow", "from goflow.cli import main"),
    ],
)
def test_a_turned_arrow_is_found(module: str, source: str) -> None:
    assert turned_arrows(module, ast.parse(source))


def test_a_room_entered_from_below_is_found() -> None:
    tree = ast.parse("from goflow.engine.submissions import Submissions")
    assert upward("goflow.engine.runner", tree)
    assert not upward("goflow.engine.due_times", tree)


@pytest.mark.parametrize(
    "source",
    [
        "import os.path",
        "import time",
        "from asyncio import sleep",
        "def f():\n    import sqlite3",
        "import random",
        "from random import random",
        "random.random()",
        "open('file')",
        "from concurrent.futures import Executor",
    ],
)
def test_an_impurity_is_found(source: str) -> None:
    assert impurities("goflow.core.execution", ast.parse(source))


@pytest.mark.parametrize(
    "source",
    [
        "time.time()",
        "time.time_ns()",
        "time.monotonic()",
        "time.sleep(1)",
        "field(default_factory=time.time)",
        "from time import time",
        "import time as t",
        "datetime.now(UTC)",
        "datetime.datetime.now()",
        "datetime.utcnow()",
        "date.today()",
        "loop.time()",
        "self._loop.time()",
        "asyncio.get_running_loop().time()",
    ],
)
def test_a_reading_of_the_time_is_found(source: str) -> None:
    assert readings_of_time("goflow.engine.runner", ast.parse(source))


@pytest.mark.parametrize(
    "source", ["clock.now()", "self.clock.now()", "fire.time()", "import time", "start.date()"]
)
def test_time_handed_in_is_no_reading(source: str) -> None:
    assert readings_of_time("goflow.engine.runner", ast.parse(source)) == []
