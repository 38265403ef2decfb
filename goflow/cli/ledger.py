"""What became of a job's due times on a server, and which are next."""

from datetime import datetime
from typing import Any

import click

from goflow.cli.remote import server_option
from goflow.cli.server import Server
from goflow.cli.terminal import as_json, columns, print_json
from goflow.cli.times import print_instants


def zone_of(described: dict[str, Any]) -> str:
    """The zone in which a job's schedule is read, given the job as the server shows it."""
    from goflow.core.schedule import Schedule

    schedule, timezone = described["schedule"], str(described["timezone"])
    return Schedule(schedule, timezone, with_seconds=True).timezone if schedule else timezone


@click.command()
@click.argument("job")
@click.option(
    "-n",
    "--number",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    help="How many ticks.",
)
@server_option
@as_json
def ticks(job: str, number: int, url: str, as_json: bool) -> None:
    """Print what became of the due times of JOB on a server, newest first.

    fired, with its execution; skipped, because of the overlap policy; missed, with the
    reason; merged into another by a change of the clocks. Missed ones in a row, and those merged
    into the same one, are one line with their number.
    """
    with Server(url) as server:
        answer = server.get("jobs", job, "ticks", limit=number)
    if as_json:
        print_json(answer)
        return
    rows = [("DUE", "OUTCOME", "NUMBER", "EXECUTION OR REASON")]
    rows += [
        (tick["due"], tick["outcome"], str(tick["count"]), _remark(tick))
        for tick in answer["ticks"]
    ]
    click.echo("\n".join(columns(rows)))


def _remark(tick: dict[str, Any]) -> str:
    parts = [tick["execution"], tick["until"] and f"until {tick['until']}", tick["reason"]]
    return ": ".join(part for part in parts if part)


@click.command()
@click.argument("job")
@click.option(
    "-n",
    "--number",
    type=click.IntRange(1, 1000),
    default=10,
    show_default=True,
    help="How many due times.",
)
@server_option
@as_json
def upcoming(job: str, number: int, url: str, as_json: bool) -> None:
    """Print the next due times of JOB on a server.

    Each line begins with the instant in UTC; the local time follows if the job has another
    zone, and what a change of the clocks has to do with it. They are told whether or not the
    schedule is on.
    """
    with Server(url) as server:
        answer = server.get("jobs", job, "upcoming", n=number)
        if as_json:
            print_json(answer)
            return
        timezone = zone_of(server.get("jobs", job))
    times = map(datetime.fromisoformat, answer["upcoming"])
    print_instants(times, timezone, answer["clock_changes"])
    if answer["upcoming"] and not answer["active"]:
        click.echo(f"The schedule of {job} is off: none of these fires.", err=True)
