"""The types on the wire: what requests carry and what answers hold.

The OpenAPI document is made from these same types. The rule: keys may be added, never
renamed or removed; they follow the API of Go's goflow to the letter.
"""

from datetime import date
from typing import Annotated, Any, Literal, Self, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from goflow.core.states import State, TriggerRule
from goflow.core.summary import Listed, Mark, Time
from goflow.engine.engine import Notice
from goflow.engine.reader import PAGE_LIMIT
from goflow.engine.slots import Kind
from goflow.stores.base import TickOutcome

T = TypeVar("T")


def given(value: T | UnsetType) -> T | None:
    """What a request says, None where it is silent."""
    return None if value is UNSET else value


# -- questions: query parameters ---------------------------------------------------

CALENDAR_LIMIT = 731  # days

Count = Annotated[int, Meta(ge=0, le=2**53)]


# The states, and an empty text for all of them.
StateFilter = Literal[
    "", "notstarted", "running", "upforretry", "skipped", "failed", "successful", "cancelled"
]


class ExecutionsQuery(Struct):
    """An empty `jobname` or `state` is no filter, as in Go's goflow."""

    jobname: Annotated[str, Meta(description="only of this job")] = ""
    state: Annotated[StateFilter, Meta(description="only in this state")] = ""
    limit: Annotated[int, Meta(ge=1, le=PAGE_LIMIT, description="executions on the page")] = 100
    cursor: (
        Annotated[str, Meta(pattern="^[0-9]{1,18}$", description="`next` of the page before")]
        | UnsetType
    ) = UNSET


class JobRunsQuery(Struct):
    """An empty `jobname` or `state` is no filter. Others that are none find nothing, as there."""

    jobname: Annotated[str, Meta(description="only of this job")] = ""
    state: Annotated[str, Meta(description="only in this state")] = ""
    limit: Annotated[int, Meta(ge=1, le=PAGE_LIMIT, description="the newest ones only")] = (
        PAGE_LIMIT
    )


class OverviewQuery(Struct):
    last: Annotated[int, Meta(ge=1, le=100, description="executions of each job")] = 25
    job: Annotated[
        list[str], Meta(max_length=50, description="only these jobs; none means all")
    ] = []


class ResultQuery(Struct):
    attempt: (
        Annotated[int, Meta(ge=1, le=2**53, description="the last one by default")] | UnsetType
    ) = UNSET


class AttemptQuery(ResultQuery):
    after: Annotated[
        Count, Meta(description="leave out lines before this number, counted from 0")
    ] = 0


class LogQuery(AttemptQuery):
    tail: Annotated[Count, Meta(description="only so many lines, the last")] | UnsetType = UNSET
    download: Annotated[bool, Meta(description="as a file")] = False
    timestamps: Annotated[
        bool, Meta(description="each line after the time when it began, in UTC, and a space")
    ] = False


class LinesQuery(AttemptQuery):
    tail: Annotated[Count, Meta(description="only so many lines, the last")] | UnsetType = UNSET
    limit: Annotated[int, Meta(ge=1, le=10_000, description="lines at most")] = 1000


class FindQuery(AttemptQuery):
    """Either `text` or `errors`."""

    text: (
        Annotated[
            str,
            Meta(min_length=1, max_length=200, description="part of a line, in whatever case"),
        ]
        | UnsetType
    ) = UNSET
    errors: Annotated[bool, Meta(description="lines that look like a first sign of trouble")] = (
        False
    )
    limit: Annotated[int, Meta(ge=1, le=1000, description="lines at most")] = 1000


USER_PATTERN = "^[ -~]{0,100}$"
EVENT_ID = "^([!-~]+-[0-9]{1,18})?$"


class StreamQuery(Struct):
    jobname: Annotated[str, Meta(description="only executions of this job")] = ""
    last_event_id: Annotated[
        str, Meta(pattern=EVENT_ID, description="as the header Last-Event-ID, which wins")
    ] = ""


class TicksQuery(Struct):
    limit: Annotated[int, Meta(ge=1, le=PAGE_LIMIT, description="ticks on the page")] = 100
    cursor: Annotated[Time, Meta(description="`next` of the page before")] | UnsetType = UNSET


