"""Patterns of parameters: no text in a request takes long to match."""

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import httpx2
import msgspec
import pytest
from msgspec import Meta, inspect

from goflow.job.patterns import PLAIN, SHORT, doubtful, too_slow

EVIL = "a" * 60 + "!"


def found(annotation: Any, value: object) -> list[str]:
    return [one.place for one in doubtful(inspect.type_info(annotation), value)]


@pytest.mark.parametrize(
    "pattern",
    [r"^(a+)+$", r"(a|a)*$", r"^(a|aa)+$", r"(.*a){12}", r"^(\w+\s?)*$", r"a*a*a*a*a*b",
     r"^(?=(a+)+b)", r"(a?){30}a{30}$", r"(?:x+x+)+y", r"(a+)\1+b"],
)  # fmt: skip
def test_a_slow_pattern_is_checked_in_a_process_except_for_short_texts(pattern: str) -> None:
    text = Annotated[str, Meta(pattern=pattern)]
    assert found(text, EVIL) == [""]
    assert found(text, "a" * SHORT) == []


@pytest.mark.parametrize(
    "pattern", [r"^[a-z]+$", r"^\d{4}-\d{2}-\d{2}$", r"^(dev|test|prod)$", r"\S", r"^v\d+\.\d$"]
)
def test_a_simple_pattern_is_checked_in_a_process_for_long_texts_only(pattern: str) -> None:
    text = Annotated[str, Meta(pattern=pattern)]
    assert found(text, "a" * PLAIN) == []
    assert found(text, "a" * (PLAIN + 1)) == [""]


def test_nested_texts_are_found() -> None:
    text = Annotated[str, Meta(pattern="(a+)+$")]

    class Inner(msgspec.Struct):
        deep: text

    class Outer(msgspec.Struct, rename={"renamed": "other"}):
        plain: str
        renamed: text | None
        many: list[text]
        pair: tuple[int, text]
        named: dict[str, Inner]
        keys: dict[text, int]

    value = {
        "plain": EVIL, "other": EVIL, "many": ["a", EVIL], "pair": [1, EVIL],
        "named": {"x": {"deep": EVIL}}, "keys": {EVIL: 1}, "unknown": EVIL,
    }  # fmt: skip
    assert found(Outer, value) == ["other", "many[1]", "pair[1]", "named.x.deep", "keys"]
    assert found(Outer, ["of", "another", "shape"]) == []


def test_only_a_match_that_takes_too_long_is_reported() -> None:
    text = Annotated[str, Meta(pattern=r"^(a+)+$")]
    quick = doubtful(inspect.type_info(text), "a" * 5000)
    assert len(quick) == 1
    assert too_slow(quick) is None
    slow = doubtful(inspect.type_info(list[text]), ["a" * 20, EVIL])
    told = too_slow(slow)
    assert told is not None
    assert told.place == "[1]"


def test_a_malicious_text_does_not_block_the_server(tmp_path: Path) -> None:
    """Python's `re` would take longer than the age of the universe."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        url = re.match("goflow serves (http:.*)", process.stderr.readline())
        assert url is not None
        with httpx2.Client(base_url=url[1], timeout=60) as client:
            for body in ({"name": EVIL}, {"name": "x" * 100_000 + "!"}):
                answer = client.post("/api/jobs/j/submit", json={"params": body})
                assert answer.status_code == 422
                assert answer.json()["error"]["field"] == "params.name"
                assert "in reasonable time" in answer.json()["error"]["message"]
            assert client.get("/api/health").json()["health"] == "OK"
            done = client.post("/api/jobs/j/submit", json={"params": {"name": "a" * 200}})
            done.raise_for_status()
            id = done.json()["id"]
            deadline = time.monotonic() + 60
            while client.get(f"/api/executions/{id}").json()["state"] != "successful":
                assert time.monotonic() < deadline
            bad = {"params": {"name": EVIL}}
            assert client.post(f"/api/executions/{id}/retry", json=bad).status_code == 422
    finally:
        process.kill()
        process.communicate()


PROGRAM = r"""
from typing import Annotated
import msgspec
from goflow import Goflow, Job

class Params(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(pattern=r"^((a|x)+)+$")] = "a"

job = Job("j", params=Params)

@job.task
def t(name):
    return len(name)

gf = Goflow("store.db", ui_path=None)
gf.add_job(job)
gf.run("127.0.0.1:0")
"""
