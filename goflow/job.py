"""Job and Task: what a user writes, checked when it is written.

Every mistake raises `InvalidJob` at the line that makes it, except what only the whole
job can show (a cycle, no tasks) or only the engine knows (whether cron has seconds):
that is checked when the job is registered or run, never while it runs.
"""

import enum
import math
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar, overload

from goflow.core.catchup import CatchUp, Overlap, Policy
from goflow.core.graph import Plan, PlannedTask, find_cycle
from goflow.core.retry import CENTURY, ConstantDelay, RetryDelay
from goflow.core.schedule import Schedule
from goflow.core.states import TriggerRule
from goflow.defining import defining
from goflow.definition import Definition
from goflow.errors import InvalidJob, InvalidRequest
from goflow.operators.base import Call, Operator, inspect_operator
from goflow.operators.function import FunctionOperator, bind
from goflow.params import declare
from goflow.patterns import Doubtful
from goflow.shown import reason, shown

if TYPE_CHECKING:
    from goflow.run import FinishedExecution

Choice = TypeVar("Choice", bound=enum.StrEnum)

NAME_LIMIT = 250  # characters
LIST_LIMIT = 1_000_000  # of anything: an iterable may have no end


def check_name(kind: str, name: object) -> str:
    """The name, if it can name a job or a task; raises `InvalidJob` if not."""
    if not isinstance(name, str):
        raise InvalidJob(f"a {kind}'s name must be a string, not {shown(name)}")
    name = str.__str__(name)  # not a subclass, which may do anything, and JSON may not know
    if not 1 <= len(name) <= NAME_LIMIT:
        start = name if len(name) <= 40 else f"{name[:40]}…"
        raise InvalidJob(
            f"{kind} name {start!r} has {len(name)} characters; it must have 1 to {NAME_LIMIT}"
        )
    if not name.isprintable() and any(unicodedata.category(one) in ("Cc", "Cs") for one in name):
        raise InvalidJob(f"{kind} name {name!r} has a control character or half a surrogate pair")
    if name in (".", ".."):
        raise InvalidJob(f"{kind} name {name!r} cannot be part of a web address; choose another")
    return name


