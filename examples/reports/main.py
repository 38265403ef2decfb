"""A report on a week of a web server's access log: fetch, clean, summarize twice, write.

    goflow run examples/reports/main.py access-report          once, in the terminal
    python examples/reports/main.py                            with the dashboard
    goflow run examples/reports/main.py access-report --param url=https://site.example/access.log

The job writes access-report.html to the folder `reports`. Without a `url`, the task `fetch` serves
the access.log beside this file and downloads it over HTTP. Tasks pass on paths and counts; the data
stays in a work folder.
"""

import contextlib
import functools
import html
import json
import re
import shutil
import tempfile
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from goflow import Context, ExponentialBackoff, Goflow, Job
from goflow.errors import TaskFailed

HERE = Path(__file__).resolve().parent
LARGEST = 100 * 1024 * 1024  # bytes of a log
REJECTS = 0.05  # largest share of damaged lines

# The combined log format of Apache and nginx.
LINE = re.compile(
    r'(?P<client>\S+) \S+ \S+ \[(?P<time>[^\]]+)\] "(?P<method>[A-Z]+) (?P<path>\S+) HTTP/[\d.]+"'
    r' (?P<status>\d{3}) (?P<size>\d+|-) "[^"]*" "[^"]*"'
)


class Report(Struct):
    """Input and output of the report."""

    url: Annotated[str, Meta(description="address of the log, or the example log")] = ""
    folder: Annotated[str, Meta(description="folder for the report", min_length=1)] = "reports"
    top: Annotated[int, Meta(description="paths and clients listed", ge=1, le=1000)] = 10


job = Job(
    "access-report",
    schedule="15 0 * * MON",
    params=Report,
    description="Errors by hour, and the most frequent paths and clients",
    tags=["example", "reports"],
)


@job.task(retries=3, retry_delay=ExponentialBackoff(jitter=0.2), timeout=120)
def fetch(context: Context, url: str) -> dict[str, Any]:
    """Download the log in chunks to a file, since results are small."""
    if url and not url.startswith(("http://", "https://")):
        raise TaskFailed(f"url must begin with http:// or https://, not {url!r}")
    target = work_folder(context) / "access.log"
    target.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        source = url or stack.enter_context(serving(HERE)) + "/access.log"
        answer = stack.enter_context(urllib.request.urlopen(source, timeout=30))
        file = stack.enter_context(target.open("wb"))
        size = 0
        while piece := answer.read(64 * 1024):
            size += len(piece)
            if size > LARGEST:
                raise TaskFailed(f"{source} has more than {LARGEST:,} bytes")
            file.write(piece)
    context.log(f"{size:,} bytes from {source}")
    return {"path": str(target), "bytes": size}


@job.task
def clean(fetch: dict[str, Any], context: Context) -> dict[str, Any]:
    """Keep the valid lines as JSON. Too many damaged lines fail the task."""
    target = work_folder(context) / "requests.jsonl"
    kept = rejected = 0
    with open(fetch["path"], encoding="utf-8", errors="replace") as log, target.open("w") as out:
        for line in log:
            request = parse(line.rstrip("\n"))
            if request is None:
                rejected += 1
                context.log.warning("rejected: %.80r", line)
            else:
                kept += 1
                out.write(json.dumps(request) + "\n")
    if rejected > REJECTS * (kept + rejected):
        raise TaskFailed(f"{rejected} of {kept + rejected} lines are damaged; is this a log?")
    return {"path": str(target), "kept": kept, "rejected": rejected}


@job.task
def by_status_and_hour(clean: dict[str, Any]) -> dict[str, Any]:
    """Count responses by status, and requests and server errors by hour (UTC)."""
    statuses: Counter[str] = Counter()
    hours: dict[str, list[int]] = {}
    for request in read(clean["path"]):
        statuses[str(request["status"])] += 1
        hour = hours.setdefault(request["time"][:13], [0, 0])
        hour[0] += 1
        hour[1] += request["status"] >= 500
    return {"statuses": dict(sorted(statuses.items())), "hours": hours}


