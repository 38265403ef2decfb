"""The ledger of due times: past ticks, upcoming due times, the calendar, and backfills."""

from contextlib import suppress
from datetime import date
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import asdict as to_dict

from goflow.core.cost import Cost
from goflow.core.summary import Time
from goflow.engine.reader import PAGE_LIMIT
from goflow.job.skip_dates import SkipDatesFailed
from goflow.stores.base import Activity, TickOutcome
from goflow.web.endpoint import Call, Endpoint
from goflow.web.requests import USER_HEADER, requester
from goflow.web.schemas import CHANGE_ERRORS, Failure, JobRefused, given

CALENDAR_LIMIT = 731  # days


# -- past ticks ------------------------------------------------------------------------


class TicksQuery(Struct):
    limit: Annotated[int, Meta(ge=1, le=PAGE_LIMIT, description="page size")] = 100
    cursor: Annotated[Time, Meta(description="`next` of the previous page")] | UnsetType = UNSET


class TickView(Struct, kw_only=True):
    """The outcome of a due time, or of `count` missed or merged ones from `due` to `until`.

    `execution` is the execution of a fired tick. `into` is the due time that merged ones became
    part of.
    """

    due: Time
    outcome: TickOutcome
    at: Time
    reason: str
    count: int
    until: Time | None
    execution: str | None
    into: Time | None


class Ticks(Struct):
    """A page of a job's ledger, newest first. `next` is the cursor of the next page, or null."""

    job: str
    ticks: list[TickView]
    next: Time | None


async def ticks(call: Call) -> Ticks:
    name, engine = call.path["name"], call.engine
    found = await engine.ledger.ticks(name, given(call.query.cursor), call.query.limit)
    more = await engine.reader.ticks(name, found[-1].due, 1) if found else []
    views = [TickView(**to_dict(tick)) for tick in found]
    return Ticks(name, views, found[-1].due if more else None)


# -- upcoming due times ----------------------------------------------------------------


class UpcomingQuery(Struct):
    n: Annotated[int, Meta(ge=1, le=1000, description="number of due times")] = 10


class ClockChangeView(Struct):
    """The effect of a clock change on a due time; `reason` is a sentence."""

    due: Time
    reason: str


class SkippedView(Struct):
    """A due time on a date that the job skips; `reason` is a sentence."""

    due: Time
    reason: str


class Upcoming(Struct):
    """The next due times, even if the schedule is off, and those that a clock change affects.

    `skipped` has those that will make no execution, as far as that is known: a function is only
    called when the job is due.
    """

    job: str
    active: bool
    upcoming: list[Time]
    clock_changes: list[ClockChangeView]
    skipped: list[SkippedView]


async def upcoming(call: Call) -> Upcoming:
    name, engine = call.path["name"], call.engine
    coming = engine.schedules.upcoming(name, call.query.n)
    now = engine.clock.now()
    times = engine.ledger.times(name, anchor=now, once=now)
    changes = [
        ClockChangeView(due, change.reason)
        for due in coming
        if times is not None and (change := times.clock_change(due)) is not None
    ]
    skipped: list[SkippedView] = []
    job = engine.registry.jobs.get(name)
    if job is not None and job.skip_dates and job.skip_dates.is_calendar and times is not None:
        with suppress(SkipDatesFailed):  # the ledger will say so
            reasons = await engine.skips.reasons(job, times, coming)
            skipped = [
                SkippedView(due, reason)
                for due, reason in zip(coming, reasons, strict=True)
                if reason is not None
            ]
    return Upcoming(name, engine.schedules.active(name), coming, changes, skipped)


# -- the calendar ----------------------------------------------------------------------


class CalendarQuery(Struct):
    timezone: (
        Annotated[
            str, Meta(description="the zone of the days, as `Europe/Berlin`; the job's by default")
        ]
        | UnsetType
    ) = UNSET
    days: Annotated[
        int, Meta(ge=1, le=CALENDAR_LIMIT, description="number of days, up to today")
    ] = 371


class CalendarDay(Struct, kw_only=True):
    """A day in the calendar's zone.

    `states` counts the executions submitted on that day by their final state, and `seconds` is
    their total duration. `cost` is the sum of their costs, left out if there is none. `missed` and
    `skipped` count due times; a run of missed ones counts on
    the day of its first.
    """

    day: date
    states: dict[str, int]
    missed: int
    skipped: int
    seconds: float
    cost: Cost | UnsetType = UNSET


class Calendar(Struct):
    """A job's activity by day, oldest first. Days without activity are left out."""

    job: str
    timezone: str
    days: list[CalendarDay]


async def calendar(call: Call) -> Calendar:
    name, engine, zone = call.path["name"], call.engine, given(call.query.timezone)
    if zone is None:
        job = engine.registry.jobs.get(name)
        zone = "UTC" if job is None else job.timezone
    days = await engine.ledger.calendar(name, zone, call.query.days)
    return Calendar(name, zone, [_day(day, activity) for day, activity in days])


def _day(day: date, activity: Activity) -> CalendarDay:
    ticks = {outcome: activity.counts.get(outcome, 0) for outcome in TickOutcome}
    return CalendarDay(
        day=day,
        states={state: count for state, count in activity.counts.items() if state not in ticks},
        missed=ticks[TickOutcome.MISSED],
        skipped=ticks[TickOutcome.SKIPPED],
        seconds=activity.took.total_seconds(),
        cost=UNSET if activity.cost is None else activity.cost,
    )


# -- backfills -------------------------------------------------------------------------


class BackfillBody(
    Struct, forbid_unknown_fields=True, kw_only=True, rename={"start": "from", "end": "to"}
):
    """Due times from `from` (inclusive) to `to` (exclusive). At most `parallel` executions run
    at the same time."""

    start: Time
    end: Time
    parallel: Annotated[int, Meta(ge=1, le=100)] = 1
    dry_run: bool = False
    params: dict[str, Any] | UnsetType = UNSET


class BackfilledView(Struct):
    """`execution` is the new execution for `due`, or the one that already ran for it; null in a
    dry run."""

    due: Time
    execution: str | None
    created: bool


class Backfill(Struct):
    job: str
    success: bool
    dry_run: bool
    executions: list[BackfilledView]


async def backfill(call: Call) -> Backfill:
    name, body = call.path["name"], call.body
    done = await call.engine.backfills.run(
        name,
        body.start,
        body.end,
        parallel=body.parallel,
        params=given(body.params),
        dry_run=body.dry_run,
        by=requester(call.request),
    )
    views = [BackfilledView(one.due, one.execution, one.created) for one in done]
    return Backfill(name, True, body.dry_run, views)


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/api/jobs/{name}/ticks",
        summary="The outcome of each due time of a job, newest first",
        handler=ticks,
        query=TicksQuery,
        response=Ticks,
        errors={404: Failure},
    ),
    Endpoint(
        method="GET",
        path="/api/jobs/{name}/upcoming",
        summary="The next due times of a job",
        handler=upcoming,
        query=UpcomingQuery,
        response=Upcoming,
        errors={404: Failure},
    ),
    Endpoint(
        method="GET",
        path="/api/jobs/{name}/calendar",
        summary="A job's activity by day",
        handler=calendar,
        query=CalendarQuery,
        response=Calendar,
        errors={404: Failure},
    ),
    Endpoint(
        method="POST",
        path="/api/jobs/{name}/backfill",
        summary="Run a job for the due times in a range that have not run yet",
        handler=backfill,
        body=BackfillBody,
        response=Backfill,
        errors=dict.fromkeys(CHANGE_ERRORS, JobRefused),
        headers=USER_HEADER,
    ),
]