def _check_seconds(where: str, name: str, value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidJob(f"{where}: {name} must be a number of seconds, not {shown(value)}")
    if not math.isfinite(value) or value <= 0:
        raise InvalidJob(f"{where}: {name} must be above 0 seconds and finite, not {shown(value)}")
    return float.__float__(float(value))


def _check_choice(where: str, name: str, choices: type[Choice], value: Any) -> Choice:
    try:
        return choices(value)
    except (ValueError, TypeError):
        known = ", ".join(choices)
        raise InvalidJob(f"{where}: {name} must be one of {known}; not {shown(value)}") from None


def _check_count(where: str, name: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 1_000_000:
        raise InvalidJob(
            f"{where}: {name} must be a whole number from {least} to 1000000, not {shown(value)}"
        )
    return int.__int__(value)


def _listed(where: str, name: str, of: str, given: Any) -> list[Any]:
    """What an option lists. One text is not a list of its letters."""
    if not isinstance(given, str | bytes):
        try:
            listed = list(islice(given, LIST_LIMIT + 1))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # of an iterable of the user's, or since it is none
            raise InvalidJob(
                f"{where}: {name} must be a list of {of}, not {shown(given)}: {reason(error)}"
            ) from None
        if len(listed) > LIST_LIMIT:
            raise InvalidJob(f"{where}: {name} must list at most {LIST_LIMIT} {of}")
        return listed
    told = f"not the text {shown(given)}"
    raise InvalidJob(f"{where}: {name} must be a list of {of}, {told}")


class Isolation(enum.StrEnum):
    """Where a task's operator runs."""

    THREAD = "thread"  # in a thread of the server's; an async one on its event loop
    PROCESS = "process"  # in a process of its own


class Task:
    """One step of a job.

    Args:
        name: Name of the task, unique in its job: 1 to 250 characters of any script, without
            control characters.
        operator: Object with a method `run()` or `run(context)`, sync or async.
        retries: Further attempts after the first one, up to 1,000,000.
        retry_delay: Object with `delay(attempt) -> seconds`; None retries at once.
        trigger_rule: A `TriggerRule` or its value.
        after: Names of upstream tasks. They must be in the job already.
        timeout: Seconds that one attempt may take; None for no limit. A sync function in a thread
            cannot be stopped: its attempt fails on time, and its thread is abandoned.
        pool: Name of a pool of `Goflow(pools={"db": 2})`, which limits how many of its tasks run
            at once, over all jobs; None for no pool.
        priority: Waiting tasks start in order of priority, the highest first. One point counts as
            much as a minute of waiting, so no task starves.
        isolation: "process" runs each attempt in a new Python process, which can be stopped and
            cannot crash the server. "thread" or None runs it in a thread of the server, or on its
            event loop if `run` is async.

    Raises:
        InvalidJob: An argument is invalid. The message names the task and the value.

    Examples:
        >>> from goflow import Command, ConstantDelay, Task
        >>> Task("load", Command("cat", ["input.txt"]), retries=5, retry_delay=ConstantDelay(60))
        Task('load', Command(cmd='cat', args=('input.txt',), cwd=None, timeout=None))
    """

    @defining("task")
    def __init__(
        self,
        name: str,
        operator: Operator,
        *,
        retries: int = 0,
        retry_delay: RetryDelay | None = None,
        trigger_rule: TriggerRule | str = TriggerRule.ALL_SUCCESSFUL,
        after: Iterable[str] = (),
        timeout: float | None = None,
        pool: str | None = None,
        priority: int = 0,
        isolation: Isolation | str | None = None,
    ) -> None:
        self.name = check_name("task", name)
        where = f"task {self.name!r}"
        self.operator = operator
        self.call: Call = inspect_operator(operator, where)
        self.retries = _check_count(where, "retries", retries, 0)
        if retry_delay is not None and not callable(getattr(retry_delay, "delay", None)):
            raise InvalidJob(
                f"{where}: retry_delay must have a method delay(attempt), as "
                f"ConstantDelay(seconds) has; not {shown(retry_delay)}"
            )
        self.retry_delay: RetryDelay = ConstantDelay(0) if retry_delay is None else retry_delay
        self.trigger_rule = _check_choice(where, "trigger_rule", TriggerRule, trigger_rule)
        self.after: list[str] = []
        for upstream in _listed(where, "after", "names of tasks", after):
            if not isinstance(upstream, str):
                raise InvalidJob(f"{where}: after must hold names of tasks, not {shown(upstream)}")
            if upstream not in self.after:
                self.after.append(upstream)
        self.timeout = _check_seconds(where, "timeout", timeout)
        self.pool = None if pool is None else check_name("pool", pool)
        if isinstance(priority, bool) or not isinstance(priority, int | float):
            raise InvalidJob(f"{where}: priority must be a number, not {shown(priority)}")
        if not -1e6 <= priority <= 1e6:
            raise InvalidJob(f"{where}: priority must be within a million, not {shown(priority)}")
        self.priority = float.__float__(priority) if isinstance(priority, float) else int(priority)
        self.isolation = _check_choice(
            where, "isolation", Isolation, Isolation.THREAD if isolation is None else isolation
        )
        self.pickled = b""  # the operator, for a process of its own
        self.job: Job | None = None

    def __repr__(self) -> str:
        return f"Task({self.name!r}, {shown(self.operator)})"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function that `@job.task` made this task of, as a plain function.

        Args:
            *args: Positional arguments of the function.
            **kwargs: Keyword arguments of the function.

        Raises:
            TypeError: The task was not made of a function.
        """
        if not isinstance(self.operator, FunctionOperator):
            raise TypeError(f"{self!r} was not made of a function")
        return self.operator.function(*args, **kwargs)

    @overload
    def __rshift__(self, downstream: "Task") -> "Task": ...
    @overload
    def __rshift__(self, downstream: "Sequence[Task]") -> "Sequence[Task]": ...
    def __rshift__(self, downstream: "Task | Sequence[Task]") -> "Task | Sequence[Task]":
        """`a >> b` and `a >> [b, c]`: `b` and `c` run after `a`. Returns the right side."""
        for task in _tasks(downstream):
            _connect(self, task)
        return downstream

    def __lshift__(self, upstream: "Task | Sequence[Task]") -> "Task | Sequence[Task]":
        """`b << a` and `c << [a, b]`: the left task runs after those on the right."""
        for task in _tasks(upstream):
            _connect(task, self)
        return upstream

    def __rrshift__(self, upstream: "Sequence[Task]") -> "Task":
        """`[a, b] >> c`: c runs after a and b."""
        for task in _tasks(upstream):
            _connect(task, self)
        return self

    def __rlshift__(self, downstream: "Sequence[Task]") -> "Task":
        """`[b, c] << a`: b and c run after a."""
        for task in _tasks(downstream):
            _connect(self, task)
        return self


def _tasks(given: object) -> list[Task]:
    tasks: list[Task] = []
    for task in given if isinstance(given, list | tuple) else [given]:
        if not isinstance(task, Task):
            raise InvalidJob(f"only tasks can be connected, not {shown(task)}")
        tasks.append(task)
    return tasks


def _connect(upstream: Task, downstream: Task) -> None:
    job = upstream.job or downstream.job
    if job is None:
        raise InvalidJob(f"{upstream!r} and {downstream!r} must be added to a job first")
    job.set_downstream(upstream, downstream)


@dataclass(frozen=True)
class _TaskAccess:
    """What `job.task` is: a getter by name and a decorator for functions."""

    job: "Job"

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
    ) -> Callable[[Callable[..., Any]], Task]: ...
    def __call__(self, given: Any = None, /, *, name: str | None = None, **options: Any) -> Any:
        if callable(given):
            return self.job._add_function(given, name, options)
        if given is None:
            return lambda function: self.job._add_function(function, name, options)
        return self.job._get(given)


class Job:
    """A named graph of tasks and its schedule.

    Args:
        name: Name of the job, unique in its server: 1 to 250 characters of any script, without
            control characters.
        schedule: Cron expression or descriptor such as `@daily`; see `Schedule`. None for a job
            that runs only when submitted.
        active: Whether the schedule is on at first. Once a user has switched it, that switch is
            kept and overrides this value.
        timezone: IANA zone of the schedule, unless the schedule names one.
        tasks: Tasks to add.
        params: Parameters that a submit may set. A dict gives their defaults, and a value must
            have its default's JSON type; a default of None takes any value. A `msgspec.Struct`,
            dataclass or TypedDict class gives them as annotated fields. None takes any JSON object
            unchecked.
        description: Text that the API and the dashboard show.
        tags: Words that the API and the dashboard show.
        overlap: What a new execution does while an earlier one is unfinished: "allow" runs
            beside it, "skip" is not created, "queue" waits for it, "replace" cancels it.
        max_queued: Executions that wait at most with `overlap="queue"`.
        catchup: Which missed due times still fire: "latest", "all" or "none".
        catchup_window: Seconds after which a missed due time is too old to fire, up to a century.
        catchup_limit: Due times that fire at most with `catchup="all"`, the newest ones.
        timeout: Seconds that an execution may take from the start of its first attempt; None for
            no limit. It is cancelled then, and its state is `failed`.
        max_running: Tasks of the job that run at once, over all its executions; None for no limit
            of its own.

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
        schedule: str | None = None,
        active: bool = False,
        *,
        timezone: str = "UTC",
        tasks: Iterable[Task] = (),
        params: Mapping[str, Any] | type | None = None,
        description: str = "",
        tags: Iterable[str] = (),
        overlap: Overlap | str = Overlap.ALLOW,
        max_queued: int = 10,
        catchup: CatchUp | str = CatchUp.LATEST,
        catchup_window: float = 3600,
        catchup_limit: int = 100,
        timeout: float | None = None,
        max_running: int | None = None,
    ) -> None:
        self.definition = Definition.of_caller(self)
        self.name = check_name("job", name)
        self.schedule = str.__str__(schedule) if isinstance(schedule, str) else schedule
        self.timezone = str.__str__(timezone) if isinstance(timezone, str) else timezone
        self.active = active
        where = f"job {self.name!r}"
        if not isinstance(active, bool):
            raise InvalidJob(f"{where}: active must be True or False, not {shown(active)}")
        # Whether seconds are allowed is for the engine to say: here the widest reading.
        self.schedule_for(with_seconds=True)
        self._params = declare(where, params)
        if schedule is not None and (required := self._params.required):
            raise InvalidJob(
                f"{where}: its schedule runs it with the defaults, but parameters "
                f"{', '.join(map(repr, required))} have none"
            )
        if not isinstance(description, str):
            raise InvalidJob(f"{where}: description must be a text, not {shown(description)}")
        self.description = description
        tags = _listed(where, "tags", "texts", tags)
        if not all(isinstance(tag, str) for tag in tags):
            raise InvalidJob(f"{where}: tags must be a list of texts, not {tags!r}")
        self.tags = tuple(tags)
        self.overlap = _check_choice(where, "overlap", Overlap, overlap)
        self.max_queued = _check_count(where, "max_queued", max_queued, 0)
        window = _check_seconds(where, "catchup_window", catchup_window)
        if window is None or window > CENTURY:
            raise InvalidJob(
                f"{where}: catchup_window must be seconds within a century, not {catchup_window!r}"
            )
        self.catchup = Policy(
            _check_choice(where, "catchup", CatchUp, catchup),
            timedelta(seconds=window),
            _check_count(where, "catchup_limit", catchup_limit, 1),
        )
        self.timeout = _check_seconds(where, "timeout", timeout)
        # Not subclasses of str, which JSON may not know.
        self.description = str.__str__(self.description)
        self.tags = tuple(map(str.__str__, self.tags))
        self.max_running = (
            None if max_running is None else _check_count(where, "max_running", max_running, 1)
        )
        self._tasks: dict[str, Task] = {}
        self._sealed = False
        for task in _listed(where, "tasks", "tasks", tasks):
            self.add(task)

    def __repr__(self) -> str:
        return f"Job({self.name!r}, {self.schedule!r})"

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
        value. A parameter annotated `Context`, or named `context`, receives the context.

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

    @defining("job")
    def add(self, task: Task) -> Task:
        """Add a task and return it.

        Raises:
            InvalidJob: The job has a task of that name, is registered already, or lacks a task
                that the new one runs after.
        """
        where = f"job {self.name!r}"
        if not isinstance(task, Task):
            raise InvalidJob(f"{where}: only a Task can be added, not {shown(task)}")
        self._check_open(f"task {task.name!r} cannot be added")
        if task.name in self._tasks:
            raise InvalidJob(f"{where} already has a task {task.name!r}; names must differ")
        if task.job is not None:
            raise InvalidJob(f"{where}: task {task.name!r} belongs to job {task.job.name!r}")
        for upstream in task.after:
            if upstream == task.name:
                raise InvalidJob(f"{where}: task {task.name!r} cannot run after itself")
            if upstream not in self._tasks:
                raise InvalidJob(
                    f"{where}: task {task.name!r} is to run after {upstream!r}, "
                    f"which is not in the job; add that one first"
                )
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
        for task in _tasks([upstream, downstream]):
            if task.job is not self:
                raise InvalidJob(f"job {self.name!r} has no such task: {task!r}; add it first")
        if upstream is downstream:
            raise InvalidJob(f"job {self.name!r}: task {upstream.name!r} cannot run after itself")
        self._check_open(f"task {downstream.name!r} cannot wait for {upstream.name!r}")
        if upstream.name not in downstream.after:
            downstream.after.append(upstream.name)

    def run(self, params: Mapping[str, Any] | None = None) -> "FinishedExecution":
        """Run the job once in this process, wait for its end, and keep nothing.

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

    # -- what the engine asks ------------------------------------------------------

    @property
    def params(self) -> dict[str, Any] | None:
        """The defaults of the parameters that have one; None if any are taken."""
        return self._params.defaults

    @property
    def has_params(self) -> bool:
        """Whether there are parameters that a submit is known to be able to set."""
        return bool(self._params.names)

    @cached_property
    def params_schema(self) -> dict[str, Any] | None:
        """The JSON Schema of the params, None if any are taken; for a job with all its tasks.

        Where the parameters are given by defaults, it says what functions that take them say
        in their annotations, too; what a submit may set is not narrowed by that.
        """
        hints: dict[str, Any] = {}
        for task in self._tasks.values():
            if isinstance(task.operator, FunctionOperator):
                hints |= task.operator.param_hints()
        return self._params.schema(hints)

    def find(self, name: str) -> Task | None:
        """The task of that name, or None."""
        return self._tasks.get(name)

    @defining("job")
    def seal(self) -> None:
        """Check what only the whole job can show, and take no more changes."""
        if not self._tasks:
            raise InvalidJob(f"job {self.name!r} has no tasks")
        if (cycle := find_cycle({t.name: t.after for t in self.tasks})) is not None:
            path = " → ".join(repr(name) for name in reversed(cycle))
            raise InvalidJob(f"job {self.name!r}: tasks wait for each other in a circle: {path}")
        self.pack()
        self.definition.keep()
        self._sealed = True

    def pack(self) -> None:
        """Make ready what is sent to processes, as it is now. Raises `InvalidJob`."""
        for task in self.tasks:
            if task.isolation is Isolation.PROCESS:
                # cloudpickle takes time to import, and most jobs do not need it.
                from goflow.operators.pickling import dump

                where = f"job {self.name!r}, task {task.name!r}"
                task.pickled = dump((task.operator, task.call), where)

    def schedule_for(self, *, with_seconds: bool) -> Schedule | None:
        """The schedule as an engine with or without seconds in cron reads it."""
        try:
            if self.schedule is None:
                Schedule("@daily", self.timezone)  # a wrong zone is a mistake all the same
                return None
            return Schedule(self.schedule, self.timezone, with_seconds)
        except InvalidJob as error:
            raise InvalidJob(f"job {self.name!r}: {error}") from None

    @cached_property
    def plan(self) -> Plan:
        """The job's shape, for the core; the job must be sealed."""
        assert self._sealed
        return Plan(
            tuple(
                PlannedTask(task.name, tuple(task.after), task.trigger_rule, task.retries)
                for task in self._tasks.values()
            )
        )

    def given_params(self, given: Mapping[str, Any] | None) -> dict[str, Any]:
        """What a submit gives, as JSON and no more. Raises `InvalidRequest`."""
        with self._of_a_request():
            return self._params.given(self.name, given)

    def fill_params(self, given: Mapping[str, Any] | None) -> dict[str, Any]:
        """What an execution has that is submitted with `given`, defaults filled in. Raises
        `InvalidRequest` naming the field."""
        with self._of_a_request():
            filled = self._params.fill(self.name, given)
            self._params.verify(self.name, filled, given or {})
            return filled

    def doubtful_params(self, given: Mapping[str, Any] | None) -> list[Doubtful]:
        """What of the params `fill_params` may take long to match against a pattern."""
        with self._of_a_request():
            return self._params.doubtful(dict(given or {}))

    def refuse_slow(self, slow: Doubtful) -> InvalidRequest:
        """The refusal of a param that takes too long to be matched."""
        return InvalidRequest(
            f"job {self.name!r}: parameter {slow.place!r}: whether it matches the pattern "
            f"{slow.pattern!r} cannot be found out in reasonable time",
            code="invalid-params",
            field=f"params.{slow.place}",
        )

    @contextmanager
    def _of_a_request(self) -> Iterator[None]:
        """What users' values and classes raise in here is at fault with the request, be it a
        SystemExit, which would end the event loop."""
        try:
            yield
        except InvalidRequest:
            raise
        except BaseException as error:
            raise InvalidRequest(
                f"job {self.name!r}: the params: {reason(error)}",
                code="invalid-params",
                field="params",
            ) from error

    def _get(self, name: object) -> Task:
        if not isinstance(name, str) or name not in self._tasks:
            raise InvalidJob(f"job {self.name!r} has no task {name!r}")
        return self._tasks[name]

    @defining("job")
    def _add_function(
        self, function: Callable[..., Any], name: str | None, options: dict[str, Any]
    ) -> Task:
        name = check_name("task", getattr(function, "__name__", None) if name is None else name)
        where = f"job {self.name!r}, task {name!r}"
        operator, upstream = bind(
            function, tasks=self._tasks.keys(), params=self._params.names or (), where=where
        )
        after = [*_listed(where, "after", "names of tasks", options.pop("after", ())), *upstream]
        return self.add(Task(name, operator, after=after, **options))

    def _check_open(self, what: str) -> None:
        if self._sealed:
            raise InvalidJob(f"job {self.name!r} is registered already: {what}")
