"""Task: one step of a job, checked when it is defined."""

import enum
import functools
import importlib.util
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, overload

from goflow import checks
from goflow.checks import defining
from goflow.core.graph import Occasion, OnEmpty
from goflow.core.result import Format
from goflow.core.retry import ConstantDelay, RetryDelay
from goflow.core.states import TriggerRule
from goflow.errors import InvalidJob
from goflow.job.mapping import MapOver, Zipped, mapped_over
from goflow.operators.base import Call, Operator, inspect_operator
from goflow.operators.function import FunctionOperator, bind_hook
from goflow.shown import shown
from goflow.templates.condition import Condition
from goflow.templates.fields import Field, templates_of
from goflow.templates.template import TEXT_LIMIT, Template

if TYPE_CHECKING:
    from goflow.job.job import Job

LARGEST_PRIORITY = 1_000_000
HOOK_TIMEOUT = 60.0  # seconds, for each attempt of a hook that sets none


class Isolation(enum.StrEnum):
    """Where a task's operator runs."""

    THREAD = "thread"  # a thread of the server, or its event loop if the operator is async
    PROCESS = "process"  # a separate Python process


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
        map_over: Name of an upstream task that returns a list; this task runs once for each of its
            items, and its result is the list of their results. A dict is mapped as [key, value]
            pairs. A list of names maps over all combinations of their items, and
            `zipped("a", "b")` over pairs of items at the same place. Over a mapped task it runs
            item by item: an item may start once the same item of that task has ended.
        max_parallel: Items that run at once; None for no limit of its own.
        on_empty: State of a mapped task without items: "success", with `[]`, or "skip".
        item_key: Template of a key for each item of a mapped task, such as `"{{ item.name }}"`,
            rendered before any item runs. Keys must differ, and are shown to everybody who sees
            the execution.
        when: Condition of the task: an expression with the names and filters of templates, such as
            `"params.full and results.extract.rows > 0"`. If it is false, the attempt skips the
            task before the operator starts. None for no condition.
        result: How the result is kept: "json"; "pickle" for any object; or "arrow" for data frames
            of pandas and polars, and for tables of pyarrow. Not for a mapped task.
        on_retry: Function of one `Outcome` or of nothing, called after each failed attempt that
            will be followed by another one, which waits for its end, for up to 60 seconds. It is
            told the error, and changes nothing.
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
        map_over: MapOver | None = None,
        max_parallel: int | None = None,
        on_empty: OnEmpty | str = OnEmpty.SUCCESS,
        item_key: Template | str | None = None,
        when: str | None = None,
        result: Format | str = Format.JSON,
        on_retry: Callable[..., Any] | None = None,
    ) -> None:
        self.name = checks.name("task", name)
        where = f"task {self.name!r}"
        self.operator = operator
        self.call: Call = inspect_operator(operator, where)
        self.retries = checks.count(f"{where}: retries", retries, 0, checks.COUNT_LIMIT)
        if retry_delay is not None and not callable(getattr(retry_delay, "delay", None)):
            raise InvalidJob(
                f"{where}: retry_delay must have a method delay(attempt), as "
                f"ConstantDelay(seconds) has; not {shown(retry_delay)}"
            )
        self.retry_delay: RetryDelay = ConstantDelay(0) if retry_delay is None else retry_delay
        self.trigger_rule = checks.choice(f"{where}: trigger_rule", TriggerRule, trigger_rule)
        # A name that is given twice counts once.
        self.after = list(dict.fromkeys(checks.texts(f"{where}: after", "names of tasks", after)))
        self._map(where, map_over, max_parallel, on_empty)
        self.item_key = _item_key(where, item_key)
        if item_key is not None and self.map_over is None:
            raise InvalidJob(f"{where}: item_key is for tasks with map_over")
        self.timeout = None if timeout is None else checks.seconds(f"{where}: timeout", timeout)
        self.pool = None if pool is None else checks.name("pool", pool)
        self.priority = checks.number(
            f"{where}: priority", priority, -LARGEST_PRIORITY, LARGEST_PRIORITY
        )
        self.isolation = checks.choice(
            f"{where}: isolation", Isolation, Isolation.THREAD if isolation is None else isolation
        )
        self.result = _format(where, result, is_mapped=self.map_over is not None)
        self.templates: tuple[Field, ...] = templates_of(operator)
        self.when = None if when is None else _condition(f"{where}: when", when)
        if self.when is not None:
            self.templates += (Field("when", self.when, self.when.text),)
        self.takes_values = self.call.takes_context or self.when is not None
        self.branch = False  # whether its result chooses tasks; see `Job.branch`
        self.on_retry: FunctionOperator | None = None
        if on_retry is not None:
            self.on_retry = bind_hook(on_retry, f"{where}: on_retry")
        self.pickled = b""  # the operator, for a separate process
        self.hook: Occasion | None = None  # when it runs, if it is a hook
        self.job: Job | None = None

    def _map(
        self,
        where: str,
        map_over: MapOver | None,
        max_parallel: int | None,
        on_empty: OnEmpty | str,
    ) -> None:
        self.map_over: str | tuple[str, ...] | None = None
        self.lists: tuple[str, ...] = ()  # the tasks in `map_over`
        self.zipped = isinstance(map_over, Zipped)
        self.max_parallel = max_parallel
        self.on_empty = checks.choice(f"{where}: on_empty", OnEmpty, on_empty)
        if map_over is not None:
            self.lists = names = tuple(mapped_over(where, map_over))
            self.map_over = names[0] if isinstance(map_over, str) else names
            self.after += [name for name in names if name not in self.after]
        elif max_parallel is not None or self.on_empty is not OnEmpty.SUCCESS:
            raise InvalidJob(f"{where}: max_parallel and on_empty are for tasks with map_over")
        if max_parallel is not None:
            self.max_parallel = checks.count(
                f"{where}: max_parallel", max_parallel, 1, checks.COUNT_LIMIT
            )

    @property
    def yields(self) -> bool:
        """Whether it is a generator whose items can be passed on while it runs."""
        return (
            isinstance(self.operator, FunctionOperator)
            and self.operator.yields
            and self.isolation is Isolation.THREAD
            and self.result is Format.JSON
            and self.map_over is None
            and not self.branch
        )

    def __repr__(self) -> str:
        return f"Task({self.name!r}, {shown(self.operator)})"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function that `@job.task` decorated, as a plain function.

        Args:
            *args: Positional arguments of the function.
            **kwargs: Keyword arguments of the function.

        Raises:
            TypeError: The task has no function.
        """
        if not isinstance(self.operator, FunctionOperator):
            raise TypeError(f"{self!r} has no function to call")
        return self.operator.function(*args, **kwargs)

    @overload
    def __rshift__(self, downstream: "Task") -> "Task": ...
    @overload
    def __rshift__(self, downstream: "Sequence[Task]") -> "Sequence[Task]": ...
    def __rshift__(self, downstream: "Task | Sequence[Task]") -> "Task | Sequence[Task]":
        """`a >> b` and `a >> [b, c]`: `b` and `c` run after `a`. Returns the right side."""
        for task in tasks_of(downstream):
            _connect(self, task)
        return downstream

    def __lshift__(self, upstream: "Task | Sequence[Task]") -> "Task | Sequence[Task]":
        """`b << a` and `c << [a, b]`: the left task runs after those on the right."""
        for task in tasks_of(upstream):
            _connect(task, self)
        return upstream

    def __rrshift__(self, upstream: "Sequence[Task]") -> "Task":
        """`[a, b] >> c`: c runs after a and b."""
        for task in tasks_of(upstream):
            _connect(task, self)
        return self

    def __rlshift__(self, downstream: "Sequence[Task]") -> "Task":
        """`[b, c] << a`: b and c run after a."""
        for task in tasks_of(downstream):
            _connect(self, task)
        return self


def _item_key(where: str, given: object) -> Template | None:
    if given is None or isinstance(given, Template):
        return given
    if not isinstance(given, str):
        raise InvalidJob(f"{where}: item_key must be a Template or its text, not {shown(given)}")
    return Template(given)


def _condition(where: str, text: object) -> Condition:
    if not isinstance(text, str) or not text.strip():
        raise InvalidJob(f'{where} must be an expression, such as "params.full", not {shown(text)}')
    if len(text) > TEXT_LIMIT:
        raise InvalidJob(f"{where} has {len(text):,} characters, more than {TEXT_LIMIT:,}")
    return Condition(str.__str__(text))


@functools.cache
def task_options() -> frozenset[str]:
    """The names of the options of a task."""
    parameters = inspect.signature(Task).parameters.values()
    return frozenset(one.name for one in parameters if one.kind is one.KEYWORD_ONLY)


def _format(where: str, given: Format | str, *, is_mapped: bool) -> Format:
    found = checks.choice(f"{where}: result", Format, given)
    if found is not Format.JSON and is_mapped:
        raise InvalidJob(
            f"{where}: the result of a mapped task is a list as JSON, so result={found.value!r} is "
            "not for it; let its items return where their data is"
        )
    if found is Format.ARROW and importlib.util.find_spec("pyarrow") is None:
        raise InvalidJob(f'{where}: result="arrow" needs pyarrow: pip install "goflow[arrow]"')
    return found


def tasks_of(given: object) -> list[Task]:
    """The tasks of one side of `>>`: a task or a list of tasks. Raises `InvalidJob`."""
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
