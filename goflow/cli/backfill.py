"""`goflow backfill`: run a job on a server for past due times, and watch the executions."""

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

FORGOTTEN = "forgotten"  # the state of an execution that the server has deleted


@click.command()
@click.argument("job")
@click.option(
    "--from", "start", required=True, metavar="TIME", help="Start of the range, inclusive."
)
@click.option("--to", "end", required=True, metavar="TIME", help="End, exclusive.")
@click.option(
    "--timezone",
    metavar="ZONE",
    help="Time zone of TIMEs without an offset; the schedule's by default.",
)
@click.option(
    "--parallel",
    type=click.IntRange(1, 100),
    default=1,
    show_default=True,
    help="Maximum number of executions at the same time.",
)
@click.option("--dry-run", is_flag=True, help="Only print the due times that would run.")
@params_option
@click.option("--wait", is_flag=True, help="Wait until all have ended; see the exit codes above.")
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
    """Run JOB on a server for past due times in a range, oldest first.

    Due times that have already run are skipped, so the command is safe to repeat. TIME is, for
    example, 2030-01-31T08:00:00Z or 2030-01-31. With --wait, the exit code is 0 if every
    execution of the range is successful, else 1; Ctrl-C stops the waiting, not the executions.
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
    """One line per due time, and a summary."""
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
    """Wait for all executions; their final states by id."""
    made = [one["execution"] for one in ranges if one["created"]]
    # Each new execution waits for the one `parallel` places before it, so only the first
    # unfinished one of each chain needs polling.
    chains = [deque(made[first::parallel]) for first in range(parallel)]
    chains += [deque([one["execution"]]) for one in ranges if not one["created"]]
    ended: dict[str, str] = {}
    show(_summary(ended, len(ranges)))
    while any(chains):
        before = len(ended)
        for chain in chains:
            while chain and (state := _final_state(server, chain[0])) is not None:
                ended[chain.popleft()] = state
        if len(ended) > before:
            show(_summary(ended, len(ranges)))
        elif any(chains):
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
    """A function that shows a text: in a terminal it replaces the last text, else it is a line."""
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
