"""Run a job on a server for due times that have passed, and watch that."""

import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from goflow.cli.ledger import zone_of
from goflow.cli.params import params_option, read_params
from goflow.cli.remote import POLL, server_option
from goflow.cli.server import Refused, Server
from goflow.cli.terminal import FAILED, as_json, columns, print_json, rfc3339
from goflow.cli.times import read_instant, read_zone

FORGOTTEN = "forgotten"  # of an execution that is not kept any more


@click.command()
@click.argument("job")
@click.option("--from", "start", required=True, metavar="TIME", help="The first due time.")
@click.option("--to", "end", required=True, metavar="TIME", help="Due times before this.")
@click.option(
    "--timezone",
    metavar="ZONE",
    help="Zone of times without an offset; by default that of the job's schedule.",
)
@click.option(
    "--parallel",
    type=click.IntRange(1, 100),
    default=1,
    show_default=True,
    help="How many executions at once.",
)
@click.option("--dry-run", is_flag=True, help="Only print what would run.")
@params_option
@click.option("--wait", is_flag=True, help="Watch them to their end; the exit code tells.")
@server_option
@as_json
def backfill(
    job: str,
    start: str,
    end: str,
    timezone: str | None,
    parallel: int,
    dry_run: bool,
    params: tuple[str, ...],
    wait: bool,
    url: str,
    as_json: bool,
) -> None:
    """Run JOB on a server for the due times of a range, oldest first.

    Those that have run already are left out, so it is safe to repeat. TIME is such as
    2030-01-31T08:00:00Z or 2030-01-31. With --wait, exits with 0 if every execution of the
    range is successful and with 1 if not; Ctrl-C ends the watching, not the executions.
    """
    zone = None if timezone is None else read_zone(timezone)
    with Server(url) as server:
        described = server.get("jobs", job)
        zone = zone or read_zone(zone_of(described))
        body: dict[str, Any] = {
            "from": rfc3339(read_instant("--from", start, zone)),
            "to": rfc3339(read_instant("--to", end, zone)),
            "parallel": parallel,
            "dry_run": dry_run,
        }
        if params:
            body["params"] = read_params(params, described["params_schema"])
        answer = server.post("jobs", job, "backfill", body=body)
        ranges = answer["executions"]
        if not as_json:
            _print(ranges, dry_run)
        states: dict[str, str] = {}
        if wait and not dry_run:
            with _progress(silent=as_json) as show:
                states = _watch(server, ranges, parallel, show)
            for one in ranges:
                one["state"] = states[one["execution"]]
    if as_json:
        print_json(answer)
    if not set(states.values()) <= {"successful", FORGOTTEN}:
        raise click.exceptions.Exit(FAILED)


def _print(ranges: Sequence[dict[str, Any]], dry_run: bool) -> None:
    """A line for each due time, and one that counts them."""
    made, counted = ("would run", "would run") if dry_run else ("runs", "run now")
    known = [one["execution"] is not None and not one["created"] for one in ranges]
    rows = [
        (one["due"], "has run" if ran else made, one["execution"] or "-")
        for one, ran in zip(ranges, known, strict=True)
    ]
    if rows:
        click.echo("\n".join(columns(rows)))
    click.echo(f"{len(rows) - sum(known)} of {len(rows)} due times {counted}")


def _watch(
    server: Server, ranges: Sequence[dict[str, Any]], parallel: int, show: Callable[[str], None]
) -> dict[str, str]:
    """The state in which each execution ended."""
    made = [one["execution"] for one in ranges if one["created"]]
    # Of those just made each waits for the one `parallel` before it: look at the first only.
    lines = [deque(made[first::parallel]) for first in range(parallel)]
    lines += [deque([one["execution"]]) for one in ranges if not one["created"]]
    ended: dict[str, str] = {}
    show(_summary(ended, len(ranges)))
    while any(lines):
        before = len(ended)
        for line in lines:
            while line and (state := _final_state(server, line[0])) is not None:
                ended[line.popleft()] = state
        if len(ended) > before:
            show(_summary(ended, len(ranges)))
        elif any(lines):
            time.sleep(POLL)
    return ended


def _final_state(server: Server, id: str) -> str | None:
    try:
        execution = server.get("executions", id)
    except Refused as refused:
        if refused.status == 404:
            return FORGOTTEN
        raise
    return str(execution["state"]) if execution["finished"] is not None else None


def _summary(ended: dict[str, str], number: int) -> str:
    counts = Counter(ended.values())
    states = "".join(f", {count} {state}" for state, count in sorted(counts.items()))
    return f"{len(ended)} of {number} ended{states}"


@contextmanager
def _progress(*, silent: bool) -> Iterator[Callable[[str], None]]:
    """Shows a text: in a terminal in the place of the one before, else as a line."""
    if silent:
        yield lambda text: None
        return
    if sys.stdout.isatty():
        from rich.console import Console

        console = Console(highlight=False)
        if not console.is_dumb_terminal:
            last = ""
            with console.status("") as status:

                def show(text: str) -> None:
                    nonlocal last
                    last = text
                    status.update(text)

                yield show
            click.echo(last)
            return
    yield click.echo
