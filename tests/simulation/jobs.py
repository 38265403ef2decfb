"""Random jobs as data that outlives a process, and the behaviour of their tasks."""

import asyncio
import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Protocol

from goflow.core.retry import ConstantDelay, ExponentialBackoff, RetryDelay
from goflow.core.schedule import Schedule
from goflow.core.states import TriggerRule
from goflow.core.timetable import Timing
from goflow.errors import Later, Skip, TaskFailed
from goflow.job import Job, Task, zipped
from goflow.operators.base import Context
from goflow.operators.outcome import Outcome
from goflow.operators.subjobs import RunJob
from goflow.templates.template import Template
from tests.simulation.yielding import generator

BEGINNING = datetime(2030, 3, 30, 23, 57, 30, tzinfo=UTC)  # of each story
POOLS = {"db": 1, "web": 2}
PARAMS = {"n": 3}  # of each job
# Conditions of tasks, and the same in Python, of the params, the attempt and the results; these
# are only those that the task has waited for. An error fails the attempt.
CONDITIONS: dict[str, Callable[[Mapping[str, Any], int, Mapping[str, Any]], object]] = {
    "params.n > 2": lambda params, attempt, results: params["n"] > 2,
    "params.n is even or attempt > 1": lambda params, attempt, results: (
        params["n"] % 2 == 0 or attempt > 1
    ),
    "results | length > 1": lambda params, attempt, results: len(results) > 1,
    "params.m": lambda params, attempt, results: params["m"],
}
DELAYS = ("none", "constant", "backoff", "broken")
SCHEDULES = (
    "@every 7s", "@every 45s", "@every 10m", "* * * * *", "*/5 * * * *", "30 */20 * * * *",
    "0 3 * * *", "@once", "CRON_TZ=Europe/Berlin 15,45 * * * *",
    "CRON_TZ=Europe/Berlin 5,35 2 * * *",
)  # fmt: skip


class BrokenDelay:
    """A retry delay that raises."""

    def delay(self, attempt: int, /) -> float:
        raise ZeroDivisionError


@dataclass(frozen=True)
class TaskSpec:
    """A task, as data."""

    name: str
    after: tuple[str, ...] = ()
    rule: TriggerRule = TriggerRule.ALL_SUCCESSFUL
    retries: int = 0
    delay: str = "none"
    timeout: float | None = None
    pool: str | None = None
    priority: int = 0
    threaded: bool = False
    mood: str | None = None  # of `MOODS`, "list", "items" or "stream"; None for a random one each
    map_over: str | tuple[str, ...] | None = None
    zipped: bool = False
    max_parallel: int | None = None
    on_empty: str = "success"
    branch: bool = False
    when: str | None = None  # of `CONDITIONS`
    result: str = "json"
    runs: str | None = None  # a job, which it starts
    waits: bool = True  # for the end of that
    gives: int | None = None  # what it adds to its own param for that job; None for the default
    on_retry: str | None = None  # "ok", "fail" or "hang"

    @property
    def lists(self) -> tuple[str, ...]:
        """The tasks that it maps over."""
        over = self.map_over or ()
        return (over,) if isinstance(over, str) else over

    def build(self, stage: "Stage", downstream: tuple[str, ...] = ()) -> Task:
        choices = downstream if self.branch else None
        operator: Any = (Threaded if self.threaded else Scripted)(stage, self.mood, choices)
        if self.runs is not None:
            more = {"n": Template(f"{{{{ params.n + {self.gives} }}}}")}
            operator = RunJob(self.runs, None if self.gives is None else more, wait=self.waits)
        if self.mood == "stream":
            operator = generator(stage)
        delays: dict[str, RetryDelay | None] = {
            "none": None,
            "constant": ConstantDelay(3),
            "backoff": ExponentialBackoff(),
            "broken": BrokenDelay(),
        }
        return Task(
            self.name,
            operator,
            after=self.after,
            trigger_rule=self.rule,
            retries=self.retries,
            retry_delay=delays[self.delay],
            timeout=self.timeout,
            pool=self.pool,
            priority=self.priority,
            map_over=zipped(*self.map_over or ()) if self.zipped else self.map_over,
            max_parallel=self.max_parallel,
            on_empty=self.on_empty,
            when=self.when,
            result=self.result,
            on_retry=None if self.on_retry is None else _teller(stage, self.on_retry),
        )


