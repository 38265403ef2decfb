"""Schedules: several for one job, the last Friday, an end, skipped dates, an interval.

goflow list examples/flow/schedules.py
"""

from datetime import date

from goflow import Context, Job

shop = Job("shop", ["*/15 8-19 * * MON-FRI", "0 10 * * SAT"], timezone="Europe/Berlin", active=True)
closing = Job("closing", "0 18 * * FRIL", active=True, description="On the last Friday of a month")
fair = Job("fair", "@hourly", start=date(2027, 4, 12), end=date(2027, 4, 16), active=True)
office = Job(
    "office",
    "0 9 * * MON-FRI",
    active=True,
    skip_dates=[date(2026, 12, 25), date(2027, 1, 1)],
    overlap="queue",
    max_active=2,
)
report = Job(
    "report", "@daily", interval=True, active=True, description="Reports on the day before"
)


@report.task
def rows(context: Context) -> str:
    return f"rows from {context.interval_start} to {context.interval_end}"


def look() -> str:
    return "looked"


for job in (shop, closing, fair, office):
    job.task(look)
