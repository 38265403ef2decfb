"""Startup is fast: modules that are not needed to define and serve jobs are imported later."""

import subprocess
import sys
from pathlib import Path

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


def test_importing_goflow_loads_no_part_of_the_command_line_or_of_http() -> None:
    loaded = loaded_after("import goflow")
    rooms = {".".join(name.split(".")[:2]) for name in loaded if name.startswith("goflow.")}
    assert "goflow.cli" not in rooms
    assert "goflow.run" not in rooms
    assert "goflow.testing" not in rooms
    assert "goflow.examples" not in rooms
    web = {name for name in loaded if name.startswith("goflow.web.")}
    assert web == {"goflow.web.access_log", "goflow.web.policy", "goflow.web.target"}


def test_serving_does_not_read_the_metadata_of_packages() -> None:
    loaded = loaded_after("import goflow.cli, goflow.cli.serving, goflow.web.routes")
    unneeded = {"importlib.metadata", "importlib.resources", "getpass", "rich", "httpx2"}
    assert loaded & unneeded == set()


def test_serve_imports_no_other_command() -> None:
    loaded = loaded_after(
        "from goflow.cli import main\nmain(['serve', '--help'], standalone_mode=False)"
    )
    commands = {name for name in loaded if name.startswith("goflow.cli.")}
    assert commands == {"goflow.cli.output", "goflow.cli.serving", "goflow.cli.terminal"}