class UpcomingQuery(Struct):
    n: Annotated[int, Meta(ge=1, le=1000, description="how many due times")] = 10


class NowQuery(Struct):
    ahead: Annotated[
        int, Meta(ge=0, le=86_400, description="seconds from now within which due times are told")
    ] = 3600
    limit: Annotated[int, Meta(ge=1, le=1000, description="of executions, and due times")] = 200
    each: Annotated[int, Meta(ge=1, le=1000, description="due times of one job at most")] = 1000


class SystemQuery(Struct):
    after: Annotated[Time, Meta(description="only samples later than this")] | UnsetType = UNSET


class CalendarQuery(Struct):
    timezone: (
        Annotated[str, Meta(description="whose days, as `Europe/Berlin`; by default the job's")]
        | UnsetType
    ) = UNSET
    days: Annotated[int, Meta(ge=1, le=CALENDAR_LIMIT, description="how many, back from today")] = (
        371
    )


class NoQuery(Struct):
    pass


# -- questions: JSON bodies --------------------------------------------------------


class SubmitBody(Struct, forbid_unknown_fields=True):
    params: dict[str, Any] | None = None


class ToggleBody(Struct, forbid_unknown_fields=True):
    active: bool | UnsetType = UNSET


class RetryBody(Struct, forbid_unknown_fields=True):
    """Without `task`, what did not succeed; with it, that one and, unless `following` is
    false, all that come after it. `params` replace the execution's."""

    task: str | UnsetType = UNSET
    following: bool = True
    params: dict[str, Any] | UnsetType = UNSET


class MarkBody(Struct, forbid_unknown_fields=True):
    state: Literal["successful", "skipped"]


class BackfillBody(
    Struct, forbid_unknown_fields=True, kw_only=True, rename={"start": "from", "end": "to"}
):
    """Due times from `from` up to, not including, `to`; at most `parallel` run at once."""

    start: Time
    end: Time
    parallel: Annotated[int, Meta(ge=1, le=100)] = 1
    dry_run: bool = False
    params: dict[str, Any] | UnsetType = UNSET


# -- answers -----------------------------------------------------------------------


class Health(Struct, kw_only=True):
    """`health` is "OK" or says in a word what is wrong; then `error` says it in full.
    `tzdata` is the version of the time zone data in use, `tzdata_source` where that is from."""

    health: str
    version: str
    tzdata: str
    tzdata_source: str
    jobs: int
    unfinished: int
    streams: int
    notices: list[Notice]


class Jobs(Struct):
    jobs: list[str]


class TaskView(Struct, kw_only=True):
    name: str
    operator: str
    trigger_rule: TriggerRule
    retries: int
    timeout: float | None
    pool: str | None
    priority: float
    after: list[str]


class SwitchView(Struct):
    """Who switched a schedule by hand, and when."""

    at: Time
    by: str


class SourceView(Struct, kw_only=True):
    """The text of the code that made a job, from `line` of `file` on; "" if it is not known."""

    job: str
    file: str | None
    line: int | None
    text: str
    truncated: bool


class JobView(Struct, kw_only=True):
    """`next` is when it fires next. `params` are the defaults of those that have one, and
    `params_schema` says what each may be; both are null where any are taken. `file` and
    `line` are where it was written, null if that is in no file. `switched` is who switched the
    schedule by hand last, null if nobody did."""

    job: str
    tasks: list[str]
    dag: dict[str, list[str]]
    schedule: str | None
    active: bool
    timezone: str
    description: str
    tags: list[str]
    params: dict[str, Any] | None
    params_schema: dict[str, Any] | None
    next: Time | None
    switched: SwitchView | None
    overlap: str
    catchup: str
    timeout: float | None
    file: str | None
    line: int | None
    task_details: list[TaskView]


class TickView(Struct, kw_only=True):
    """What became of a due time, or of `count` missed or merged ones from `due` to `until`:
    `execution` is what a fired one made, `into` the due time that merged ones became."""

    due: Time
    outcome: TickOutcome
    at: Time
    reason: str
    count: int
    until: Time | None
    execution: str | None
    into: Time | None


