"""Keeps the figures of earlier runs, one line of JSON per run, so that a slow-down is noticed."""

import json
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT

FILE = ROOT / ".bench-history.jsonl"  # ignored by git, since figures depend on the machine


def last(file: Path = FILE) -> dict[str, float]:
    """The newest figure of each name, from any run."""
    figures: dict[str, float] = {}
    if file.is_file():
        for line in file.read_text(encoding="utf-8").splitlines():
            figures |= json.loads(line)["figures"]
    return figures


def keep(figures: Mapping[str, float], file: Path = FILE) -> None:
    """Append the figures of a run, with the time and the commit."""
    run: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "figures": dict(figures),
    }
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(run) + "\n")


def _commit() -> str:
    """The commit of the working tree, with a `+` if it has changes; empty without git."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
