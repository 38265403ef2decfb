"""`goflow next`: the due times of a cron expression; reading and printing instants."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import click

from goflow.cli.terminal import Unusable, as_json, print_json, rfc3339


def number_option(default: int, maximum: int, help: str) -> Callable[[Any], Any]:
    """The option `-n`, from 1 to `maximum`."""
    return click.option(
        "-n",
        "--number",
        type=click.IntRange(1, maximum),
        default=default,
        show_default=True,
        help=help,
    )


@click.command("next")
@click.argument("cron")
@click.option("--timezone", default="UTC", metavar="ZONE", help="Time zone of the expression.")
@click.option(
    "--after",
    metavar="TIME",
    help="Start, exclusive; now by default. RFC 3339; in ZONE if it has no offset.",
)
@number_option(10, 100_000, "Number of due times.")
@click.option("--seconds", is_flag=True, help="Allow six fields, the first one for seconds.")
@as_json
def next_times(
    cron: str, timezone: str, after: str | None, number: int, seconds: bool, as_json: bool
) -> None:
    """Print the next due times of the expression CRON.

    Each line has the due time in UTC, then in local time if ZONE is another, then the effect of
    a clock change if there is one. The list is shorter than --number if there are no more.
    """
    from goflow import zones
    from goflow.core.schedule import Schedule

    schedule = Schedule(cron, timezone, seconds)
    zone = zones.find(schedule.timezone)
    fires: list[datetime] = []
    first = now() if after is None else read_instant("--after", after, zone)
    last: datetime | None = first
    while last is not None and len(fires) < number:
        if (last := schedule.next(last, anchor=first)) is not None:
            fires.append(last)
    changes = [
        {"due": rfc3339(fire), "reason": change.reason}
        for fire in fires
        if (change := schedule.clock_change(fire)) is not None
    ]
    if as_json:
        print_json(
            {
                "schedule": schedule.expression,
                "timezone": schedule.timezone,
                "next": [rfc3339(fire) for fire in fires],
                "clock_changes": changes,
            }
        )
        return
    print_instants(fires, schedule.timezone, changes)


def now() -> datetime:
    from goflow.engine.clock import SystemClock

    return SystemClock().now()


def read_instant(option: str, text: str, zone: ZoneInfo) -> datetime:
    """The instant given by an option. Without an offset it is a local time in `zone`."""
    try:
        instant = datetime.fromisoformat(text)
        if instant.tzinfo is None:
            instant = instant.replace(tzinfo=zone)
        return instant.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Unusable(
            f"{option} {text[:80]!r} is not a time; write it like 2030-01-31T08:00:00Z"
        ) from None


def read_zone(name: str) -> ZoneInfo:
    """A time zone by name. Raises `InvalidJob`."""
    from goflow import zones
    from goflow.core.schedule import Schedule

    return zones.find(Schedule("@daily", name).timezone)


def print_instants(
    instants: Iterable[datetime], timezone: str, changes: Iterable[dict[str, str]]
) -> None:
    """Print a line per instant: in UTC, in local time if the zone is another, and the reason in
    `changes`, which are as in `GET /api/jobs/{name}/upcoming`."""
    from goflow import zones

    zone = zones.find(timezone)
    reasons = {change["due"]: change["reason"] for change in changes}
    for instant in instants:
        due = rfc3339(instant)
        local = None if timezone == "UTC" else _local(instant, zone)
        click.echo("  ".join(filter(None, (due, local, reasons.get(due)))))


def _local(instant: datetime, zone: ZoneInfo) -> str | None:
    try:
        return instant.astimezone(zone).isoformat()
    except OverflowError:  # the local year is 10000
        return None
