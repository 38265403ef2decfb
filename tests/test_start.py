"""Startup is fast: modules that are not needed to define and serve jobs are imported later."""

import subprocess
import sys
from pathlib import Path

import pytest

import goflow

ROOT = Path(__file__).parent.parent
LATER = {
    "click",
    "cloudpickle",
    "croniter",
    "httpcore2",
    "httpx2",
    "importlib.metadata",
    "importlib.resources",
    "jinja2",
    "multiprocessing",
    "rich",
    "starlette",
    "uvicorn",
}


def loaded_after(program: str) -> set[str]:
    program += "\nimport sys\nprint(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


def test_defining_jobs_without_cron_fields_imports_msgspec_and_tzdata_only() -> None:
    loaded = loaded_after(
        "from goflow import Command, Get, Goflow, Job, MemoryStore, Schedule, Task\n"
        "job = Job('a', '@every 5m')\n"
        "job.add(Task('t', Command('true')))\n"
        "job.add(Task('g', Get('http://localhost')))\n"
        "Job('b', tasks=[Task('t', Command('true'))])\n"
        "Goflow(MemoryStore()).add_job(job)\n"
    )
    assert loaded & LATER == set()
    tops = {name.partition(".")[0] for name in loaded}
    foreign = {name for name in tops - sys.stdlib_module_names if not name.startswith("_")}
    assert foreign - loaded_packages_of_the_site() <= {"goflow", "msgspec", "tzdata", *TYPING}


TYPING = {"typing_extensions"}  # msgspec imports it where it is installed


def loaded_packages_of_the_site() -> set[str]:
    """Packages that the environment loads into every program, as editable installs do."""
    return {name.partition(".")[0] for name in loaded_after("")}


def test_cron_fields_import_croniter_and_no_other_package() -> None:
    loaded = loaded_after("from goflow import Schedule; Schedule('30 2 * * MON-FRI')")
    of_croniter = loaded_after("import croniter")
    assert (loaded - of_croniter) & LATER == set()
    assert "croniter" in loaded


def test_importing_goflow_loads_no_part_of_it() -> None:
    """Each name is imported when it is used."""
    loaded = {name for name in loaded_after("import goflow") if name.startswith("goflow.")}
    assert loaded == set()


def test_every_public_name_is_where_goflow_looks_for_it() -> None:
    names = set(goflow.__all__)
    assert names <= set(dir(goflow))
    assert {name for name in names if getattr(goflow, name) is None} == set()
    assert set(goflow._HOMES) == names - {"__version__"}
    with pytest.raises(AttributeError, match="module 'goflow' has no attribute 'Jobb'"):
        goflow.Jobb  # type: ignore[attr-defined]  # noqa: B018


def test_defining_jobs_loads_no_part_of_the_command_line_or_of_http() -> None:
    loaded = loaded_after("from goflow import Command, Goflow, Job, Task")
    rooms = {".".join(name.split(".")[:2]) for name in loaded if name.startswith("goflow.")}
    assert rooms & {"goflow.cli", "goflow.run", "goflow.testing", "goflow.examples"} == set()
    web = {name for name in loaded if name.startswith("goflow.web.")}
    assert web == {"goflow.web.policy", "goflow.web.target"}


SERVING = (
    "from goflow import Command, Goflow, Job, SqliteStore, Task\n"
    "Goflow(SqliteStore('unused.db'))\n"
    "import goflow.cli.program, goflow.cli.serving, goflow.web.server, goflow.web.routes\n"
)


def test_serving_loads_no_operators_and_streams_that_nobody_uses() -> None:
    loaded = loaded_after(SERVING)
    operators = {"http", "exchange", "waits", "subjobs", "generator"}
    unneeded = {f"goflow.operators.{name}" for name in operators}
    unneeded |= {"goflow.web.event_stream", "sse_starlette", "goflow.web.access_log"}
    unneeded |= {"goflow.stores.memory", "goflow.engine.executors.child", "goflow.examples"}
    assert loaded & unneeded == set()


def test_serving_does_not_read_the_metadata_of_packages() -> None:
    loaded = loaded_after(SERVING)
    unneeded = {"importlib.metadata", "importlib.resources", "getpass", "rich", "httpx2"}
    assert loaded & unneeded == set()


def test_serve_imports_no_other_command() -> None:
    loaded = loaded_after(
        "from goflow.cli import main\nmain(['serve', '--help'], standalone_mode=False)"
    )
    commands = {name for name in loaded if name.startswith("goflow.cli.")}
    assert commands == {"goflow.cli.output", "goflow.cli.serving", "goflow.cli.terminal"}
