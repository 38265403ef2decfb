"""Help texts, and the modules that they do not import."""

import json
import subprocess
import sys

import pytest

import goflow as package
from goflow.cli import main


def test_help_lists_every_command_of_the_contract(goflow):
    result = goflow("--help")
    assert result.exit_code == 0
    names = "demo serve run list check graph next submit toggle cancel retry logs"
    names += " mark ticks upcoming backfill backup"
    for name in names.split(" "):
        assert f"\n  {name} " in result.stdout
    assert "Exit codes: 0" in result.stdout


@pytest.mark.parametrize("name", list(main.commands))
def test_every_command_has_a_help_text(goflow, name):
    result = goflow(name, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: goflow {name} ")


def test_the_version_is_that_of_the_package(goflow):
    assert goflow("--version").stdout == f"goflow {package.__version__}\n"
    assert goflow("version").stdout == f"goflow {package.__version__}\n"
    assert json.loads(goflow("version", "--json").stdout) == {"version": package.__version__}


def test_python_m_goflow_is_the_same_command():
    said = subprocess.run(
        [sys.executable, "-m", "goflow", "--version"], capture_output=True, text=True, check=True
    )
    assert said.stdout == f"goflow {package.__version__}\n"


def test_help_and_next_do_not_import_slow_packages():
    code = (
        "import sys\n"
        "from goflow.cli import main\n"
        "main(['next', '* * * * *'], standalone_mode=False)\n"
        "print(sorted({'rich', 'httpx2', 'uvicorn', 'starlette'} & set(sys.modules)))\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines()[-1] == "[]"


def test_a_misspelled_command_is_answered_with_the_nearest(goflow):
    result = goflow("serv")
    assert result.exit_code == 2
    assert "serve" in result.stderr
