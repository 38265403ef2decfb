"""The page for users of other schedulers names only words that goflow has."""

import re
from pathlib import Path

import pytest

import goflow
from goflow import Command, Context, Job, Task
from goflow.cli import main

PAGE = Path(__file__).parents[2] / "docs/coming-from.md"
ROWS = [
    re.split(r"(?<!\\)\|", line)[1:-1]
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ")
]
CODE = sorted({code for row in ROWS[1:] for code in re.findall("`([^`]+)`", row[0])})


def parameters(of: object) -> set[str]:
    import inspect

    return set(inspect.signature(of).parameters)  # type: ignore[arg-type]


def test_each_row_has_a_word_of_each_scheduler() -> None:
    assert len(ROWS) > 40
    assert {len(row) for row in ROWS} == {5}
    assert all(cell.strip() for row in ROWS for cell in row)


@pytest.mark.parametrize("code", CODE)
def test_the_words_of_goflow_exist(code: str) -> None:
    for option in re.findall(r"(?<![\w.])([a-z_]+)=", code):
        assert option in parameters(Job) | parameters(Task) | {"final"}, option
    for name in re.findall(r"\b([A-Z]\w+)\(", code):
        assert hasattr(goflow, name), name
    for name in re.findall(r"\bjob\.(\w+)", code):
        assert hasattr(Job, name), name
    for name in re.findall(r"\bcontext\.(\w+)", code):
        assert hasattr(Context, name), name
    for name in re.findall(r"\bCommand\.(\w+)", code):
        assert hasattr(Command, name), name
    for name in re.findall(r"\bgoflow (\w+)", code):
        assert main.get_command(None, name) is not None, name  # type: ignore[arg-type]
