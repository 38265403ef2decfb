"""The search in a log finds the lines that a reader would."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goflow.engine.search import containing, trouble


@given(st.lists(st.text("aAßẞ .\r\u2028é", max_size=6), max_size=12), st.text("aAßs é", min_size=1))
def test_a_text_is_found_in_exactly_the_lines_that_contain_it(
    lines: list[str], wanted: str
) -> None:
    stretch = "".join(f"{line}\n" for line in lines)
    expected = [n for n, line in enumerate(lines) if wanted.casefold() in line.casefold()]
    assert list(containing(wanted)(stretch)) == expected


@pytest.mark.parametrize(
    "line",
    [
        "Traceback (most recent call last):",
        "ValueError: scripted",
        "java.lang.NullPointerException: x",
        "ERROR could not connect",
        "[error] 3 of 4",
        "fatal: not a git repository",
        "panic: runtime error",
        "1 failed, 3 passed",
        "thread 'main' panicked; fatal",
        "10 failed",
    ],
)
def test_a_line_that_reports_an_error_is_found(line: str) -> None:
    assert list(trouble(f"fine\n{line} error\n\n{line}\n")) == [1, 3]


@pytest.mark.parametrize(
    "line",
    [
        "no error",
        "0 failed, 3 passed",
        "ok=3 changed=0 failed=0",
        "finished without error",
        "terror and mirrors",
        "failedover",
        "ErrorHandler installed",
        "",
    ],
)
def test_a_line_that_only_mentions_errors_is_not_found(line: str) -> None:
    assert list(trouble(f"{line}\n{line}\n")) == []
