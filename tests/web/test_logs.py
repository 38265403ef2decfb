"""Logs: windows, search, following and downloads."""

import asyncio
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from goflow import Context, Goflow, Job, MemoryStore, Task
from tests.web.conftest import Asker, Say, segment, simple, until

COUNT = 60_000  # lines of the long log
HEAD, TAIL = 15_000, 10_000  # lines that are certainly kept


@dataclass(frozen=True)
class Speak:
    """Logs a line, then continues when `more` is set."""

    more: asyncio.Event

    async def run(self, context: Context) -> None:
        context.log("first")
        await self.more.wait()
        context.log("second")


@pytest.fixture(scope="module")
def long() -> Iterator[tuple[TestClient, str]]:
    """A client, and the URL of a log with most lines dropped."""
    gf = Goflow(MemoryStore(), ui_path=None, max_log=400_000)
    lines = tuple(f"line {number}" for number in range(COUNT))
    gf.add_job(Job("long", tasks=[Task("t", Say(lines))]))
    with TestClient(gf, base_url="http://localhost") as client:
        id = Asker(client).run("long")["id"]
        yield client, f"/api/executions/{id}/tasks/t"


def window(client: TestClient, url: str, **query: Any) -> Any:
    answer = client.get(f"{url}/lines", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def untimed(client: TestClient, url: str, **query: Any) -> Any:
    """A window without its times; each line must have one."""
    seen = window(client, url, **query)
    assert len(seen.pop("times")) == len(seen["lines"])
    assert seen.pop("unfinished") is None
    return seen


def numbered(window: Any, after: int) -> list[tuple[int, str]]:
    """Each line of a window with its number, and the gaps."""
    gaps = dict(window["gaps"])
    number, found = after, []
    for line in window["lines"]:
        number = gaps.pop(number, number)
        found.append((number, line))
        number += 1
    assert not gaps
    assert number == window["next"]
    return found


def test_a_window_has_the_lines_from_a_number_on(client: TestClient, ask: Asker) -> None:
    id = ask.run("simple")["id"]
    url = f"/api/executions/{id}/tasks/second"
    whole = {
        "attempt": 1,
        "state": "successful",
        "first": 0,
        "end": 2,
        "lines": ["one", "two"],
        "gaps": [],
        "next": 2,
        "more": False,
    }
    assert untimed(client, url) == whole
    assert untimed(client, url, attempt=1, limit=2) == whole
    assert untimed(client, url, limit=1) == {**whole, "lines": ["one"], "next": 1, "more": True}
    second = {**whole, "first": 1, "lines": ["two"]}
    assert untimed(client, url, after=1) == second
    assert untimed(client, url, tail=1) == second
    assert untimed(client, url, tail=99) == whole
    nothing = {**whole, "first": 2, "lines": []}
    assert untimed(client, url, after=2) == nothing
    assert untimed(client, url, tail=0) == nothing
    assert untimed(client, url, after=99) == {**nothing, "first": 99, "next": 99}


@settings(deadline=None)
@given(after=st.integers(0, COUNT + 5), limit=st.integers(1, 3000))
def test_line_numbers_are_stable_though_lines_were_dropped(
    long: tuple[TestClient, str], after: int, limit: int
) -> None:
    seen = window(*long, after=after, limit=limit)
    found = numbered(seen, after)
    assert all(line == f"line {number}" for number, line in found)
    assert all(number >= after for number, _ in found)
    assert seen["end"] == COUNT
    assert seen["more"] is (seen["next"] < COUNT)
    assert len(found) == limit or not seen["more"]
    if found:
        assert seen["first"] == found[0][0]


def test_consecutive_windows_are_the_whole_log(long: tuple[TestClient, str]) -> None:
    client, url = long
    found: list[tuple[int, str]] = []
    after, more = 0, True
    while more:
        seen = window(client, url, after=after, limit=4000)
        found += numbered(seen, after)
        after, more = seen["next"], seen["more"]
    text = client.get(f"{url}/logs").text.splitlines()
    assert [line for _, line in found] == [line for line in text if not line.startswith("[…")]
    assert found[:HEAD] == [(number, f"line {number}") for number in range(HEAD)]
    assert found[-TAIL:] == [(number, f"line {number}") for number in range(COUNT - TAIL, COUNT)]


def test_a_window_is_bounded_in_characters_too() -> None:
    gf = Goflow(MemoryStore(), ui_path=None)
    gf.add_job(Job("wide", tasks=[Task("t", Say(("x" * 16_000,) * 200))]))
    with TestClient(gf, base_url="http://localhost") as client:
        id = Asker(client).run("wide")["id"]
        seen = window(client, f"/api/executions/{id}/tasks/t", limit=10_000)
        assert 1_000_000 < sum(map(len, seen["lines"])) < 1_100_000
        assert (seen["next"], seen["more"]) == (len(seen["lines"]), True)


def test_a_log_is_followed_line_by_line_while_the_attempt_runs() -> None:
    more = asyncio.Event()
    gf = Goflow(MemoryStore(), ui_path=None)
    gf.add_job(Job("live", tasks=[Task("t", Speak(more)), Task("u", Say(), after=["t"])]))
    with TestClient(gf, base_url="http://localhost") as client:
        ask = Asker(client)
        id = ask.submit("live")
        url = f"/api/executions/{id}/tasks/t"
        first = until(lambda: (seen := window(client, url))["lines"] and seen)
        assert (first["state"], first["lines"], first["next"]) == ("running", ["first"], 1)
        later = window(client, f"/api/executions/{id}/tasks/u")
        assert (later["attempt"], later["state"], later["end"]) == (0, "notstarted", 0)
        gf._loop.call_soon_threadsafe(more.set)
        ask.finished(id)
        second = window(client, url, after=1)
        assert (second["state"], second["lines"], second["end"]) == ("successful", ["second"], 2)


def test_the_text_has_the_last_lines_and_the_total(
    long: tuple[TestClient, str],
) -> None:
    client, url = long
    tail = client.get(f"{url}/logs?tail=2")
    assert tail.text == f"line {COUNT - 2}\nline {COUNT - 1}\n"
    assert tail.headers["x-goflow-lines"] == tail.headers["x-goflow-next-line"] == str(COUNT)
    assert client.get(f"{url}/logs?tail=2&after={COUNT - 1}").text == f"line {COUNT - 1}\n"
    beyond = client.get(f"{url}/logs?after={COUNT + 9}").headers
    assert (beyond["x-goflow-lines"], beyond["x-goflow-next-line"]) == (str(COUNT), str(COUNT + 9))
    assert "[… " in client.get(f"{url}/logs?tail={COUNT - 1}").text


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("simple", "simple-first-1.log"),
        ("../../etc/passwd", "_.._etc_passwd-first-1.log"),
        ('a"; filename="b.exe', "a_filename_b.exe-first-1.log"),
        ("über \u202egnp.exe", "_ber_gnp.exe-first-1.log"),
        ("x" * 250, "x" * 60 + ".log"),
    ],
)
def test_a_log_can_be_downloaded_for_any_job_name(name: str, plain: str) -> None:
    gf = Goflow(MemoryStore(), ui_path=None)
    gf.add_job(simple(name))
    with TestClient(gf, base_url="http://localhost") as client:
        ask = Asker(client)
        url = f"/api/executions/{ask.run(name)['id']}/tasks/first/logs"
        assert "content-disposition" not in client.get(url).headers
        answer = client.get(f"{url}?download=true")
        assert answer.text == "hello\n"
        kept, encoded = answer.headers["content-disposition"].split("; filename*=UTF-8''")
        assert kept == f'attachment; filename="{plain}"'
        assert encoded == segment(plain.replace("_ber", "über", 1))