@job.task
def top_paths_and_clients(clean: dict[str, Any], top: int) -> dict[str, Any]:
    """Find the most frequent paths and clients; ties are sorted by name."""
    paths: Counter[str] = Counter()
    clients: Counter[str] = Counter()
    size = 0
    for request in read(clean["path"]):
        paths[request["path"].partition("?")[0]] += 1
        clients[request["client"]] += 1
        size += request["size"]
    return {"paths": most(paths, top), "clients": most(clients, top), "bytes": size}


@job.task
def write_report(
    clean: dict[str, Any],
    by_status_and_hour: dict[str, Any],
    top_paths_and_clients: dict[str, Any],
    context: Context,
    folder: str,
) -> str:
    """Write the page to a temporary file first, so that readers never see a partial page."""
    hours = by_status_and_hour["hours"].items()
    worst = sorted(hours, key=lambda hour: (-hour[1][1], hour[0]))[:5]
    page = PAGE.format(
        at=context.submitted_at.strftime("%Y-%m-%d %H:%M UTC"),
        kept=clean["kept"],
        rejected=clean["rejected"],
        size=top_paths_and_clients["bytes"],
        statuses=table(["status", "answers"], by_status_and_hour["statuses"].items()),
        hours=table(["hour (UTC)", "requests", "errors"], [(hour, *n) for hour, n in worst]),
        paths=table(["path", "requests"], top_paths_and_clients["paths"]),
        clients=table(["client", "requests"], top_paths_and_clients["clients"]),
    )
    target = Path(folder) / "access-report.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_suffix(f".{context.execution_id}.part")
    draft.write_text(page, encoding="utf-8")
    draft.replace(target)
    return str(target)


# Runs even if the tasks before it failed. The execution still counts as failed then. The data is
# gone afterwards, so submit the job again instead of retrying.
@job.task(after=["write_report"], trigger_rule="allDone")
def clean_up(context: Context) -> None:
    shutil.rmtree(work_folder(context), ignore_errors=True)


def work_folder(context: Context) -> Path:
    """The folder of this execution."""
    return Path(tempfile.gettempdir()) / f"access-report-{context.execution_id}"


def parse(line: str) -> dict[str, Any] | None:
    """One request, with its time in UTC; None for a damaged line."""
    if (found := LINE.fullmatch(line)) is None:
        return None
    try:
        at = datetime.strptime(found["time"], "%d/%b/%Y:%H:%M:%S %z").astimezone(UTC)
    except ValueError:
        return None
    return {
        "client": found["client"],
        "time": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "path": found["path"],
        "status": int(found["status"]),
        "size": 0 if found["size"] == "-" else int(found["size"]),
    }


def read(path: str) -> Iterator[dict[str, Any]]:
    with open(path) as lines:
        yield from map(json.loads, lines)


def most(counts: Counter[str], top: int) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:top]


def table(heads: list[str], rows: Iterable[Iterable[object]]) -> str:
    """An HTML table. Log entries come from strangers, so every cell is escaped."""
    lines = ["<table>", "<tr>" + "".join(f"<th>{head}</th>" for head in heads) + "</tr>"]
    for row in rows:
        cells = "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row)
        lines.append(f"<tr>{cells}</tr>")
    return "\n".join([*lines, "</table>"])


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serves a folder on this machine while the block runs; gives the address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Access report</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 48rem; margin: 2rem auto }}
table {{ border-collapse: collapse }}
th, td {{ padding: .2rem 1rem .2rem 0; text-align: left; border-bottom: 1px solid #ddd }}
</style>
<h1>Access report</h1>
<p>{kept:,} requests, {size:,} bytes; {rejected:,} damaged lines left out. Made {at}.</p>
<h2>Answers by status</h2>
{statuses}
<h2>The hours with most server errors</h2>
{hours}
<h2>Paths</h2>
{paths}
<h2>Clients</h2>
{clients}
</html>
"""

gf = Goflow()
gf.add_job(job)

if __name__ == "__main__":
    gf.run(":8181")