class Ticks(Struct):
    """A job's ledger, newest first; `next` is the cursor of the following page, or null."""

    job: str
    ticks: list[TickView]
    next: Time | None


class ClockChangeView(Struct):
    """What a change of the clocks does to a due time, in a sentence."""

    due: Time
    reason: str


class Upcoming(Struct):
    """The next due times, whether or not the schedule is on, and those of them that are what
    they are because of a change of the clocks."""

    job: str
    active: bool
    upcoming: list[Time]
    clock_changes: list[ClockChangeView]


class CalendarDay(Struct, kw_only=True):
    """A day in the calendar's zone.

    `states` counts the executions that were submitted on it, by the state they ended in, and
    `seconds` is what they took together; `missed` and `skipped` count due times, a run of
    missed ones on the day of the first.
    """

    day: date
    states: dict[str, int]
    missed: int
    skipped: int
    seconds: float


class Calendar(Struct):
    """What a job did day by day, oldest first; days on which it did nothing are left out."""

    job: str
    timezone: str
    days: list[CalendarDay]


class BackfilledView(Struct):
    """`execution` is the one made for `due`, or that ran for it before; null in a dry run."""

    due: Time
    execution: str | None
    created: bool


class Backfill(Struct):
    job: str
    success: bool
    dry_run: bool
    executions: list[BackfilledView]


class Executions(Struct):
    """`next` is the cursor of the following page, null on the last one."""

    executions: list[Listed]
    next: str | None


class JobRunTasks(Struct):
    state: dict[str, State]


class JobRunState(Struct):
    """The state of the execution, and in `tasks` those of its tasks by name."""

    job: State
    tasks: JobRunTasks


class JobRun(Struct):
    """An execution as `/api/jobruns` of Go's goflow has it."""

    job: str
    submitted: Time
    state: JobRunState


class JobRuns(Struct):
    jobruns: list[JobRun]


class EncodedExecutions(Struct):
    """`Executions` as the store keeps them: encoded already."""

    executions: list[msgspec.Raw]
    next: str | None


class JobRow(Struct, kw_only=True):
    """A job as a list shows it; `params` says whether a submit may set any."""

    job: str
    schedule: str | None
    timezone: str
    active: bool
    description: str
    tags: list[str]
    next: Time | None
    params: bool


class OverviewJob(JobRow, kw_only=True):
    """`executions` are the newest ones, the newest first."""

    executions: list[Mark]


class Overview(Struct):
    jobs: list[OverviewJob]


class UnfinishedLine(Struct):
    """A line that has begun; `time` is when, null where that was not kept."""

    text: str
    time: Time | None


class Lines(Struct, kw_only=True):
    """Lines of the log of an attempt that is in `state`; attempt 0 is none, since none was begun.

    `first` is the number of the first line in `lines`, `end` that of the line that comes next
    of all. `gaps` are ranges `[from, to)` that were left out, of which the line `to` is shown.
    `next` is the `after` to go on from, and `more` whether there is anything now. `times` are
    when each of `lines` began, null where that was not kept. `unfinished` is line `end`, if it
    has begun a moment ago and has not ended; it comes again, among `lines`, when it has.
    """

    attempt: int
    state: State
    first: int
    end: int
    lines: list[str]
    times: list[Time | None]
    unfinished: UnfinishedLine | None
    gaps: list[tuple[int, int]]
    next: int
    more: bool


class FoundLines(Struct, kw_only=True):
    """Numbers of lines; with `more`, the search has not come to the end: `next` is the `after`
    to go on from."""

    attempt: int
    lines: list[int]
    next: int
    more: bool


class TaskNow(Struct):
    """A task that runs, waits for its next attempt, or could run and waits for room.

    `started` is since when it runs, `retry_at` when it is tried again, `waiting` why it does
    not run though it could.
    """

    name: str
    state: State
    started: Time | None = None
    retry_at: Time | None = None
    waiting: str | None = None
    pool: str | None = None


