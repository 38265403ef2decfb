"""Random jobs as data that outlives a process, and the behaviour of their tasks."""

import asyncio
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from goflow.core.retry import ConstantDelay, ExponentialBackoff, RetryDelay
from goflow.core.schedule import Schedule
from goflow.core.states import TriggerRule
from goflow.core.timetable import Timing
from goflow.errors import Later
from goflow.job import Job, Task, zipped
from goflow.operators.base import Context

BEGINNING = datetime(2030, 3, 30, 23, 57, 30, tzinfo=UTC)  # of each story
POOLS = {"db": 1, "web": 2}
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
    mood: str | None = None  # of `MOODS`, or "list" or "items"; None for a random one each time
    map_over: str | tuple[str, ...] | None = None
    zipped: bool = False
    max_parallel: int | None = None
    on_empty: str = "success"

    def build(self, stage: "Stage") -> Task:
        operator: Any = (Threaded if self.threaded else Scripted)(stage, self.mood)
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
        )


@dataclass(frozen=True)
class JobSpec:
    """A job, as data."""

    name: str
    tasks: tuple[TaskSpec, ...]
    options: dict[str, Any] = field(default_factory=dict)
    hooks: tuple[tuple[str, TaskSpec], ...] = ()  # with the occasion of each

    def build(self, stage: "Stage") -> Job:
        job = Job(self.name, tasks=[task.build(stage) for task in self.tasks], **self.options)
        for occasion, hook in self.hooks:
            getattr(job, f"on_{occasion}")(hook.build(stage))
        return job


def draw_job(rng: random.Random, name: str) -> JobSpec:
    """A random job."""
    tasks: list[TaskSpec] = []
    for number in range(rng.choice((1, 1, 2, 3, 4, 6))):
        known = [task.name for task in tasks]
        after = tuple(rng.sample(known, min(len(known), rng.choice((0, 1, 1, 2)))))
        tasks.append(_draw_task(rng, f"t{number}", after))
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
    if rng.random() < 0.75:
        options |= _draw_schedule(rng) | {"active": rng.random() < 0.8}
    hooks = [_draw_hook(rng, f"h{number}") for number in range(rng.choice((0, 0, 0, 1, 2)))]
    return JobSpec(name, tuple(tasks), options, tuple(hooks))


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
        case 0:
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
    hook = replace(_draw_task(rng, name, ()), rule=TriggerRule.ALL_SUCCESSFUL)
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
    )
    if not after or rng.random() < 0.6:
        return task
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
    chain = [replace(_draw_task(rng, "c0", ()), mood="list")]
    for number in range(1, rng.choice((3, 3, 4))):
        over = f"c{number - 1}"
        after = (over, rng.choice(others)) if rng.random() < 0.3 else (over,)
        task = _draw_task(rng, f"c{number}", after)
        mood = rng.choice(("items", "items", None))
        chain.append(replace(task, map_over=over, zipped=False, mood=mood))
    return chain


# -- operators ---------------------------------------------------------------------


class _Add:
    """The reducer of jobs with a shared state. Unlike that of a function, its text has no address,
    so traces are the same in any process."""

    def __call__(self, state: Any, action: Any) -> Any:
        return (state or 0) + action["by"]

    def __repr__(self) -> str:
        return "add"


add = _Add()

LARGE_LIST = [number % 7 for number in range(20)] + ["large" * 1000]

MOODS = {
    "ok": 10, "long": 3, "fail": 4, "hang": 1, "exit": 1, "cancelled": 0.5,
    "stubborn": 1, "deaf": 0.3, "unkept": 0.5, "talk": 3, "sensor": 3,
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

    def last(self, context: Context, seconds: float) -> None:
        """The operator occupies its thread for `seconds`."""


def _mood(rng: random.Random) -> str:
    return rng.choices(list(MOODS), list(MOODS.values()))[0]


def _mood_of(context: Context, rng: random.Random) -> str:
    """A random mood; that of a further look does not change, since its lines may be lost."""
    return "sensor" if context.waited else _mood(rng)


class Scripted:
    """Succeeds, fails, hangs or misbehaves, depending on its mood."""

    def __init__(self, stage: Stage, mood: str | None) -> None:
        self._stage = stage
        self._mood = mood

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
                        await context.dispatch({"number": number, "by": rng.choice((1, 1, 2))})
                    await asyncio.sleep(rng.choice((0, 0.3)))
            case _:
                await asyncio.sleep(rng.choice((0, 0.1, 1, 2)))
        return _close(context, mood, rng)

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

    def __init__(self, stage: Stage, mood: str | None) -> None:
        self._stage = stage
        self._mood = mood

    def run(self, context: Context) -> Any:
        stage, rng = self._stage, self._stage.rng
        mood = self._mood or _mood_of(context, rng)
        stage.begins(context, threaded=True)
        if mood == "talk":
            _talk(stage, context)
        stage.last(context, {"hang": 200.0, "deaf": 40.0, "long": 15.0}.get(mood, rng.random()))
        return _close(context, mood, rng)


def _talk(stage: Stage, context: Context) -> None:
    line = f"line {stage.rng.randrange(1000)}"
    stage.said(context, line)
    print(line)


def _close(context: Context, mood: str, rng: random.Random) -> Any:
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
            return object()
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
