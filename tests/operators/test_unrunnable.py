"""Programs that cannot run: each cause has its own message."""

import os
from pathlib import Path

import pytest

from goflow import Command, Job, Task

ELF = bytes.fromhex("7f454c4602010100000000000000000002001400") + bytes(44)  # for a PowerPC


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        (b"#!/no/such/python\n", 0o755, "its interpreter '/no/such/python' is not there"),
        (b"#! /no/such/python -u\n", 0o755, "its interpreter '/no/such/python' is not there"),
        (b"#!/bin/sh\r\necho hello\r\n", 0o755, "it has Windows line ends (CRLF)"),
        (b"#!/tmp\n", 0o755, "its interpreter '/tmp' "),
        (b"#!/etc/passwd\n", 0o755, "its interpreter '/etc/passwd' is not executable"),
        (b"#!/bin/sh\necho hello\n", 0o644, "it is not executable; chmod +x"),
        (b"#!/no/such\n", 0o644, "it is not executable; chmod +x"),
        (b"", 0o755, "the file is empty"),
        (b"echo hello\n", 0o755, "a script whose first line names an interpreter"),
        (ELF, 0o755, "it is built for another architecture"),
    ],
)
def test_the_reason_why_a_file_cannot_run(
    tmp_path: Path, content: bytes, mode: int, reason: str
) -> None:
    file = tmp_path / "no-tool"
    file.write_bytes(content)
    file.chmod(mode)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    for command in (
        Command(str(file)),
        Command("./no-tool", cwd=tmp_path),
        Command("no-tool", env={"PATH": path}),
    ):
        error = error_of(command)
        assert reason in error
        assert error.startswith(f"cannot run {command.cmd!r}: ")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (Command("/tmp"), "cannot run '/tmp': it is a folder"),
        (Command("/dev/null"), "cannot run '/dev/null': it is not a regular file"),
        (Command("/no/such"), "cannot run '/no/such': No such file or directory"),
        (Command("no-such-program"), "there is no such program on PATH"),
        (Command("true", ["x" * 2_000_000]), "arguments and environment take 2,"),
        (Command("true", env={"X": "x" * 2_000_000}), "hand on a file instead"),
        (Command("true", cwd="/no/such"), "in '/no/such': No such file or directory: there is no"),
        (
            Command("true", cwd="/etc/passwd"),
            "in '/etc/passwd': Not a directory: it is not a folder",
        ),
    ],
)
def test_the_reason_why_a_program_cannot_run(command: Command, reason: str) -> None:
    assert reason in error_of(command)


def error_of(command: Command) -> str:
    error = Job("j", tasks=[Task("t", command)]).run().tasks["t"].error
    assert error is not None
    assert "Traceback" not in error
    return error