@dataclass(frozen=True)
class JobSpec:
    """A job, as data."""

    name: str
    tasks: tuple[TaskSpec, ...]
    options: dict[str, Any] = field(default_factory=dict)
    hooks: tuple[tuple[str, TaskSpec], ...] = ()  # with the occasion of each

    def build(self, stage: "Stage") -> Job:
        job = Job(self.name, params=PARAMS, **self.options)
        lists = {name for task in self.tasks for name in task.lists}
        for task in self.tasks:
            task = replace(task, result="json") if task.name in lists else task
            downstream = tuple(other.name for other in self.tasks if task.name in other.after)
            job.add(task.build(stage, downstream)).branch = task.branch
        for occasion, hook in self.hooks:
            getattr(job, f"on_{occasion}")(hook.build(stage))
        if self.options.get("state") is not None:
            job.subscribe(stage.heard)
        return job

    @property
    def after(self) -> tuple[str, ...]:
        """The jobs that it runs after."""
        after = self.options.get("after", ())
        return (after,) if isinstance(after, str) else tuple(after)


def draw_job(
    rng: random.Random, name: str, before: Sequence[str] = (), others: Sequence[str] = ()
) -> JobSpec:
    """A random job. It may run after jobs `before`, and start `others`."""
    tasks: list[TaskSpec] = []
    for number in range(rng.choice((1, 1, 2, 3, 4, 6))):
        known = [task.name for task in tasks]
        after = tuple(rng.sample(known, min(len(known), rng.choice((0, 1, 1, 2)))))
        task = _draw_task(rng, f"t{number}", after)
        if others and rng.random() < 0.2:
            given = rng.choice((None, 0, 1))
            runs, waits = rng.choice(others), rng.random() < 0.8
            task = replace(
                task, runs=runs, waits=waits, gives=given, branch=False, result="json", timeout=None
            )
        tasks.append(task)
    if rng.random() < 0.2:
        tasks += _draw_chain(rng, [task.name for task in tasks])
    options: dict[str, Any] = {
        "state": rng.choice((None, add)),
        "overlap": (overlap := rng.choice(("allow", "skip", "queue", "replace"))),
        "max_active": rng.choice((1, 1, 2, 3)) if overlap == "queue" else 1,
        "max_queued": rng.choice((0, 1, 3, 10)),
        "catchup": rng.choice(("latest", "none", "all")),
        "catchup_window": rng.choice((20, 300, 3600)),
        "catchup_limit": rng.choice((1, 3, 100)),
        "timeout": rng.choice((None, None, None, 4, 30)),
        "max_running": rng.choice((None, None, 1, 2)),
    }
    if before and rng.random() < 0.3:
        options["after"] = rng.sample(before, min(len(before), rng.choice((1, 1, 2))))
    elif rng.random() < 0.75:
        options |= _draw_schedule(rng) | {"active": rng.random() < 0.8}
        options["interval"] = rng.random() < 0.3
        options["skip_dates"] = rng.choice((None,) * 6 + SKIP_DATES)
    hooks = [_draw_hook(rng, f"h{number}") for number in range(rng.choice((0, 0, 0, 1, 2)))]
    return JobSpec(name, tuple(tasks), options, tuple(hooks))


class SkipDays:
    """A function for `skip_dates`, whose text has no address: of the days of a month that it
    skips, and of those for which it fails."""

    def __init__(self, skipped: Sequence[int], broken: Sequence[int] = ()) -> None:
        self._skipped = skipped
        self._broken = broken

    def __call__(self, day: date) -> object:
        if day.day in self._broken:
            raise ZeroDivisionError
        return day.day in self._skipped and f"day {day.day}"

    def __repr__(self) -> str:
        return f"SkipDays({self._skipped}, {self._broken})"


SKIP_DATES = (["2030-03-30"], [date(2030, 3, 31), "2030-04-02"], SkipDays([31], [30, 1]))


def is_skipped(job: JobSpec, day: date) -> bool:
    """Whether a job makes no execution for due times of a date."""
    given = job.options.get("skip_dates")
    if isinstance(given, SkipDays):
        return day.day in (31, 30, 1)
    return str(day) in {str(one) for one in given or ()}


