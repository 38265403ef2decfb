"""When a cron expression fires."""

from datetime import datetime
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
    Fewer lines than asked for means that no more fires follow.
    """
    from goflow.core.schedule import Schedule

    schedule = Schedule(cron, timezone, seconds)
    zone = ZoneInfo(schedule.timezone)
    fires: list[datetime] = []
    last: datetime | None = _instant(after, zone)
    while last is not None and len(fires) < number:
        if (last := schedule.next(last)) is not None:
            fires.append(last)
    if as_json:
        print_json(
            {
                "schedule": schedule.expression,
                "timezone": schedule.timezone,
                "next": [rfc3339(fire) for fire in fires],
            }
        )
        return
    for fire in fires:
        local = None if schedule.timezone == "UTC" else _local(fire, zone)
        click.echo(rfc3339(fire) if local is None else f"{rfc3339(fire)}  {local}")


def _instant(text: str | None, zone: ZoneInfo) -> datetime:
    if text is None:
        from goflow.engine.clock import SystemClock

        return SystemClock().now()
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise Unusable(
            f"--after {text[:80]!r} is not a time such as 2030-01-31T08:00:00Z"
        ) from None
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=zone)


def _local(fire: datetime, zone: ZoneInfo) -> str | None:
    try:
        return fire.astimezone(zone).isoformat()
    except OverflowError:  # the year 10000 has begun there
        return None