def test_a_text_is_found_anywhere(long: tuple[TestClient, str]) -> None:
    client, url = long
    found = client.get(f"{url}/find", params={"text": "LINE 5999"}).json()
    assert found["lines"] == [5999, *range(59990, 60000)]
    assert (found["attempt"], found["next"], found["more"]) == (1, COUNT, False)
    assert client.get(f"{url}/find?text=nowhere").json()["lines"] == []
    # in sequence
    after, numbers, more = 0, [], True
    while more:
        found = client.get(f"{url}/find?text=0&limit=700&after={after}").json()
        assert len(found["lines"]) <= 700
        numbers += found["lines"]
        after, more = found["next"], found["more"]
    text = client.get(f"{url}/logs").text.splitlines()
    assert numbers == [int(line[5:]) for line in text if line.startswith("line") and "0" in line]


def test_a_search_is_bounded_and_can_be_continued(
    client: TestClient, ask: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("goflow.engine.reader.SEARCHED", 1)
    monkeypatch.setattr("goflow.engine.reader.LOG_PAGE", 1)
    id = ask.run("simple")["id"]
    url = f"/api/executions/{id}/tasks/second/find"
    calls, after, more, numbers = 0, 0, True, []
    while more:
        found = client.get(f"{url}?text=two&after={after}").json()
        calls, numbers = calls + 1, numbers + found["lines"]
        after, more = found["next"], found["more"]
    assert numbers == [1]
    assert calls <= 2


def test_the_first_error_is_found(client: TestClient, ask: Asker) -> None:
    id = ask.run("failing")["id"]
    found = client.get(f"/api/executions/{id}/tasks/bad/find?errors=true&limit=1").json()
    lines = window(client, f"/api/executions/{id}/tasks/bad")["lines"]
    assert (lines[0], found["lines"]) == ("ValueError: as <b>scripted</b>", [0])


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("lines?limit=0", "limit"),
        ("lines?limit=10001", "limit"),
        ("lines?after=-1", "after"),
        ("lines?tail=x", "tail"),
        ("logs?tail=-1", "tail"),
        ("logs?download=perhaps", "download"),
        ("find", "text"),
        ("find?errors=false", "text"),
        ("find?text=a&errors=true", "text"),
        ("find?text=", "text"),
        ("find?text=a%0Ab", "text"),
        ("find?limit=1001&text=a", "limit"),
        (f"find?text={'a' * 201}", "text"),
    ],
)
def test_values_out_of_range_are_refused(
    client: TestClient, ask: Asker, query: str, field: str
) -> None:
    id = ask.run("simple")["id"]
    answer = client.get(f"/api/executions/{id}/tasks/first/{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["field"] == field


@pytest.mark.parametrize("what", ["lines?", "find?text=a&"])
def test_a_missing_log_is_a_404(client: TestClient, ask: Asker, what: str) -> None:
    id = ask.run("simple")["id"]
    for path in (
        f"nope/tasks/first/{what}",
        f"{id}/tasks/nope/{what}",
        f"{id}/tasks/first/{what}attempt=2",
    ):
        assert client.get(f"/api/executions/{path}").status_code == 404


@dataclass(frozen=True)
class Prompt:
    """Prints an unfinished line, and finishes it on request."""

    answered: threading.Event

    def run(self) -> None:
        print("before")
        print("Password: ", end="")
        assert self.answered.wait(60)
        print("\rgiven")


STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def test_an_unfinished_line_is_shown_while_the_attempt_runs() -> None:
    answered = threading.Event()
    gf = Goflow(MemoryStore(), ui_path=None)
    gf.add_job(Job("prompt", tasks=[Task("t", Prompt(answered))]))
    with TestClient(gf, base_url="http://localhost") as client:
        ask = Asker(client)
        id = ask.submit("prompt")
        url = f"/api/executions/{id}/tasks/t"

        def asked() -> Any:
            return (answer := client.get(f"{url}/logs")).text.endswith("Password: ") and answer

        answer = until(asked)
        assert answer.text == "before\nPassword: "
        assert answer.headers["x-goflow-next-line"] == answer.headers["x-goflow-lines"] == "1"
        assert client.get(f"{url}/logs?after=1").text == "Password: "
        stamped = client.get(f"{url}/logs?after=1&timestamps=1").text
        assert re.fullmatch(f"{STAMP} Password: ", stamped)
        seen = window(client, url)
        assert (seen["lines"], seen["next"], seen["more"]) == (["before"], 1, False)
        assert seen["unfinished"]["text"] == "Password: "
        answered.set()
        ask.finished(id)
        assert client.get(f"{url}/logs?after=1").text == "Password: \rgiven\n"
        assert client.get(f"{url}/logs?after=1&timestamps=1").text.startswith(stamped)
        assert window(client, url, after=1)["lines"] == ["Password: \rgiven"]
        assert window(client, url)["unfinished"] is None


def test_lines_have_times_on_request(client: TestClient, ask: Asker) -> None:
    id = ask.run("simple")["id"]
    url = f"/api/executions/{id}/tasks/second"
    for query in ("timestamps=1", "timestamps=true&download=true", "timestamps=1&tail=2"):
        text = client.get(f"{url}/logs?{query}").text
        assert re.fullmatch(f"({STAMP}) one\n({STAMP}) two\n", text)
    assert client.get(f"{url}/logs").text == "one\ntwo\n"
    assert client.get(f"{url}/logs?timestamps=0").text == "one\ntwo\n"
    assert client.get(f"{url}/logs?timestamps=maybe").status_code == 400
    first, second = window(client, url)["times"]
    detail = client.get(f"/api/executions/{id}").json()
    assert detail["submitted"] <= first <= second <= detail["finished"]
    assert window(client, url, after=1)["times"] == [second]


def test_the_times_of_a_long_log_match_its_lines(long: tuple[TestClient, str]) -> None:
    client, url = long
    lines = client.get(f"{url}/logs?timestamps=1").text.splitlines()
    stamped = [line for line in lines if not line.startswith("[…")]
    assert all(re.match(f"{STAMP} line ", line) for line in stamped)
    times = [line.split(" ", 1)[0] for line in stamped]
    assert times == sorted(times)
    seen = window(client, url, tail=2500, limit=1000)
    assert [f"{time[:-4]}Z" for time in seen["times"]] == times[-2500:-1500]


def test_lines_of_an_earlier_version_have_no_times() -> None:
    gf = Goflow(MemoryStore(), ui_path=None)
    gf.add_job(simple("simple"))
    with TestClient(gf, base_url="http://localhost") as client:
        ask = Asker(client)
        url = f"/api/executions/{ask.run('simple')['id']}/tasks/second"
        with gf.engine.store._writing() as connection:  # type: ignore[attr-defined]
            connection.execute("UPDATE logs SET times = x''")
        assert client.get(f"{url}/logs?timestamps=1").text == "one\ntwo\n"
        assert window(client, url)["times"] == [None, None]