def _draw_schedule(rng: random.Random, kept: Sequence[str] = ()) -> dict[str, Any]:
    """One schedule, or several, of which some may be `kept` from before; and their bounds."""
    drawn = rng.choices(SCHEDULES, k=rng.choice((1, 1, 1, 2, 3)))
    if kept and rng.random() < 0.6:
        drawn += rng.sample(kept, rng.randint(1, len(kept)))
        rng.shuffle(drawn)
    minutes = sorted(rng.choices(range(-3, 60), k=2))
    begin, stop = (BEGINNING + timedelta(minutes=each) for each in minutes)
    start = begin if rng.random() < 0.2 else None
    end = stop if rng.random() < 0.2 else None
    parsed = tuple(Schedule(one, with_seconds=True) for one in drawn)
    return {
        "schedule": drawn[0] if len(drawn) == 1 else drawn,
        "start": start,
        "end": None if Timing(parsed, start, end).never_fires else end,
    }


def edited(rng: random.Random, job: JobSpec) -> JobSpec:
    """The job after a random edit of its file."""
    match rng.randrange(5):
        case 4:
            return replace(
                job, hooks=(*job.hooks[1:], _draw_hook(rng, f"h{rng.randrange(100, 999)}"))
            )
        case 0 if not job.after:
            kept = job.options.get("schedule") or ()
            kept = [kept] if isinstance(kept, str) else list(kept)
            return replace(job, options=job.options | _draw_schedule(rng, kept))
        case 1:
            return replace(job, options=job.options | {"max_running": rng.choice((None, 1, 2))})
        case 2:
            names = [task.name for task in job.tasks]
            unused = next(
                name for name in map("n{}".format, itertools.count()) if name not in names
            )
            new = _draw_task(rng, unused, tuple(rng.sample(names, 1)))
            return replace(job, tasks=(*job.tasks, new))
        case _:
            changed = [replace(task, retries=rng.choice((0, 2))) for task in job.tasks]
            return replace(job, tasks=tuple(changed))


def _draw_hook(rng: random.Random, name: str) -> tuple[str, TaskSpec]:
    hook = replace(_draw_task(rng, name, ()), rule=TriggerRule.ALL_SUCCESSFUL, branch=False)
    return rng.choice(("success", "failure", "finish")), hook


def _draw_task(rng: random.Random, name: str, after: tuple[str, ...]) -> TaskSpec:
    usual = rng.random() < 0.6
    task = TaskSpec(
        name,
        after,
        TriggerRule.ALL_SUCCESSFUL if usual else rng.choice(list(TriggerRule)),
        rng.choice((0, 0, 1, 3)),
        rng.choice(DELAYS),
        rng.choice((None, None, None, 1.5, 8)),
        rng.choice((None, None, *POOLS)),
        rng.choice((0, 0, -2, 5)),
        rng.random() < 0.4,
        branch=rng.random() < 0.2,
        when=rng.choice((None,) * 12 + tuple(CONDITIONS)),
        on_retry=rng.choice((None, None, None, "ok", "fail", "hang")),
    )
    if not task.branch:
        task = replace(task, result=rng.choice(("json",) * 9 + ("pickle",)))
    if not after or rng.random() < 0.6:
        return task
    task = replace(task, branch=False, result="json")
    over = after if len(after) > 1 and rng.random() < 0.4 else rng.choice(after)
    return replace(
        task,
        map_over=over,
        zipped=not isinstance(over, str) and rng.random() < 0.5,
        max_parallel=rng.choice((None, None, 1, 2)),
        on_empty=rng.choice(("success", "skip")),
    )


def _draw_chain(rng: random.Random, others: Sequence[str]) -> list[TaskSpec]:
    """Tasks that map over one another, item by item, and perhaps wait for another task as well."""
    plain = {"branch": False, "result": "json"}
    mood: str | None = rng.choice(("list", "stream", "stream"))
    chain = [replace(_draw_task(rng, "c0", ()), mood=mood, **plain)]
    for number in range(1, rng.choice((3, 3, 4))):
        over = f"c{number - 1}"
        after = (over, rng.choice(others)) if rng.random() < 0.3 else (over,)
        task = _draw_task(rng, f"c{number}", after)
        mood = rng.choice(("items", "items", None))
        chain.append(replace(task, map_over=over, zipped=False, mood=mood, **plain))
    return chain


