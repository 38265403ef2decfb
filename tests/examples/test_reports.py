"""The report agrees with an independent count of the log."""

import html
import re
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from goflow.testing import FinishedExecution, run

Example = Callable[[str], ModuleType]
REPORTS = Path(__file__).resolve().parents[2] / "examples" / "reports"


class Counted(NamedTuple):
    statuses: Counter[str]
    hours: Counter[str]
    errors: Counter[str]
    paths: Counter[str]
    clients: Counter[str]
    size: int
    rejected: int


def count() -> Counted:
    """Count by splitting lines at quotes and spaces; the example uses a regular expression."""
    counted = Counted(Counter(), Counter(), Counter(), Counter(), Counter(), 0, 0)
    size = rejected = 0
    for line in (REPORTS / "access.log").read_text(encoding="utf-8").splitlines():
        parts = line.split('"')
        request = parts[1].split(" ") if len(parts) == 7 else []
        head = parts[0].split(" ")
        if len(request) != 3 or not request[0].isupper() or "Sep" not in head[3]:
            rejected += 1
            continue
        status, answered = parts[2].split()
        at = datetime.strptime(head[3], "[%d/%b/%Y:%H:%M:%S")  # noqa: DTZ007 - all are in UTC
        hour = f"{at:%Y-%m-%dT%H}"
        counted.statuses[status] += 1
        counted.hours[hour] += 1
        counted.errors[hour] += status.startswith("5")
        counted.paths[request[1].split("?")[0]] += 1
        counted.clients[head[0]] += 1
        size += int(answered) if answered != "-" else 0
    return counted._replace(size=size, rejected=rejected)


@pytest.fixture(scope="module")
def counted() -> Counted:
    return count()


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The parent of work folders."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@contextmanager
def serving(handler: Any) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def states(execution: FinishedExecution) -> dict[str, str]:
    return {name: str(task.state) for name, task in execution.tasks.items()}


def test_the_log_is_the_output_of_its_script(example: Example) -> None:
    made = example("reports/make_access_log.py").make()
    assert made.encode() == (REPORTS / "access.log").read_bytes()
    assert made.count("\n") >= 10_000


def test_the_count_agrees_with_awk(counted: Counted) -> None:
    # awk -F'"' 'NF==7 && $2 ~ /^[A-Z]+ [^ ]+ HTTP/ && $1 !~ /Sxp/ {split($3,a," "); c[a[1]]++}'
    assert counted.statuses == {
        "200": 9063, "301": 88, "304": 933, "404": 207, "500": 41, "503": 19,
    }  # fmt: skip
    assert counted.rejected == 10_400 - 10_351


def test_the_summaries_agree_with_the_log(example: Example, counted: Counted, work: Path) -> None:
    tasks = run(example("reports/main.py").job, {"top": 7}).tasks
    assert tasks["fetch"].result["bytes"] == (REPORTS / "access.log").stat().st_size
    assert tasks["clean"].result["kept"] == sum(counted.statuses.values())
    assert tasks["clean"].result["rejected"] == counted.rejected
    by_hour = tasks["by_status_and_hour"].result
    assert by_hour["statuses"] == dict(counted.statuses)
    assert by_hour["hours"] == {h: [n, counted.errors[h]] for h, n in counted.hours.items()}
    top = tasks["top_paths_and_clients"].result
    assert top["bytes"] == counted.size
    for seen, listed in [(counted.paths, top["paths"]), (counted.clients, top["clients"])]:
        assert len(listed) == 7
        assert listed == [[name, seen[name]] for name, _ in listed]
        assert [n for _, n in listed] == sorted(seen.values(), reverse=True)[:7]


def test_the_report_shows_the_numbers_and_leaves_no_files(
    example: Example, counted: Counted, work: Path, tmp_path: Path
) -> None:
    execution = run(example("reports/main.py").job, {"folder": "out", "top": 1000})
    assert execution.state == "successful"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["access-report.html"]
    page = (tmp_path / "out" / "access-report.html").read_text(encoding="utf-8")
    rows = [
        [html.unescape(cell) for cell in re.findall(r"<td>(.*?)</td>", row)]
        for row in re.findall(r"<tr>(.*?)</tr>", page)
    ]
    for name, n in [*counted.statuses.items(), *counted.paths.items(), *counted.clients.items()]:
        assert [name, str(n)] in rows
    worst = max(counted.errors.values())
    assert worst > 5
    hours = [hour for hour, n in counted.errors.items() if n == worst]
    assert all([hour, str(counted.hours[hour]), str(worst)] in rows for hour in hours)
    assert "<script>" not in page  # a path in the log has one
    assert "/docs/<script>alert(1)</script>" in counted.paths
    assert list(work.iterdir()) == []


def test_the_two_summaries_wait_only_for_the_clean_lines(example: Example) -> None:
    job = example("reports/main.py").job
    assert job.task("by_status_and_hour").after == ["clean"]
    assert job.task("top_paths_and_clients").after == ["clean"]


def test_a_remote_log_is_fetched_over_http(example: Example, counted: Counted, work: Path) -> None:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    with serving(partial(Quiet, directory=str(REPORTS))) as address:
        execution = run(example("reports/main.py").job, {"url": f"{address}/access.log"})
    assert execution.state == "successful"
    assert f"from {address}/access.log" in execution.tasks["fetch"].logs


def test_a_request_that_fails_at_first_is_retried(example: Example, work: Path) -> None:
    asked: list[str] = []

    class Flaky(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = (REPORTS / "access.log").read_bytes()[:20_000] if len(asked) > 2 else b""
            self.send_response(200 if body else 503)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with serving(Flaky) as address:
        execution = run(example("reports/main.py").job, {"url": f"{address}/a.log"})
    assert execution.state == "successful"
    assert len(execution.tasks["fetch"].attempts) == 3


def test_a_file_that_is_not_a_log_fails_and_is_cleaned_up(
    example: Example, work: Path, tmp_path: Path
) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<html>\n" * 50
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with serving(Page) as address:
        execution = run(example("reports/main.py").job, {"url": f"{address}/"})
    assert execution.state == "failed"
    assert states(execution) == {
        "fetch": "successful",
        "clean": "failed",
        "by_status_and_hour": "skipped",
        "top_paths_and_clients": "skipped",
        "write_report": "skipped",
        "clean_up": "successful",
    }
    assert execution.tasks["clean"].error == "50 of 50 lines are damaged; is this a log?"
    assert list(work.iterdir()) == []
    assert not (tmp_path / "reports").exists()


def test_a_file_url_is_refused(example: Example, work: Path) -> None:
    execution = run(example("reports/main.py").job, {"url": "file:///etc/passwd"})
    assert execution.tasks["fetch"].state == "failed"
    assert "must begin with http" in execution.tasks["fetch"].error
