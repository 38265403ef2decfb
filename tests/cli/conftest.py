"""The command line as a caller sees it: arguments in; output, errors and exit code out."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from goflow.cli import main
from tests.cli.commands import Spawned, eventually


@pytest.fixture(autouse=True)
def clean_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo the imports of loaded files in this process."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if not name.startswith("goflow") and "/pytest-" in str(
            getattr(sys.modules[name], "__file__", "")
        ):
            del sys.modules[name]


@pytest.fixture
def goflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Run a command in this process, in a temporary folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main, arguments, prog_name="goflow")

    return run


@pytest.fixture
def main_py(tmp_path: Path) -> Callable[[str], str]:
    """Write a main.py, and return its path."""

    def write(text: str) -> str:
        path = tmp_path / "main.py"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Callable[..., Spawned]]:
    """Start a `goflow` process; it is ended at the end of the test."""
    spawned: list[Spawned] = []

    def start(*arguments: str, **environment: str) -> Spawned:
        errors = tmp_path / f"stderr-{len(spawned)}"
        with errors.open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "goflow", *arguments],
                cwd=tmp_path,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,
            )
        spawned.append(Spawned(process, errors))
        return spawned[-1]

    yield start
    for one in spawned:
        try:  # the second signal kills the programs of its tasks
            eventually(lambda one=one: one.has_ended() or one.signal(signal.SIGTERM))
        finally:
            one.process.kill()
        if one.process.stdout is not None:
            one.process.stdout.close()