# -- operators ---------------------------------------------------------------------


class _Add:
    """The reducer of jobs with a shared state, which depends on the order of actions. Unlike that
    of a function, its text has no address, so traces are the same in any process."""

    def __call__(self, state: Any, action: Any) -> Any:
        return ((state or 0) * 31 + action["by"]) % 1_000_003

    def __repr__(self) -> str:
        return "add"


add = _Add()

UNKEPT = {1: {2}, ("a",): b"b"}  # can be pickled, and is no JSON
LARGE_LIST = [number % 7 for number in range(20)] + ["large" * 1000]

MOODS = {
    "ok": 10, "long": 3, "fail": 4, "hang": 1, "exit": 1, "cancelled": 0.5,
    "stubborn": 1, "deaf": 0.3, "unkept": 0.5, "talk": 3, "sensor": 3, "skip": 1.5, "final": 1.5,
    "file": 1,
}  # fmt: skip


class Stage(Protocol):
    """An observer of running operators."""

    rng: random.Random

    def begins(self, context: Context, *, threaded: bool) -> None:
        """The operator of an attempt begins."""

    def ends(self, context: Context) -> None:
        """The operator has really ended."""

    def said(self, context: Context, line: str) -> None:
        """The operator has printed a line."""

    def acts(self, context: Context, end: Any) -> None:
        """The operator returns that value, or raises that exception."""

    def dispatches(self, context: Context, action: Any) -> None:
        """The operator dispatches an action."""

    def dispatched(self, context: Context, action: Any) -> None:
        """An action is acknowledged."""

    def reads(self, context: Context) -> None:
        """The operator reads the shared state."""

    def heard(self, state: Any, action: Any) -> None:
        """The shared state has changed."""

    def items(self, context: Context) -> tuple[list[Any], int]:
        """What a generator is to yield, and how many of them are committed."""

    def pauses(self, context: Context) -> None:
        """A generator is about to yield."""

    def goes_on(self, context: Context) -> None:
        """A generator goes on after it has yielded."""

    def told_of_retry(self, context: Context) -> None:
        """The `on_retry` of a task was called."""

    def last(self, context: Context, seconds: float) -> None:
        """The operator occupies its thread for `seconds`."""


def _mood(rng: random.Random) -> str:
    return rng.choices(list(MOODS), list(MOODS.values()))[0]


def _mood_of(context: Context, rng: random.Random) -> str:
    """A random mood; that of a further look does not change, since its lines may be lost."""
    return "sensor" if context.waited else _mood(rng)


