"""Jobs: the list, the overview, one job and its source, submit and toggle."""

from typing import Annotated, Any

from msgspec import UNSET, Meta, Raw, Struct, UnsetType, field
from starlette.requests import Request

from goflow.core.graph import Occasion
from goflow.core.states import TriggerRule
from goflow.core.summary import RecentExecution, Time
from goflow.engine.engine import Engine
from goflow.errors import InvalidRequest, NotFound
from goflow.job import Job, Task
from goflow.shown import kind
from goflow.web.endpoint import Call, Endpoint
from goflow.web.requests import USER_HEADER, read_header, requester
from goflow.web.schemas import CHANGE_ERRORS, Failure, JobRefused, given

KEY_LIMIT = 255  # characters of an Idempotency-Key
TEMPLATES_SHOWN = 64 * 1024  # characters of all templates of a job


# -- the list --------------------------------------------------------------------------


class Jobs(Struct):
    jobs: list[str]


async def jobs(call: Call) -> Jobs:
    return Jobs(list(call.engine.registry.jobs))


# -- the overview ----------------------------------------------------------------------


class OverviewQuery(Struct):
    last: Annotated[int, Meta(ge=1, le=100, description="executions per job")] = 25
    job: Annotated[
        list[str], Meta(max_length=50, description="only these jobs; all if it is absent")
    ] = []


class JobRow(Struct, kw_only=True):
    """A job in a list. `schedules` has each schedule, and `schedule` all of them in one text. It
    runs after the jobs in `after`. `params` says whether a submit may set parameters."""

    job: str
    schedule: str | None
    schedules: list[str]
    after: list[str]
    timezone: str
    active: bool
    description: str
    tags: list[str]
    next: Time | None
    params: bool


class OverviewJob(JobRow, kw_only=True):
    """`executions` has the newest ones, newest first."""

    executions: list[RecentExecution]


class Overview(Struct):
    jobs: list[OverviewJob]


class EncodedOverviewJob(JobRow, kw_only=True):
    executions: Raw


class EncodedOverview(Struct):
    """An `Overview` whose executions are kept encoded."""

    jobs: list[EncodedOverviewJob]


async def overview(call: Call) -> EncodedOverview:
    engine = call.engine
    jobs = dict(engine.registry.jobs)  # one may be removed meanwhile
    names = [name for name in dict.fromkeys(call.query.job or jobs) if name in jobs]
    recent = await engine.reader.recent.newest(names, call.query.last)
    return EncodedOverview([_row(engine, jobs[name], recent[name]) for name in names])


def _row(engine: Engine, job: Job, executions: bytes) -> EncodedOverviewJob:
    return EncodedOverviewJob(
        job=job.name,
        schedule=job.schedule,
        schedules=list(job.schedules),
        after=list(job.after),
        timezone=job.timezone,
        active=engine.schedules.active(job.name),
        description=job.description,
        tags=list(job.tags),
        next=engine.schedules.due(job.name),
        params=job.has_params,
        executions=Raw(executions),
    )


# -- one job ---------------------------------------------------------------------------


class TemplateView(Struct):
    """A template of a task's operator, and its place in it, such as `args[0]`."""

    place: str
    text: str


class TaskView(Struct, kw_only=True):
    """A task. `map_over` has the tasks whose items it runs for: their product, or if `zipped`,
    their pairs. `branch`: its result chooses tasks. `templates` is empty if the server hides the
    source of its jobs. A text is cut once those before take `TEMPLATES_SHOWN` characters."""

    name: str
    operator: str
    trigger_rule: TriggerRule
    retries: int
    timeout: float | None
    pool: str | None
    priority: float
    after: list[str]
    map_over: list[str] = []
    zipped: bool = False
    branch: bool = False
    templates: list[TemplateView] = []


class HookView(Struct, kw_only=True):
    """A hook, and the end of an execution that it runs `on`."""

    name: str
    on: Occasion
    operator: str
    retries: int
    timeout: float | None
    pool: str | None


class SwitchView(Struct):
    """The user who last switched a schedule by hand, and the time."""

    at: Time
    by: str


class JobView(Struct, kw_only=True):
    """A job.

    `schedules` has each schedule, and `schedule` all of them in one text. Nothing is due before
    `start` and after `end`. `skip_dates` describes the dates that are skipped. It runs
    after the jobs in `after`, and those in `followers` run after it. `next` is its next due time.
    `params` has the defaults of its parameters, and `params_schema` the JSON Schema of
    all of them; both are null if the job accepts any parameters. `file` and `line` say where the
    job is defined, and are null if that is not in a file. `switched` is null if nobody has
    switched the schedule by hand.
    """

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
    schedules: list[str]
    start: Time | None
    end: Time | None
    skip_dates: str | None
    after: list[str]
    followers: list[str]
    overlap: str
    max_active: int
    interval: bool
    catchup: str
    timeout: float | None
    file: str | None
    line: int | None
    task_details: list[TaskView]
    hooks: list[HookView]


class JobMissing(Failure, kw_only=True):
    """Besides the error the keys of a job, empty, as in Go's goflow."""

    job: str = ""
    tasks: list[str] = field(default_factory=list)
    dag: dict[str, list[str]] = field(default_factory=dict)
    schedule: str = ""
    active: bool = False


