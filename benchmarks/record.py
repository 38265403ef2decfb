"""The figures of earlier runs, so that a slow-down is seen: one line of JSON for each run."""

import json
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT

FILE = ROOT / ".bench-history.jsonl"  # ignored by git: figures mean something on one machine


def last(file: Path = FILE) -> dict[str, float]:
    """The newest figure of each name, by any run."""
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
    """The commit of the working tree, with a `+` if it was changed; empty without git."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
