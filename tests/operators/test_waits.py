"""The operators that wait, against real files, a real server and a clock that jumps."""

import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, time, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from goflow import (
    Context,
    InvalidJob,
    Job,
    Later,
    Task,
    Template,
    WaitFor,
    WaitForFile,
    WaitForUrl,
    WaitUntil,
)
from goflow.testing import BEGINNING, FinishedExecution, run


def done(operator: Any, now: datetime = BEGINNING, **options: Any) -> FinishedExecution:
    """Run a job with one task."""
    job_options = {name: options.pop(name) for name in ("params", "timezone") if name in options}
    return run(Job("j", tasks=[Task("wait", operator, **options)], **job_options), now=now)


def seconds(execution: FinishedExecution) -> int:
    """How long it took."""
    assert execution.finished is not None
    return round((execution.finished - execution.submitted).total_seconds())


class Answers:
    """Returns values one after the other, then the last one for ever."""

    def __init__(self, *values: Any) -> None:
        self.values = list(values)
        self.looks = 0

    def __call__(self) -> Any:
        self.looks += 1
        return self.values.pop(0) if len(self.values) > 1 else self.values[0]


# -- WaitFor ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sync", "async", "awaitable", "context"])
def test_a_check_is_asked_until_it_returns_something_true(kind: str) -> None:
    answers = Answers(None, 0, [], "", {"rows": 3})

    async def later() -> Any:
        return answers()

    def with_context(context: Context) -> Any:
        assert context.task == "wait"
        return answers()

    checks: dict[str, Callable[..., Any]] = {
        "sync": answers,
        "async": later,
        "awaitable": lambda: later(),
        "context": with_context,
    }
    execution = done(WaitFor(checks[kind], every=60))
    assert execution.tasks["wait"].result == {"rows": 3}
    assert answers.looks == 5
    assert seconds(execution) == 240
    assert len(execution.tasks["wait"].attempts) == 1


def test_the_timeout_counts_from_the_first_look_and_the_last_look_is_at_its_end() -> None:
    answers = Answers(False)
    execution = done(WaitFor(answers, every=40, timeout=100))
    task = execution.tasks["wait"]
    assert (task.state, seconds(execution)) == ("failed", 100)
    assert task.error == "timed out after 100 s: Answers returned False"
    assert answers.looks == 4


def test_a_timeout_fails_the_attempt_so_that_retries_follow() -> None:
    execution = done(WaitFor(Answers(False), every=40, timeout=100), retries=1)
    assert [one.state for one in execution.tasks["wait"].attempts] == ["failed", "failed"]
    assert seconds(execution) == 200


def test_an_exception_of_a_check_fails_the_attempt() -> None:
    looks = []

    def check() -> bool:
        looks.append(1)
        if len(looks) == 2:
            raise ConnectionError("no database")
        return len(looks) > 3

    task = done(WaitFor(check), retries=1).tasks["wait"]
    assert [one.state for one in task.attempts] == ["failed", "successful"]
    assert (task.attempts[0].error or "").startswith("ConnectionError: no database")


def test_a_check_may_say_itself_why_and_how_long_to_wait() -> None:
    def check(context: Context) -> bool:
        if context.waited < 500:
            raise Later(500, "the bank is closed")
        return True

    assert seconds(done(WaitFor(check, every=1))) == 500


def test_a_value_whose_truth_raises_and_one_that_is_no_json_fail_the_attempt() -> None:
    class Odd:
        def __bool__(self) -> bool:
            raise SystemExit(3)

    assert "exit code 3" in (done(WaitFor(lambda: Odd())).tasks["wait"].error or "")
    assert done(WaitFor(lambda: object())).tasks["wait"].state == "failed"


def test_a_check_can_run_in_a_process_of_its_own() -> None:
    job = Job("j", tasks=[Task("wait", WaitFor(_long_enough, every=0.1), isolation="process")])
    assert job.run().tasks["wait"].result is True


def _long_enough(context: Context) -> bool:
    return context.waited > 0.05


def test_items_of_a_mapped_task_wait_by_their_own_checks() -> None:
    job = Job("j")

    @job.task
    def files() -> list[int]:
        return [0, 100, 200]

    def check(context: Context) -> bool:
        return bool(context.waited >= context.item)

    job.add(Task("wait", WaitFor(check, every=100), map_over="files"))
    execution = run(job)
    assert execution.tasks["wait"].result == [True, True, True]
    assert seconds(execution) == 200


