"""When a cron expression fires, and how the command line reads and writes instants."""

from collections.abc import Iterable
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import click

from goflow.cli.terminal import Unusable, as_json, print_json, rfc3339


@click.command("next")
@click.argument("cron")
@click.option("--timezone", default="UTC", metavar="ZONE", help="Zone the expression is read in.")
@click.option(
    "--after",
    metavar="TIME",
    help="Fires later than this, now by default: RFC 3339; without an offset it is read in ZONE.",
)
@click.option(
    "-n",
    "--number",
    type=click.IntRange(1, 100_000),
    default=10,
    show_default=True,
    help="How many fires.",
)
@click.option("--seconds", is_flag=True, help="Six fields are allowed, the first one seconds.")
@as_json
def next_times(
    cron: str, timezone: str, after: str | None, number: int, seconds: bool, as_json: bool
) -> None:
    """Print when CRON fires next.

    Each line begins with the instant in UTC; the local time follows if the zone is another.
    A fire that is what it is because of a change of the clocks says so. Fewer lines than asked
    for means that no more fires follow.
    """
    from goflow import zones
    from goflow.core.schedule import Schedule

    schedule = Schedule(cron, timezone, seconds)
    zone = zones.find(schedule.timezone)
    fires: list[datetime] = []
    last: datetime | None = now() if after is None else read_instant("--after", after, zone)
    while last is not None and len(fires) < number:
        if (last := schedule.next(last)) is not None:
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
    """The instant that an option names; without an offset it is read in the zone."""
    try:
        instant = datetime.fromisoformat(text)
        if instant.tzinfo is None:
            instant = instant.replace(tzinfo=zone)
        return instant.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Unusable(
            f"{option} {text[:80]!r} is not a time such as 2030-01-31T08:00:00Z"
        ) from None


def read_zone(name: str) -> ZoneInfo:
    """A time zone by its name. Raises `InvalidJob`, as schedules do."""
    from goflow import zones
    from goflow.core.schedule import Schedule

    return zones.find(Schedule("@daily", name).timezone)


def print_instants(
    instants: Iterable[datetime], timezone: str, changes: Iterable[dict[str, str]]
) -> None:
    """A line for each: in UTC, in local time if the zone is another, and what a change of the
    clocks has to do with it, as `GET /api/jobs/{name}/upcoming` tells."""
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
    except OverflowError:  # the year 10000 has begun there
        return None
