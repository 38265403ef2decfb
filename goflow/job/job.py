"""Job: a graph of tasks with a schedule, checked when it is defined.

Every mistake raises `InvalidJob` at its line, except for mistakes that depend on the whole job (a
cycle, no tasks) or on the engine (whether cron has seconds). These raise when the job is registered
or run, never while it runs.

`Job.run` imports `goflow.run` when it is called. It is the only import of a higher module;
`tests/test_imports.py` pins it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

from goflow import checks
from goflow.checks import defining
from goflow.core.catchup import CatchUp, Overlap, Policy
from goflow.core.graph import Occasion, OnEmpty, Plan, PlannedTask, find_cycle
from goflow.core.result import Format
from goflow.core.retry import CENTURY, RetryDelay
from goflow.core.schedule import Schedule, find_zone
from goflow.core.states import TriggerRule, is_met_by_success
from goflow.core.timetable import Timing
from goflow.errors import InvalidJob, InvalidParams, InvalidRequest, WrongField
from goflow.job.mapping import MapOver
from goflow.job.params import declare
from goflow.job.patterns import Doubtful
from goflow.job.source import Definition
from goflow.job.task import HOOK_TIMEOUT, Isolation, Task, task_options, tasks_of
from goflow.operators.base import Asking, Repeatable
from goflow.operators.function import FunctionOperator, bind, bind_hook
from goflow.plain import Unfit, encode
from goflow.shown import reason, shown
from goflow.templates import fields as templates
from goflow.templates.template import Template

if TYPE_CHECKING:
    from goflow.job.skip_dates import Given, SkipDates
    from goflow.run import FinishedExecution


SCHEDULES = 100  # of one job, at most


def _texts(where: str, schedule: str | Iterable[str] | None) -> tuple[str, ...]:
    """The schedules as written. `Schedule` checks each."""
    if schedule is None:
        return ()
    if isinstance(schedule, str) or not isinstance(schedule, Iterable):
        schedule = [schedule]
    texts = checks.items(f"{where}: schedule", "texts", schedule)
    if not texts:
        raise InvalidJob(f"{where}: schedule is an empty list; a job without a schedule has None")
    if len(texts) > SCHEDULES:
        raise InvalidJob(f"{where}: {len(texts)} schedules are too many; the limit is {SCHEDULES}")
    return tuple(str.__str__(one) if isinstance(one, str) else one for one in texts)


class _TaskAccess:
    """`job.task`: a getter by name, and a decorator for functions."""

    def __init__(self, job: "Job") -> None:
        self.job = job

    @overload
    def __call__(self, name: str, /) -> Task: ...
    @overload
    def __call__(self, function: Callable[..., Any], /) -> Task: ...
    @overload
    def __call__(
        self,
        /,
        *,
        name: str | None = None,
        retries: int = 0,
        retry_delay: RetryDelay | None = None,
        trigger_rule: TriggerRule | str = TriggerRule.ALL_SUCCESSFUL,
        after: Iterable[str] = (),
        timeout: float | None = None,
        pool: str | None = None,
        priority: int = 0,
        isolation: Isolation | str | None = None,
        map_over: MapOver | None = None,
        max_parallel: int | None = None,
        on_empty: OnEmpty | str = OnEmpty.SUCCESS,
        item_key: Template | str | None = None,
        when: str | None = None,
        result: Format | str = Format.JSON,
        on_retry: Callable[..., Any] | None = None,
    ) -> Callable[[Callable[..., Any]], Task]: ...
    def __call__(self, given: Any = None, /, *, name: str | None = None, **options: Any) -> Any:
        if callable(given):
            return self.job._add_function(given, name, options)
        if given is None:
            return lambda function: self.job._add_function(function, name, options)
        return self.job._get(given)


class _HookAccess:
    """`job.on_failure` and its like: adds a function or a task as a hook."""

    def __init__(self, job: "Job", occasion: Occasion) -> None:
        self.job = job
        self.occasion = occasion

    @overload
    def __call__(self, given: Callable[..., Any] | Task, /) -> Task: ...
    @overload
    def __call__(
        self,
        /,
        *,
        name: str | None = None,
        retries: int = 0,
        retry_delay: RetryDelay | None = None,
        timeout: float | None = HOOK_TIMEOUT,
        pool: str | None = None,
        priority: int = 0,
        isolation: Isolation | str | None = None,
    ) -> Callable[[Callable[..., Any]], Task]: ...
    def __call__(self, given: Any = None, /, *, name: str | None = None, **options: Any) -> Any:
        job, occasion = self.job, self.occasion
        if given is None:
            return lambda function: job._add_hook_function(function, occasion, name, options)
        if isinstance(given, Task):
            return job._add_hook(given, occasion)
        return job._add_hook_function(given, occasion, name, options)


def _checked_after(name: str, after: Any) -> tuple[str, ...]:
    """The names of the jobs that a job runs after."""
    where = f"job {name!r}: after"
    names = [after] if isinstance(after, str) else checks.texts(where, "names of jobs", after)
    found = tuple(dict.fromkeys(checks.name("job", one) for one in names))
    if name in found:
        raise InvalidJob(f"job {name!r} cannot run after itself")
    return found


class Job:
    """A named graph of tasks and its schedule.

    Args:
        name: Name of the job, unique in its server: 1 to 250 characters of any script, without
            control characters.
        schedule: Cron expression or descriptor such as `@daily`; see `Schedule`. Or a list of
            them: a due time that two of them share fires once. None for a job that runs only when
            submitted.
        active: Whether the schedule is on at first; by default, only a job that runs `after`
            others is on. Once a user has switched it, that switch is kept and overrides this value.
        after: The name of another job, or a list of names. An execution is created when one of the
            other job succeeds, with the same due time; with several, when all of them have
            succeeded for a due time. Such a job has no schedule.
        timezone: IANA zone of the schedule, unless the schedule names one.
        start: First moment at which the job may be due, and `end` the last: a `datetime`, a
            `date`, or either as text in ISO 8601. Without an offset it is a local time in
            `timezone`. A date as `end` includes that whole day.
        end: See `start`.
        tasks: Tasks to add.
        params: Parameters that a submit may set. A dict gives their defaults, and a value must
            have its default's JSON type; a default of None takes any value. A `msgspec.Struct`,
            dataclass, TypedDict or pydantic model gives them as annotated fields, and a function
            by its signature. None takes any JSON object unchecked.
        description: Text that the API and the dashboard show.
        tags: Words that the API and the dashboard show.
        skip_dates: Dates on which a due time makes no execution: dates, a function of a date that
            is true or returns the reason, or the path of an .ics file. The ledger records such a
            due time as skipped.
        overlap: What a new execution does while an earlier one is unfinished: "allow" runs
            beside it, "skip" is not created, "queue" waits for it, "replace" cancels it.
        max_active: Executions that run at once with `overlap="queue"`. The others wait, and begin
            in the order of their submits.
        max_queued: Executions that wait at most with `overlap="queue"`.
        catchup: Which missed due times still fire: "latest", "all" or "none".
        catchup_window: Seconds after which a missed due time is too old to fire, up to a century.
        catchup_limit: Due times that fire at most with `catchup="all"`, the newest ones.
        interval: Whether an execution gets `interval_start` and `interval_end`, the due times
            before and at its own, for example to process the data of that time. An execution that
            is submitted by hand gets the last interval that is over.
        timeout: Seconds that an execution may take from the start of its first attempt; None for
            no limit. It is cancelled then, and its state is `failed`.
        max_running: Tasks of the job that run at once, over all its executions; None for no limit
            of its own.
        state: Reducer of the state that the tasks of an execution share: a function of a state and
            an action that returns a new state. None for no shared state.
        initial: Shared state at the beginning, of JSON's types. If it is None, the reducer makes
            it, as `goflow.state.create_store` describes.
        middleware: Middleware around the dispatch of actions; see `goflow.state.apply_middleware`.

    Raises:
        InvalidJob: An argument is invalid. The message names the job and the value.

    Examples:
        >>> from goflow import Command, Job, Task
        >>> job = Job("backup", "30 2 * * *", active=True, timezone="Europe/Berlin")
        >>> dump = job.add(Task("dump", Command("echo", ["dumped"])))
        >>> upload = job.add(Task("upload", Command("echo", ["uploaded"])))
        >>> dump >> upload
        Task('upload', Command(cmd='echo', args=('uploaded',), cwd=None, timeout=None))
        >>> job.run().state == "successful"
        True
    """

    @defining("job")
    def __init__(
        self,
        name: str,
        schedule: str | Iterable[str] | None = None,
        active: bool | None = None,
        *,
        after: str | Iterable[str] = (),
        timezone: str = "UTC",
        start: datetime | date | str | None = None,
        end: datetime | date | str | None = None,
        tasks: Iterable[Task] = (),
        params: Mapping[str, Any] | type | Callable[..., Any] | None = None,
        description: str = "",
        tags: Iterable[str] = (),
        skip_dates: "Given | None" = None,
        overlap: Overlap | str = Overlap.ALLOW,
        max_active: int = 1,
        max_queued: int = 10,
        catchup: CatchUp | str = CatchUp.LATEST,
        catchup_window: float = 3600,
        catchup_limit: int = 100,
        interval: bool = False,
        timeout: float | None = None,
        max_running: int | None = None,
        state: Callable[[Any, Any], Any] | None = None,
        initial: Any = None,
        middleware: Iterable[Callable[..., Any]] = (),
    ) -> None:
        self.definition = Definition.of_caller(self)
        self.name = checks.name("job", name)
        where = f"job {self.name!r}"
        self.schedules = _texts(where, schedule)
        self.timezone = str.__str__(timezone) if isinstance(timezone, str) else timezone
        self.after = _checked_after(self.name, after)
        self.active = (
            bool(self.after) if active is None else checks.flag(f"{where}: active", active)
        )
        self.start = self.end = None
        if start is not None or end is not None:
            from goflow.job.moments import between

            self.start, self.end = between(where, start, end, self.timezone)
        self.skip_dates: SkipDates | None = None
        if skip_dates is not None:
            from goflow.job.skip_dates import declare as declare_skip_dates

            self.skip_dates = declare_skip_dates(where, skip_dates)
        self.interval = checks.flag(f"{where}: interval", interval)
        # Six fields are accepted here: only the engine knows whether seconds are allowed.
        self._check_timing(self.timing_for(with_seconds=True))
        self._params = declare(where, params)
        if self.schedules and self.after:
            raise InvalidJob(f"{where} runs after other jobs, so it cannot have a schedule too")
        if (self.schedules or self.after) and (required := self._params.required):
            by = "its schedule runs it" if self.schedules else "it runs after other jobs"
            raise InvalidJob(
                f"{where}: {by} with the defaults, but parameters "
                f"{', '.join(map(repr, required))} have none"
            )
        self.description = checks.text(f"{where}: description", description)
        self.tags = tuple(checks.texts(f"{where}: tags", "texts", tags))
        self.overlap = checks.choice(f"{where}: overlap", Overlap, overlap)
        self.max_active = checks.count(f"{where}: max_active", max_active, 1, checks.COUNT_LIMIT)
        if self.max_active > 1 and self.overlap is not Overlap.QUEUE:
            raise InvalidJob(
                f"{where}: max_active={max_active} needs overlap='queue', not {str(overlap)!r}"
            )
        self.max_queued = checks.count(f"{where}: max_queued", max_queued, 0, checks.COUNT_LIMIT)
        window = checks.seconds(f"{where}: catchup_window", catchup_window, CENTURY)
        self.catchup = Policy(
            checks.choice(f"{where}: catchup", CatchUp, catchup),
            timedelta(seconds=window),
            checks.count(f"{where}: catchup_limit", catchup_limit, 1, checks.COUNT_LIMIT),
        )
        self.timeout = None if timeout is None else checks.seconds(f"{where}: timeout", timeout)
        self.max_running = (
            None
            if max_running is None
            else checks.count(f"{where}: max_running", max_running, 1, checks.COUNT_LIMIT)
        )
        self.reducer = state
        self.initial_state, self.middleware = self._check_state(where, initial, middleware)
        self.subscribers: list[Callable[..., Any]] = []
        self._tasks: dict[str, Task] = {}
        self._hooks: dict[str, Task] = {}
        self._sealed = False
        for task in checks.items(f"{where}: tasks", "tasks", tasks):
            self.add(task)

    def __repr__(self) -> str:
        return f"Job({self.name!r}, {self.schedule!r})"

    @property
    def schedule(self) -> str | None:
        """The schedule as written; several are joined by `; `. None without one."""
        return "; ".join(self.schedules) or None

    @property
    def tasks(self) -> list[Task]:
        """The tasks in the order added."""
        return list(self._tasks.values())

    @property
    def task(self) -> _TaskAccess:
        """`job.task("name")` returns a task. `@job.task` and `@job.task(retries=3)` add one.

        The decorator takes the options of `Task`, and `name`; the task is named after the
        function by default. A parameter named like a task of this job makes the function's task
        run after it and receives its result. A parameter named like a job parameter receives its
        value. With an annotation, it receives that type. A parameter annotated `Context`, or named
        `context`, receives the context. With `map_over`, the parameter named like that task
        receives an item.

        Raises:
            InvalidJob: The job has no task of that name, or an option or a parameter of the
                function is invalid.

        Examples:
            >>> from goflow import Job
            >>> job = Job("greet", params={"name": "Ada"})
            >>> @job.task
            ... def make(name):
            ...     return f"Hello, {name}!"
            >>> @job.task(retries=2)
            ... def shout(make):
            ...     return make.upper()
            >>> job.task("shout").after
            ['make']
        """
        return _TaskAccess(self)

    @property
    def on_success(self) -> _HookAccess:
        """Adds a hook that runs when all tasks have ended, if the execution is successful. See
        `on_finish`."""
        return _HookAccess(self, Occasion.SUCCESS)

    @property
    def on_failure(self) -> _HookAccess:
        """Adds a hook that runs when all tasks have ended, if the execution has failed. See
        `on_finish`."""
        return _HookAccess(self, Occasion.FAILURE)

    @property
    def on_finish(self) -> _HookAccess:
        """Adds a hook that runs when all tasks have ended, in whatever state, also after a cancel.

        `@job.on_finish` and `@job.on_finish(retries=3)` decorate a function of one `Outcome` or
        of nothing, sync or async. The options are those of `@job.task` that suit a hook, and
        `timeout` is 60 seconds by default. `job.on_finish(Task("notify", Command(…)))` adds an
        operator. A hook never changes the state of its execution.

        Raises:
            InvalidJob: The function, the task or an option is invalid, or its name is taken.

        Examples:
            >>> from goflow import Command, Job, Outcome, Task
            >>> job = Job("nightly", tasks=[Task("load", Command("true"))])
            >>> @job.on_finish(retries=3)
            ... def tell(outcome: Outcome):
            ...     print(outcome.state)
            >>> job.run().hooks["tell"].logs
            'successful\\n'
        """
        return _HookAccess(self, Occasion.FINISH)

    @defining("job")
    def subscribe(self, listener: Callable[..., Any]) -> Callable[..., Any]:
        """Call a function after each change of an execution's shared state; usable as a decorator.

        It runs in the server, in order and after the commit, and gets a copy of the new state and
        the action, as many of them as it takes. It must return soon. Its errors go to the log of
        the task that dispatched. It may miss a change when the server is killed.

        Args:
            listener: Function of a state and an action, of a state, or of nothing.

        Returns:
            The function.

        Raises:
            InvalidJob: The job has no shared state, or the listener is not a function.
        """
        where = f"job {self.name!r}"
        if self.reducer is None:
            raise InvalidJob(f"{where}: subscribe needs a shared state: Job(state=reducer)")
        if not callable(listener):
            raise InvalidJob(f"{where}: {shown(listener)} is not a function")
        self._check_open("no function can subscribe")
        self.subscribers.append(listener)
        return listener

    @property
    def hooks(self) -> list[Task]:
        """The hooks in the order added."""
        return list(self._hooks.values())

    @overload
    def branch(self, function: Callable[..., Any], /, **options: Any) -> Task: ...
    @overload
    def branch(self, /, **options: Any) -> Callable[[Callable[..., Any]], Task]: ...
    def branch(self, function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """`@job.branch` adds a task whose function chooses the tasks that go on.

        It returns the name of a task directly downstream, a list of names, or None for no task.
        The other tasks directly downstream are skipped, whatever their trigger rules, and those
        after them by their trigger rules. Any other return value fails the attempt.

        Tasks directly downstream wait for the branch to end. If it did not succeed, or a user
        marked it, their trigger rules decide.

        Args:
            function: Function that chooses.
            **options: Options of `@job.task`, but `map_over`: `@job.branch(retries=3)`.

        Raises:
            InvalidJob: An option or a parameter of the function is invalid.

        Examples:
            >>> from goflow import Command, Job, Task
            >>> job = Job("report", params={"full": False})
            >>> @job.branch
            ... def choose(full):
            ...     return "everything" if full else "today"
            >>> everything = job.add(Task("everything", Command("true"), after=["choose"]))
            >>> today = job.add(Task("today", Command("true"), after=["choose"]))
            >>> {name: str(task.state) for name, task in job.run().tasks.items()}
            {'choose': 'successful', 'everything': 'skipped', 'today': 'successful'}
        """
        if function is None:
            return lambda function: self.branch(function, **options)
        name = options.pop("name", None)
        return self._add_function(function, name, options, branch=True)

    @defining("job")
    def add(self, task: Task) -> Task:
        """Add a task and return it.

        Raises:
            InvalidJob: The job has a task of that name, is registered already, or lacks a task
                that the new one runs after. Or a template in the task's operator is invalid.
        """
        where = f"job {self.name!r}"
        if not isinstance(task, Task):
            raise InvalidJob(f"{where}: only a Task can be added, not {shown(task)}")
        self._check_open(f"task {task.name!r} cannot be added")
        self._check_new(task)
        for upstream in task.after:
            if upstream == task.name:
                raise InvalidJob(f"{where}: task {task.name!r} cannot run after itself")
            if upstream not in self._tasks:
                raise InvalidJob(
                    f"{where}: task {task.name!r} runs after {upstream!r}, "
                    f"which is not in the job; add that one first"
                )
        over = task.map_over
        for name in (over,) if isinstance(over, str) else over or ():
            if (kept := self._tasks[name].result) is not Format.JSON:
                raise InvalidJob(
                    f"{where}: task {task.name!r} maps over task {name!r}, whose result must be "
                    f"JSON, not {kept}"
                )
        for field in task.templates:
            is_mapped = task.map_over is not None
            templates.check(field, f"{where}, task {task.name!r}", is_mapped=is_mapped)
        if task.item_key is not None:
            if self._runs_by_item(task):
                raise InvalidJob(
                    f"{where}, task {task.name!r}: its items have the keys of task "
                    f"{task.map_over!r}, which it maps over item by item; leave item_key out"
                )
            field = templates.Field("item_key", task.item_key, task.item_key.text)
            templates.check_key(field, f"{where}, task {task.name!r}")
            task.templates += (field,)
        task.job = self
        self._tasks[task.name] = task
        return task

    @defining("job")
    def set_downstream(self, upstream: Task, downstream: Task) -> None:
        """Let `downstream` run after `upstream`. Repeating the call changes nothing.

        Args:
            upstream: Task that runs first.
            downstream: Task that runs after it.

        Raises:
            InvalidJob: One of them is not a task of this job, both are the same, or the job is
                registered already.
        """
        for task in tasks_of([upstream, downstream]):
            if task.job is not self or task.hook is not None:
                raise InvalidJob(f"job {self.name!r} has no such task: {task!r}; add it first")
        if upstream is downstream:
            raise InvalidJob(f"job {self.name!r}: task {upstream.name!r} cannot run after itself")
        self._check_open(f"task {downstream.name!r} cannot wait for {upstream.name!r}")
        if upstream.name not in downstream.after:
            downstream.after.append(upstream.name)

    def run(self, params: Mapping[str, Any] | None = None) -> "FinishedExecution":
        """Run the job once in this process, wait for its end, and store nothing.

        A failed task does not raise: check the execution's `state`.

        Args:
            params: Parameters of the execution; defaults fill in the rest.

        Returns:
            The finished execution.

        Raises:
            InvalidJob: The job cannot run, for example because it has a cycle.
            InvalidRequest: `params` are invalid.

        Examples:
            >>> from goflow import Command, Job, Task
            >>> job = Job("hello", tasks=[Task("say", Command("echo", ["hello"]))])
            >>> execution = job.run()
            >>> execution.tasks["say"].logs
            'hello\\n'
        """
        from goflow.run import run_once

        return run_once(self, params)

    # -- for the engine ------------------------------------------------------------

    @property
    def params(self) -> dict[str, Any] | None:
        """Defaults of the parameters that have one; None if any parameter is accepted."""
        return self._params.defaults

    @property
    def has_params(self) -> bool:
        """Whether the job declares parameters."""
        return bool(self._params.names)

    @cached_property
    def params_schema(self) -> dict[str, Any] | None:
        """JSON Schema of the parameters; None if any are accepted. Ask when all tasks are added.

        For parameters declared by defaults it includes the annotations of the functions that take
        them. Those annotations do not restrict what a submit may set.
        """
        hints: dict[str, Any] = {}
        for task in self._tasks.values():
            if isinstance(task.operator, FunctionOperator):
                hints |= task.operator.param_hints()
        return self._params.schema(hints)

    def find(self, name: str) -> Task | None:
        """The task or hook of that name, or None."""
        return self._tasks.get(name) or self._hooks.get(name)

    @defining("job")
    def seal(self) -> None:
        """Check the job as a whole, and refuse changes from now on. Raises `InvalidJob`."""
        if not self._tasks:
            raise InvalidJob(f"job {self.name!r} has no tasks")
        if (cycle := find_cycle({t.name: t.after for t in self.tasks})) is not None:
            path = " → ".join(repr(name) for name in reversed(cycle))
            raise InvalidJob(f"job {self.name!r}: tasks wait for each other in a cycle: {path}")
        for task in self.tasks:
            operator = task.operator
            if isinstance(operator, Asking) and operator.starts and self.name in operator.jobs():
                raise InvalidJob(f"job {self.name!r}, task {task.name!r}: the job would run itself")
            for field in task.templates:
                where = f"job {self.name!r}, task {task.name!r}"
                templates.check_results(field, task.after, where)
        self.pack()
        self.definition.keep()
        self._sealed = True

    def pack(self) -> None:
        """Pickle the operators that run in separate processes. Raises `InvalidJob`."""
        for task in [*self.tasks, *self.hooks]:
            if task.isolation is Isolation.PROCESS:
                # cloudpickle takes time to import, and most jobs do not need it.
                from goflow.operators.pickling import dump

                where = f"job {self.name!r}, task {task.name!r}"
                task.pickled = dump((task.operator, task.call), where)

    def timing_for(self, *, with_seconds: bool) -> Timing | None:
        """When the job is due, with schedules parsed with or without a field for seconds; None
        without a schedule. Raises `InvalidJob`."""
        try:
            if not self.schedules:
                find_zone(self.timezone)  # an unknown zone is a mistake without a schedule, too
                return None
            parsed = [Schedule(one, self.timezone, with_seconds) for one in self.schedules]
        except ValueError as error:
            raise InvalidJob(f"job {self.name!r}: {error}") from None
        return Timing(tuple(parsed), self.start, self.end)

    def _check_timing(self, timing: Timing | None) -> None:
        if timing is not None and timing.never_fires:
            raise InvalidJob(
                f"job {self.name!r}: its schedule never fires between start and end, "
                f"{self.start} and {self.end}"
            )

    @cached_property
    def plan(self) -> Plan:
        """The tasks and their dependencies, for the core. The job must be sealed."""
        assert self._sealed
        streams = {
            task.map_over
            for task in self._tasks.values()
            if isinstance(task.map_over, str) and self._streams(task, self._tasks[task.map_over])
        }
        return Plan(
            tuple(
                PlannedTask(
                    task.name,
                    tuple(task.after),
                    task.trigger_rule,
                    task.retries,
                    task.map_over,
                    task.max_parallel,
                    task.on_empty,
                    task.zipped,
                    branch=task.branch,
                    repeatable=isinstance(task.operator, Repeatable),
                    by_item=self._runs_by_item(task),
                    stream=task.name in streams,
                )
                for task in self._tasks.values()
            ),
            tuple(
                PlannedTask(hook.name, retries=hook.retries, hook=hook.hook)
                for hook in self._hooks.values()
            ),
        )

    def _runs_by_item(self, task: Task) -> bool:
        """Whether a task maps over a mapped task or a stream, and over it alone."""
        over = task.map_over
        if not isinstance(over, str):
            return False
        return self._tasks[over].map_over is not None or self._streams(task, self._tasks[over])

    def _streams(self, task: Task, over: Task) -> bool:
        """Whether a task that maps over another one runs on each item as soon as that is yielded.
        Its trigger rule must not depend on a failure of the other one, nor its keys on the whole
        list."""
        upstream = len(task.after)
        return (
            over.yields and task.item_key is None and is_met_by_success(task.trigger_rule, upstream)
        )

    @cached_property
    def pools(self) -> frozenset[str]:
        """The names of the pools that tasks and hooks of the job run in. The job must be
        sealed."""
        assert self._sealed
        return frozenset(task.pool for task in [*self.tasks, *self.hooks] if task.pool is not None)

    def given_params(self, given: Mapping[str, Any] | None) -> dict[str, Any]:
        """A submit's parameters as JSON, without defaults. Raises `InvalidRequest`."""
        with self._of_a_request():
            return self._params.given(self.name, given)

    def fill_params(self, given: Mapping[str, Any] | None) -> dict[str, Any]:
        """The parameters of an execution: a submit's, and defaults for the rest.

        Raises `InvalidRequest`, which names the field.
        """
        with self._of_a_request():
            filled = self._params.fill(self.name, given)
            self._params.verify(self.name, filled, given or {})
            return filled

    def doubtful_params(self, given: Mapping[str, Any] | None) -> list[Doubtful]:
        """The parameters that `fill_params` might match against a pattern for a long time."""
        with self._of_a_request():
            return self._params.doubtful(dict(given or {}))

    def refuse_slow(self, slow: Doubtful) -> InvalidParams:
        """The error for a parameter whose match takes too long."""
        why = (
            f"whether it matches the pattern {slow.pattern!r} cannot be determined in reasonable "
            "time"
        )
        return InvalidParams(
            f"job {self.name!r}: parameter {slow.place!r}: {why}",
            errors=[WrongField(f"params.{slow.place}", why)],
        )

    @contextmanager
    def _of_a_request(self) -> Iterator[None]:
        """Convert any exception of users' values and classes to an `InvalidParams`, even a
        SystemExit, which would end the event loop."""
        try:
            yield
        except InvalidRequest:
            raise
        except BaseException as error:
            raise InvalidParams(
                f"job {self.name!r}: the params: {reason(error)}",
                errors=[WrongField("params", reason(error))],
            ) from error

    def _get(self, name: object) -> Task:
        if not isinstance(name, str) or name not in self._tasks:
            raise InvalidJob(f"job {self.name!r} has no task {name!r}")
        return self._tasks[name]

    @defining("job")
    def _add_function(
        self,
        function: Callable[..., Any],
        name: str | None,
        options: dict[str, Any],
        *,
        branch: bool = False,
    ) -> Task:
        name = checks.name("task", getattr(function, "__name__", None) if name is None else name)
        where = f"job {self.name!r}, task {name!r}"
        checks.options(f"{where}: a task", options, task_options())
        operator, upstream = bind(
            function,
            tasks=self._tasks.keys(),
            params=self._params.names or (),
            where=where,
            declared=self._params.declared,
        )
        given = options.pop("after", ())
        after = [*checks.items(f"{where}: after", "names of tasks", given), *upstream]
        task = Task(name, operator, after=after, **options)
        if branch and task.map_over is not None:
            raise InvalidJob(f"{where}: a branch cannot have map_over")
        if branch and task.result is not Format.JSON:
            raise InvalidJob(
                f"{where}: a branch returns names of tasks, so result={task.result.value!r} is not "
                "for it"
            )
        task.branch = branch
        return self.add(task)

    @defining("job")
    def _add_hook_function(
        self,
        function: Callable[..., Any],
        occasion: Occasion,
        name: str | None,
        options: dict[str, Any],
    ) -> Task:
        if isinstance(function, Task):
            return self._add_hook(function, occasion)
        name = checks.name("hook", getattr(function, "__name__", None) if name is None else name)
        where = f"job {self.name!r}, hook {name!r}"
        checks.options(f"{where}: a task", options, task_options())
        operator = bind_hook(function, where)
        return self._add_hook(Task(name, operator, **options), occasion)

    @defining("job")
    def _add_hook(self, hook: Task, occasion: Occasion) -> Task:
        where = f"job {self.name!r}, hook {hook.name!r}"
        if hook.hook is not None:
            raise InvalidJob(
                f"{where} runs on {hook.hook} already; use on_finish, and look at outcome.state"
            )
        self._check_open(f"hook {hook.name!r} cannot be added")
        self._check_new(hook)
        if hook.after or hook.trigger_rule is not TriggerRule.ALL_SUCCESSFUL:
            raise InvalidJob(
                f"{where} runs after all tasks, so it takes neither after, map_over nor "
                "trigger_rule"
            )
        for field in hook.templates:
            templates.check(field, where, is_mapped=False, is_hook=True)
        if hook.timeout is None:
            hook.timeout = HOOK_TIMEOUT
        hook.hook, hook.job = occasion, self
        self._hooks[hook.name] = hook
        return hook

    def _check_state(
        self, where: str, initial: Any, middleware: Iterable[Callable[..., Any]]
    ) -> tuple[bytes, tuple[Callable[..., Any], ...]]:
        """The initial shared state as JSON, and the middleware. Raises `InvalidJob`."""
        chain = tuple(middleware)
        if self.reducer is None:
            if initial is not None or chain:
                raise InvalidJob(f"{where}: initial and middleware need state, a reducer")
            return b"null", ()
        # Few jobs have a shared state.
        from goflow.state import first_state

        if not callable(self.reducer):
            raise InvalidJob(
                f"{where}: state must be a reducer, a function of a state and an action; not "
                f"{shown(self.reducer)}"
            )
        if not all(map(callable, chain)):
            raise InvalidJob(f"{where}: middleware must be functions, not {shown(chain)}")
        try:
            return encode(first_state(self.reducer, initial)), chain
        except Unfit as error:
            told = error.path("state")
            raise InvalidJob(f"{where}: the initial state: {told}: {error.reason}") from None
        except Exception as error:
            raise InvalidJob(f"{where}: the initial state: {reason(error)}") from error

    def _check_new(self, task: Task) -> None:
        """Raise `InvalidJob` if a task's name is taken, or the task belongs to a job."""
        where = f"job {self.name!r}"
        for kind, known in (("task", self._tasks), ("hook", self._hooks)):
            if task.name in known:
                raise InvalidJob(f"{where} already has a {kind} {task.name!r}; names must differ")
        if task.job is not None:
            raise InvalidJob(f"{where}: task {task.name!r} belongs to job {task.job.name!r}")

    def _check_open(self, what: str) -> None:
        if self._sealed:
            raise InvalidJob(f"job {self.name!r} is registered already: {what}")