class Scripted:
    """Succeeds, fails, hangs or misbehaves, depending on its mood. A branch has `choices`."""

    def __init__(
        self, stage: Stage, mood: str | None, choices: tuple[str, ...] | None = None
    ) -> None:
        self._stage = stage
        self._mood = mood
        self._choices = choices

    async def run(self, context: Context) -> Any:
        stage = self._stage
        stage.begins(context, threaded=False)
        try:
            return await self._act(context, self._mood or _mood_of(context, stage.rng))
        finally:
            stage.ends(context)

    async def _act(self, context: Context, mood: str) -> Any:
        rng = self._stage.rng
        match mood:
            case "long" | "hang":
                await asyncio.sleep(rng.uniform(3, 40) if mood == "long" else 900)
            case "stubborn" | "deaf":
                await self._endure(rng.uniform(0.5, 10) if mood == "stubborn" else 40)
            case "talk":
                for number in range(rng.randint(1, 4)):
                    _talk(self._stage, context)
                    if context.shared is not None:
                        await self._dispatch(context, number)
                    await asyncio.sleep(rng.choice((0, 0.3)))
            case _:
                await asyncio.sleep(rng.choice((0, 0.1, 1, 2)))
        return _close(self._stage, context, mood, self._choices)

    async def _dispatch(self, context: Context, number: int) -> None:
        """Dispatch an action, mostly the one that the attempt before has dispatched."""
        stage = self._stage
        action = {
            "id": context.execution_id,
            "of": [context.task, context.index],
            "number": number,
            "by": stage.rng.choice((number, number, number, 7)),
        }
        stage.dispatches(context, action)
        dispatching = context.dispatch(action)
        for _ in range(stage.rng.choice((0, 0, 3))):  # while it is applied and committed
            await asyncio.sleep(stage.rng.choice((0, 0.001, 0.02)))
            stage.reads(context)
        await dispatching
        stage.dispatched(context, action)

    async def _endure(self, seconds: float) -> None:
        """Continue for `seconds` despite cancellations."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while (left := until - loop.time()) > 0:
            try:
                await asyncio.sleep(left)
            except asyncio.CancelledError:
                continue


class Threaded:
    """The same in a thread, which cannot be stopped."""

    def __init__(
        self, stage: Stage, mood: str | None, choices: tuple[str, ...] | None = None
    ) -> None:
        self._stage = stage
        self._mood = mood
        self._choices = choices

    def run(self, context: Context) -> Any:
        stage, rng = self._stage, self._stage.rng
        mood = self._mood or _mood_of(context, rng)
        stage.begins(context, threaded=True)
        if mood == "talk":
            _talk(stage, context)
        stage.last(context, {"hang": 200.0, "deaf": 40.0, "long": 15.0}.get(mood, rng.random()))
        return _close(stage, context, mood, self._choices)


def _teller(stage: Stage, mood: str) -> Callable[..., Any]:
    """An `on_retry` that notes its call, and then may fail or hang."""

    async def tell(outcome: Outcome, context: Context) -> None:
        stage.told_of_retry(context)
        assert outcome.failed == [context.task]
        if mood == "fail":
            raise ValueError("told to fail")
        await asyncio.sleep(900 if mood == "hang" else stage.rng.choice((0, 0.5, 8)))

    return tell


def _talk(stage: Stage, context: Context) -> None:
    line = f"line {stage.rng.randrange(1000)}"
    stage.said(context, line)
    print(line)


def _close(stage: Stage, context: Context, mood: str, choices: tuple[str, ...] | None) -> Any:
    """End as the mood says, and tell the stage."""
    try:
        end = _ended(context, mood, stage.rng)
        if choices is not None:
            end = _chosen(choices, stage.rng)
    except BaseException as error:
        stage.acts(context, error)
        raise
    stage.acts(context, end)
    return end


def _chosen(choices: tuple[str, ...], rng: random.Random) -> Any:
    """What a branch returns: some of the tasks downstream, or now and then no choice at all."""
    if rng.random() < 0.1:
        return rng.choice((["unknown"], 7, {"a": 1}, [None]))
    some = rng.sample(choices, rng.randint(0, len(choices)))
    if len(some) == 1 and rng.random() < 0.5:
        return some[0]
    return rng.choice((some, some + some[:1])) or rng.choice((None, []))


def _ended(context: Context, mood: str, rng: random.Random) -> Any:
    match mood:
        case "fail":
            raise ValueError("scripted to fail")
        case "sensor" if rng.random() < 0.6:
            raise Later(rng.choice((0.01, 2, 45)), rng.choice(("no file", "an empty file")))
        case "patient" if context.waited < 40:
            raise Later(15, "no file" if context.waited < 20 else "an empty file")
        case "exit":
            raise SystemExit(1)
        case "cancelled":
            raise asyncio.CancelledError
        case "unkept":
            return UNKEPT
        case "skip":
            raise Skip(f"nothing to do in attempt {context.attempt}")
        case "final":
            raise TaskFailed(f"given up in attempt {context.attempt}", final=True)
        case "file":
            text = f"{context.execution_id} {context.task} {context.attempt}"
            context.artifact("a.txt").write_text(text)
            return text
        case "list":
            return ["ok", "fail", "again", "ok"]
        case "items":  # of such a list
            if context.item == "fail" or (context.item == "again" and context.attempt == 1):
                raise ValueError(f"scripted to {context.item}")
            return context.item
        case _:
            # The last result is too large for a fact.
            values = (None, {"attempt": context.attempt}, [1, 2, 3], "large" * 1000, [], LARGE_LIST)
            return rng.choice(values)
