"""`goflow ticks` and `upcoming`: the past and next due times of a job on a server."""

from datetime import datetime
from typing import Any

import click

from goflow.cli.remote import server_option
from goflow.cli.server import Server
from goflow.cli.terminal import as_json, columns, print_json
from goflow.cli.times import number_option, print_instants


def zone_of(described: dict[str, Any]) -> str:
    """The time zone of a job's first schedule, given the job as the server describes it."""
    from goflow.core.schedule import Schedule

    timezone = str(described["timezone"])
    for schedule in described["schedules"]:
        return Schedule(schedule, timezone, with_seconds=True).timezone
    return timezone


@click.command()
@click.argument("job")
@number_option(20, 1000, "Number of ticks.")
@server_option
@as_json
def ticks(job: str, number: int, url: str, as_json: bool) -> None:
    """Print the outcomes of past due times of JOB on a server, newest first.

    A tick is fired, with its execution; skipped, because of the overlap policy; missed, with the
    reason; or merged into another tick by a clock change. Consecutive missed ticks, and ticks
    merged into the same one, share a line that counts them.
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
@number_option(10, 1000, "Number of due times.")
@server_option
@as_json
def upcoming(job: str, number: int, url: str, as_json: bool) -> None:
    """Print the next due times of JOB on a server, even if its schedule is off.

    Each line has the due time in UTC, then in local time if the job has another time zone, then
    the effect of a clock change if there is one.
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
        click.echo(f"The schedule of {job} is off: none of these will run.", err=True)
