"""Standard output that cannot be written: a message and an exit code, no traceback."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
from goflow import Job

job = Job("j")

@job.task
def t():
    return 1
"""
COMMANDS = ["--help", "version", "list main.py", "list main.py --json", "check main.py",
            "graph main.py", "next @daily", "run main.py", "run main.py --json"]  # fmt: skip


def goflow(folder: Path, command: str, redirection: str) -> "subprocess.CompletedProcess[str]":
    (folder / "main.py").write_text(PROGRAM)
    line = f"{sys.executable} -m goflow {command} {redirection}"
    return subprocess.run(
        ["/bin/sh", "-c", line], cwd=folder, stderr=subprocess.PIPE, text=True, timeout=60
    )


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("redirection", "reason"), [(">/dev/full", "No space left on device"), (">&-", "it is closed")]
)
def test_output_that_cannot_be_written_is_a_failure(
    tmp_path: Path, command: str, redirection: str, reason: str
) -> None:
    ended = goflow(tmp_path, command, redirection)
    assert ended.returncode == 1
    assert ended.stderr == f"Error: cannot write to standard output: {reason}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_closed_pipe_causes_no_message(tmp_path: Path, command: str) -> None:
    ended = goflow(tmp_path, command, "| true")
    assert ended.stderr == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_standard_error_and_input_may_be_closed(tmp_path: Path, command: str) -> None:
    assert goflow(tmp_path, command, ">/dev/null 2>&- <&-").returncode == 0
