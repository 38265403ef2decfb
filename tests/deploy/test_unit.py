"""The documented systemd unit is valid, and removes privileges that goflow does not need."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.conftest import documented
from tests.deploy.install import find


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The documented unit, with a program and a user of this machine."""
    text = documented("ini")
    for old, new in (
        ("/opt/goflow/bin/goflow serve /etc/goflow/main.py", f"{sys.executable} -m goflow demo"),
        ("User=goflow", "User=daemon"),
    ):
        assert old in text
        text = text.replace(old, new)
    file = tmp_path / "goflow.service"
    file.write_text(text)
    return file


def analyzed(*arguments: str) -> str:
    program = find("systemd-analyze")
    assert program, "no systemd-analyze to test with: run `make servers`"
    done = subprocess.run(
        [program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_systemd_accepts_every_line(unit: Path) -> None:
    said = analyzed("verify", "--man=no", str(unit))
    assert not [line for line in said.splitlines() if unit.name in line], said


@pytest.mark.parametrize(
    "line",
    [
        *("Restart=always", "UMask=0077", "NoNewPrivileges=yes", "ProtectSystem=strict"),
        *("StateDirectory=goflow", "StateDirectoryMode=0700", "OOMPolicy=continue"),
    ],
)
def test_it_contains(unit: Path, line: str) -> None:
    assert line in unit.read_text().splitlines()


def test_systemd_rates_its_exposure_as_low(unit: Path) -> None:
    said = analyzed("security", "--offline=yes", "--no-pager", str(unit))
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert found, said
    assert float(found[1]) < 4, said  # of 10; without the last section it is 9.2


def test_it_restarts_without_a_limit(unit: Path) -> None:
    """systemd gives up after 5 starts in 10 seconds, so they must be further apart."""
    seconds = re.search(r"^RestartSec=(\d+)$", unit.read_text(), re.MULTILINE)
    assert seconds
    assert int(seconds[1]) * 5 > 10