async def job(call: Call) -> JobView:
    engine = call.engine
    found = engine.registry.job(call.path["name"])
    switch = engine.schedules.switched(found.name)
    show_source = call.services.show_source
    return JobView(
        job=found.name,
        tasks=[task.name for task in found.tasks],
        dag=found.plan.downstream,
        schedule=found.schedule,
        schedules=list(found.schedules),
        start=found.start,
        end=found.end,
        skip_dates=None if found.skip_dates is None else found.skip_dates.text,
        after=list(found.after),
        followers=list(engine.registry.followers.get(found.name, ())),
        active=engine.schedules.active(found.name),
        timezone=found.timezone,
        description=found.description,
        tags=list(found.tags),
        params=found.params,
        params_schema=found.params_schema,
        next=engine.schedules.due(found.name),
        switched=None if switch is None else SwitchView(switch.at, switch.by),
        overlap=found.overlap,
        max_active=found.max_active,
        interval=found.interval,
        catchup=found.catchup.catchup,
        timeout=found.timeout,
        file=found.definition.file if show_source else None,
        line=found.definition.line if show_source else None,
        task_details=_task_views(found.tasks, show_templates=show_source),
        hooks=[_hook_view(hook, hook.hook) for hook in found.hooks if hook.hook is not None],
    )


def _task_views(tasks: list[Task], *, show_templates: bool) -> list[TaskView]:
    views = [_view(task) for task in tasks]
    room = TEMPLATES_SHOWN
    for task, view in zip(tasks, views, strict=True) if show_templates else ():
        for place, _, shown in task.templates:
            text = shown if len(shown) <= room else f"{shown[:room]}…"
            view.templates.append(TemplateView(place, text))
            room = max(0, room - len(text))
    return views


def _view(task: Task) -> TaskView:
    return TaskView(
        name=task.name,
        operator=kind(task.operator),
        trigger_rule=task.trigger_rule,
        retries=task.retries,
        timeout=task.timeout,
        pool=task.pool,
        priority=task.priority,
        after=task.after,
        map_over=list(task.lists),
        zipped=task.zipped,
        branch=task.branch,
        templates=[],
    )


def _hook_view(hook: Task, on: Occasion) -> HookView:
    return HookView(
        name=hook.name,
        on=on,
        operator=kind(hook.operator),
        retries=hook.retries,
        timeout=hook.timeout,
        pool=hook.pool,
    )


# -- its source ------------------------------------------------------------------------


class SourceView(Struct, kw_only=True):
    """The code that defines a job, from `line` of `file` on. `text` is empty if it is unknown."""

    job: str
    file: str | None
    line: int | None
    text: str
    truncated: bool


async def source(call: Call) -> SourceView:
    job = call.engine.registry.job(call.path["name"])
    if not call.services.show_source:
        raise NotFound(
            "this server hides the source of its jobs (show_source=False)",
            code="source-hidden",
            field="job",
        )
    found = await call.engine.reader.read(job.definition.source)
    return SourceView(job=job.name, file=job.definition.file, **found._asdict())


# -- submit ----------------------------------------------------------------------------


class SubmitBody(Struct, forbid_unknown_fields=True):
    params: dict[str, Any] | None = None


class Submitted(Struct):
    job: str
    success: bool
    submitted: Time
    id: str


class SubmitRefused(JobRefused, kw_only=True):
    submitted: str = ""


async def submit(call: Call) -> Submitted:
    name = call.path["name"]
    key, by = _idempotency_key(call.request), requester(call.request)
    accepted = await call.engine.submissions.submit(name, call.body.params, key=key, by=by)
    return Submitted(name, True, accepted.submitted, accepted.id)


def _idempotency_key(request: Request) -> str | None:
    key = read_header(request, "Idempotency-Key")
    if key is not None and not (
        1 <= len(key) <= KEY_LIMIT and all("!" <= letter <= "~" for letter in key)
    ):
        raise InvalidRequest(
            f"Idempotency-Key must be 1 to {KEY_LIMIT} visible ASCII characters, not {key[:80]!r}",
            code="invalid-idempotency-key",
            field="Idempotency-Key",
        )
    return key


# -- toggle ----------------------------------------------------------------------------


class ToggleBody(Struct, forbid_unknown_fields=True):
    active: bool | UnsetType = UNSET


class Toggled(Struct):
    job: str
    success: bool
    active: bool


class ToggleRefused(JobRefused, kw_only=True):
    active: bool = False


async def toggle(call: Call) -> Toggled:
    name = call.path["name"]
    active = await call.engine.schedules.toggle(
        name, given(call.body.active), by=requester(call.request)
    )
    return Toggled(name, True, active)


ENDPOINTS = [
    Endpoint(
        method="GET",
        path="/api/jobs",
        summary="The names of all jobs, in order of registration",
        handler=jobs,
        response=Jobs,
    ),
    Endpoint(
        method="GET",
        path="/api/overview",
        summary="All jobs with their newest executions",
        handler=overview,
        query=OverviewQuery,
        response=Overview,
    ),
    Endpoint(
        method="GET",
        path="/api/jobs/{name}",
        summary="A job: its tasks, their dependencies, and its schedule",
        handler=job,
        response=JobView,
        errors={404: JobMissing},
    ),
    Endpoint(
        method="GET",
        path="/api/jobs/{name}/source",
        summary="The code that defines a job, as of its registration",
        handler=source,
        response=SourceView,
        errors={404: Failure},
    ),
    Endpoint(
        method="POST",
        path="/api/jobs/{name}/submit",
        summary="Run a job; the response comes once the execution is durable",
        handler=submit,
        body=SubmitBody,
        response=Submitted,
        errors=dict.fromkeys(CHANGE_ERRORS, SubmitRefused),
        headers={"Idempotency-Key": ("makes the request safe to repeat", "^[!-~]{1,255}$")}
        | USER_HEADER,
    ),
    Endpoint(
        method="POST",
        path="/api/jobs/{name}/toggle",
        summary="Switch a job's schedule on or off, or flip it",
        handler=toggle,
        body=ToggleBody,
        response=Toggled,
        errors=dict.fromkeys((400, 404, 413, 503), ToggleRefused),
        headers=USER_HEADER,
    ),
]