class ExecutionNow(Struct, kw_only=True):
    """An unfinished execution. `waiting` says why it does not begin, and `after` for which
    others it waits, the first 50 of them; `counts` how many of its tasks are in which state,
    and `tasks` has the first 50 of those that run or wait."""

    id: str
    job: str
    state: State
    cause: str
    submitted: Time
    scheduled_at: Time | None
    started: Time | None
    waiting: str | None
    after: list[str]
    counts: dict[str, int]
    tasks: list[TaskNow]


class AbandonedView(Struct, kw_only=True):
    """An attempt that was given up at `abandoned`, though its thread cannot be stopped: it runs
    on since `started`, and holds a slot until it ends. `why` says in a sentence why."""

    execution: str
    job: str
    task: str
    attempt: int
    started: Time | None
    abandoned: Time
    why: str


class FireView(Struct):
    job: str
    due: Time
    overlap: str


class PoolView(Struct, kw_only=True):
    """A limit on tasks running at once: on all of them, on those of a job, or of a pool."""

    kind: Kind
    name: str
    limit: int
    running: int
    waiting: int


class Now(Struct, kw_only=True):
    """`unfinished` counts all executions; the oldest are in `executions`, the oldest first.
    `abandoned` has the attempts that were given up and still run, the oldest first."""

    at: Time
    unfinished: int
    executions: list[ExecutionNow]
    abandoned: list[AbandonedView]
    upcoming: list[FireView]
    pools: list[PoolView]


class StoreView(Struct):
    kind: str
    bytes: int


class SlotsView(Struct):
    limit: int
    running: int
    waiting: int


class Load(Struct, kw_only=True):
    """Samples, oldest first, one each `every` seconds: the nth of each list is of the nth time
    in `at`. See `goflow.engine.vitals.Sample`."""

    every: float
    at: list[Time]
    lateness: list[float]
    loop_lag: list[float]
    commit: list[float]
    commits: list[float]
    memory: list[int]
    processor: list[float]
    running: list[int]
    waiting: list[int]
    store_bytes: list[int]
    listeners: list[int]


class System(Struct, kw_only=True):
    """`active_jobs` are those whose schedule is on; `slots` the limit on all running tasks."""

    at: Time
    started: Time
    versions: dict[str, str]
    store: StoreView
    slots: SlotsView
    pools: list[PoolView]
    listeners: int
    jobs: int
    active_jobs: int
    unfinished: int
    notices: list[Notice]
    load: Load


class EncodedOverviewJob(JobRow, kw_only=True):
    executions: msgspec.Raw


class EncodedOverview(Struct):
    """`Overview` with executions as they are kept: encoded already."""

    jobs: list[EncodedOverviewJob]


class Submitted(Struct):
    job: str
    success: bool
    submitted: Time
    id: str


class Toggled(Struct):
    job: str
    success: bool
    active: bool


class Done(Struct):
    """`success` is false when there was nothing left to do."""

    id: str
    success: bool


# -- failures ----------------------------------------------------------------------


class Error(Struct):
    """`code` is a stable word for programs; `field` is the part at fault, or null."""

    code: str
    message: str
    field: str | None


class Failure(Struct, kw_only=True):
    error: Error

    @classmethod
    def about(cls, subject: str, error: Error) -> "Failure":
        """The failure of a request about `subject`: the job or execution in its path."""
        return cls(error=error)


class JobMissing(Failure, kw_only=True):
    """The keys of a job, empty, as Go's goflow answers."""

    job: str = ""
    tasks: list[str] = []
    dag: dict[str, list[str]] = {}
    schedule: str = ""
    active: bool = False


class JobRefused(Failure, kw_only=True):
    job: str
    success: bool = False

    @classmethod
    def about(cls, subject: str, error: Error) -> Self:
        return cls(job=subject, error=error)


class SubmitRefused(JobRefused, kw_only=True):
    submitted: str = ""


class ToggleRefused(JobRefused, kw_only=True):
    active: bool = False


class ExecutionRefused(Failure, kw_only=True):
    id: str
    success: bool = False

    @classmethod
    def about(cls, subject: str, error: Error) -> Self:
        return cls(id=subject, error=error)


class Unhealthy(Failure, kw_only=True):
    health: str = "failing"

    @classmethod
    def about(cls, subject: str, error: Error) -> Self:
        return cls(health=subject or "failing", error=error)