# -- WaitForFile -----------------------------------------------------------------------


def test_a_file_that_is_there_ends_the_wait_at_once(tmp_path: Path) -> None:
    file = tmp_path / "a [1].csv"
    file.write_text("x")
    assert done(WaitForFile(file)).tasks["wait"].result == str(file)
    assert done(WaitForFile(tmp_path)).tasks["wait"].result == str(tmp_path)


def test_a_file_is_found_when_it_appears(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    timer = threading.Timer(0.2, file.touch)
    timer.start()
    job = Job("j", tasks=[Task("wait", WaitForFile(file, every=0.05, timeout=60))])
    assert job.run().tasks["wait"].result == str(file)
    timer.join()


def test_a_pattern_gives_all_matching_paths_sorted(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "c.txt", "deep/er/d.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = done(WaitForFile(str(tmp_path / "*.csv"))).tasks["wait"].result
    assert found == [str(tmp_path / name) for name in ("a.csv", "b.csv")]
    deep = done(WaitForFile(str(tmp_path / "**" / "d.csv"))).tasks["wait"].result
    assert deep == [str(tmp_path / "deep/er/d.csv")]


def test_a_file_that_changed_a_moment_ago_is_not_settled(tmp_path: Path) -> None:
    """Also if its program has set the time of its content back."""
    file = tmp_path / "a.csv"
    file.touch()
    os.utime(file, (0, 0))
    execution = done(WaitForFile(file, settled=600), now=datetime.now(UTC))
    assert execution.tasks["wait"].state == "successful"
    assert 599 <= seconds(execution) <= 601


def test_a_file_that_never_comes_fails_at_the_timeout(tmp_path: Path) -> None:
    task = done(WaitForFile(tmp_path / "no", timeout=90)).tasks["wait"]
    assert task.error == f"timed out after 90 s: there is no '{tmp_path}/no'"


def test_the_path_may_be_a_template_and_is_logged_once(tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    operator = WaitForFile(Template("{{ params.folder }}/a.csv"), settled=90)
    task = done(operator, now=datetime.now(UTC), params={"folder": str(tmp_path)}).tasks["wait"]
    assert task.result == str(tmp_path / "a.csv")
    assert task.logs == f"rendered path: {tmp_path}/a.csv\n"


# -- WaitForUrl ------------------------------------------------------------------------


class Site(BaseHTTPRequestHandler):
    statuses: list[int]

    def do_GET(self) -> None:
        body = b"hello"
        self.send_response(self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[tuple[str, list[int]]]:
    statuses: list[int] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Site,), {"statuses": statuses}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", statuses
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_url_is_asked_until_it_answers_with_success(site: tuple[str, list[int]]) -> None:
    url, statuses = site
    statuses += [503, 404, 500, 200]
    task = done(WaitForUrl(url)).tasks["wait"]
    assert task.result == "hello"
    lines = task.logs.splitlines()
    assert len(lines) == 2, "the first look and the last one"
    assert "503" in lines[0]
    assert "200" in lines[1]


def test_a_url_that_refuses_connections_fails_at_the_timeout() -> None:
    task = done(WaitForUrl("http://127.0.0.1:1/", timeout=60)).tasks["wait"]
    assert (task.error or "").startswith("timed out after 60 s: GET http://127.0.0.1:1/: ")
    assert "refused" in (task.error or "")


def test_the_url_may_be_a_template(site: tuple[str, list[int]]) -> None:
    url, statuses = site
    statuses.append(200)
    job = Job(
        "j", tasks=[Task("wait", WaitForUrl(Template("{{ params.url }}")))], params={"url": url}
    )
    assert run(job).tasks["wait"].result == "hello"


def test_a_password_in_the_url_is_not_shown() -> None:
    operator = WaitForUrl("http://ann:secret@127.0.0.1:1/", timeout=60)
    assert "secret" not in repr(operator)
    task = done(operator).tasks["wait"]
    assert "secret" not in f"{task.error} {task.logs}"


# -- WaitUntil -------------------------------------------------------------------------


def test_it_waits_until_an_instant_with_a_single_look() -> None:
    when = datetime(2030, 1, 1, 15, 6, tzinfo=ZoneInfo("Asia/Tokyo"))
    execution = done(WaitUntil(when))
    assert execution.finished is not None
    assert abs(execution.finished - when) < timedelta(seconds=1)


def test_an_instant_that_has_passed_ends_the_wait_at_once() -> None:
    assert seconds(done(WaitUntil(datetime(2020, 1, 1, tzinfo=UTC)))) == 0


def test_a_duration_counts_from_the_due_time_or_the_submit() -> None:
    assert seconds(done(WaitUntil(timedelta(hours=2)))) == 7200


@pytest.mark.parametrize(
    ("operator", "zone", "due", "until"),
    [
        (WaitUntil(time(6, 30)), "UTC", "2030-01-01T02:00Z", "2030-01-01T06:30Z"),
        (WaitUntil(time(6, 30)), "UTC", "2030-01-01T06:30Z", "2030-01-01T06:30Z"),
        (WaitUntil(time(6, 30)), "UTC", "2030-01-01T08:00Z", "2030-01-02T06:30Z"),
        (WaitUntil(time(6, 30)), "Europe/Berlin", "2030-01-01T02:00Z", "2030-01-01T05:30Z"),
        (WaitUntil(time(6, 30)), "Europe/Berlin", "2030-07-01T02:00Z", "2030-07-01T04:30Z"),
        (WaitUntil(time(0, 30)), "Asia/Tokyo", "2030-01-01T16:00Z", "2030-01-02T15:30Z"),
        (WaitUntil(time(6, tzinfo=UTC)), "Asia/Tokyo", "2030-01-01T02:00Z", "2030-01-01T06:00Z"),
        (
            WaitUntil(time(6, 30), timezone="Europe/Berlin"),
            "UTC",
            "2030-01-01T02:00Z",
            "2030-01-01T05:30Z",
        ),
        # In the gap of the clock change, and in the hour that comes twice.
        (WaitUntil(time(2, 30)), "Europe/Berlin", "2030-03-31T00:00Z", "2030-03-31T01:30Z"),
        (WaitUntil(time(2, 30)), "Europe/Berlin", "2030-10-27T00:00Z", "2030-10-27T00:30Z"),
    ],
)
def test_a_time_of_the_day_is_the_first_one_from_the_due_time_on(
    operator: WaitUntil, zone: str, due: str, until: str
) -> None:
    execution = done(operator, now=datetime.fromisoformat(due), timezone=zone)
    assert execution.finished is not None
    assert abs(execution.finished - datetime.fromisoformat(until)) < timedelta(seconds=1)


# -- mistakes --------------------------------------------------------------------------


async def _generator() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("define", "told"),
    [
        (lambda: WaitFor(7), "WaitFor: check must be a function, not 7"),  # type: ignore[arg-type]
        (lambda: WaitFor(int), "WaitFor: check must be a function, not <class 'int'>"),
        (lambda: WaitFor(lambda a, b: 1), "must take nothing or one context"),
        (lambda: WaitFor(_generator), "is a generator; return a value"),
        (lambda: WaitFor(print, every=0), "WaitFor: every must be above 0 seconds"),
        (lambda: WaitFor(print, every=float("inf")), "WaitFor: every must be above 0 seconds"),
        (lambda: WaitFor(print, timeout=-1), "WaitFor: timeout must be above 0 seconds"),
        (lambda: WaitFor(print, timeout="1h"), "WaitFor: timeout must be a number"),  # type: ignore[arg-type]
        (lambda: WaitForFile(7), "WaitForFile: path must be a path, not 7"),  # type: ignore[arg-type]
        (lambda: WaitForFile(""), "WaitForFile: path must not be empty"),
        (lambda: WaitForFile("a\0b"), "NUL"),
        (lambda: WaitForFile("a", settled=-1), "WaitForFile: settled must be above 0 seconds"),
        (lambda: WaitForUrl("example.com"), "url must be like https://host/path"),
        (lambda: WaitForUrl("http://a", request_timeout=0), "request_timeout must be above 0"),
        (lambda: WaitUntil("6:30"), "must be a datetime, a time or a timedelta, not '6:30'"),  # type: ignore[arg-type]
        (lambda: WaitUntil(datetime(2030, 1, 1)), "has no time zone; add tzinfo="),  # noqa: DTZ001
        (lambda: WaitUntil(timedelta(seconds=-1)), "must not be negative"),
        (lambda: WaitUntil(time(6), timezone="Mars"), "unknown time zone 'Mars'"),
        (lambda: WaitUntil(time(6, tzinfo=UTC), timezone="UTC"), "timezone is for a time without"),
    ],
)
def test_a_mistake_is_found_when_the_operator_is_made(define: Callable[[], Any], told: str) -> None:
    with pytest.raises(InvalidJob) as refused:
        define()
    assert told in str(refused.value)
