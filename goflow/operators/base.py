"""The contract of operators, and the context of an attempt.

An operator is any object with a method `run`, sync or async, that takes nothing or one `Context`.
Its return value is the task's result and is kept as JSON. An exception fails the attempt;
`goflow.errors.TaskFailed` does so without a traceback.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any, ClassVar, NamedTuple, Protocol, TypeGuard

import msgspec

from goflow.core.keys import key_of
from goflow.core.states import State
from goflow.errors import InvalidJob, TaskFailed
from goflow.operators.meter import Meter
from goflow.operators.outcome import Outcome
from goflow.shown import shown


class Log(Protocol):
    """The log of one attempt. A call with a text writes the text as a line."""

    def __call__(self, message: object, /) -> None: ...

    def write(self, text: str, /) -> int:
        """Append text unchanged, without a line end. Safe from any thread."""
        ...

    def flush(self) -> None:
        """Write an unfinished line that is buffered in this process."""
        ...

    async def drain(self) -> None:
        """Wait until the log can accept more without a cut. Only on the event loop."""
        ...

    def debug(self, message: object, *args: object) -> None: ...
    def info(self, message: object, *args: object) -> None: ...
    def warning(self, message: object, *args: object) -> None: ...
    def error(self, message: object, *args: object) -> None: ...
    def exception(self, message: object, *args: object) -> None: ...


class Shared(Protocol):
    """The shared state, as one attempt has it."""

    def state(self) -> Any:
        """A copy of the current state."""
        ...

    def dispatch(self, action: Any) -> Awaitable[None]:
        """Change it. Blocks until that is done, except on the engine's event loop."""
        ...


class Yields(Protocol):
    """Takes what a generator yields, as JSON, while it runs."""

    def put(self, item: bytes, /) -> None:
        """Take an item. Blocks while the generator is too far ahead of the tasks that are mapped
        over it. Raises `TaskFailed`."""
        ...

    async def put_async(self, item: bytes, /) -> None:
        """As `put`, on the engine's event loop."""
        ...

    def close(self) -> None:
        """Take nothing more: `put` raises from now on, and blocks no longer."""
        ...


# Not a dataclass: a frozen one takes four times as long to create, and each attempt needs one.
class Context(msgspec.Struct, frozen=True):
    """The argument of an operator's `run(context)`: one attempt of a task.

    Attributes:
        job: Name of the job.
        task: Name of the task.
        execution_id: Id of the execution.
        attempt: Number of the attempt, from 1.
        params: Parameters of the execution, defaults included.
        results: Results of the direct upstream tasks that have one, by task name.
        scheduled_at: Due time in UTC; None if the execution was submitted by hand.
        submitted_at: Time of the submit, in UTC.
        interval_start: For a job with `interval=True`, the due time before `interval_end`; None if
            there is none.
        interval_end: For a job with `interval=True`, the due time of the execution; the last due
            time before the submit, if it was submitted by hand. None for other jobs.
        log: Writes to the attempt's log. `log(text)` writes a line, `log.info(format, *args)`
            and its like a line with a level, `log.write(text)` the text without a line end.
        process_tag: Value for the environment variable `GOFLOW_COOKIE` of processes that the
            attempt starts, by which the server finds and ends them.
        item: Item that a mapped task runs for; None for other tasks.
        index: Number of the item, from 0; None for other tasks.
        started_at: Start of the attempt, in UTC. After `Later` that is the first look.
        waited: Seconds from there to the start of this look, 0.0 in the first one.
        timezone: Time zone of the job.
        outcome: How the execution ended, for a hook; None for a task.
        objects: Names of the `results` that are no JSON.
        artifacts: Place for artifacts, used by `artifact`.
        shared: For goflow's own use.
        meter: For goflow's own use.
        stream: For goflow's own use.

    Examples:
        >>> from goflow import Context, Job
        >>> job = Job("greet", params={"name": "Ada"})
        >>> @job.task
        ... def say(context: Context):
        ...     context.log.info("attempt %d", context.attempt)
        ...     return f"Hello, {context.params['name']}!"
        >>> job.run().tasks["say"].result
        'Hello, Ada!'
    """

    job: str
    task: str
    execution_id: str
    attempt: int
    params: Mapping[str, Any]
    results: Mapping[str, Any]
    scheduled_at: datetime | None
    submitted_at: datetime
    log: Log
    process_tag: str = ""
    item: Any = None
    index: int | None = None
    started_at: datetime | None = None
    waited: float = 0.0
    timezone: str = "UTC"
    outcome: Outcome | None = None
    interval_start: datetime | None = None
    interval_end: datetime | None = None
    objects: frozenset[str] = frozenset()  # the results that are no JSON
    artifacts: Any = None
    shared: Shared | None = None
    meter: Meter | None = None
    stream: Yields | None = None

    def progress(self, done: float, total: float | None = None, text: str = "") -> None:
        """Report the progress of the attempt, for a bar in the dashboard and in the terminal. It is
        shown a few times a second and not kept, so it may be called as often as is convenient.

        Args:
            done: Number of units done, 0 or more.
            total: Number of units in all; None if it is unknown.
            text: Text beside the bar, of which the first 300 characters are shown.

        Raises:
            ValueError: A number is negative, too large or no number, or the text is no str.
        """
        meter = _unheard() if self.meter is None else self.meter
        meter.progress(done, total, text)

    def count(self, name: str, n: float = 1) -> None:
        """Add to one of the attempt's counts, such as the rows it loaded. goflow keeps the sums of
        each attempt, and sums those of successful attempts up per task, execution and day.

        Args:
            name: Name of the count, of 1 to 64 printable characters. An attempt may have 32 names.
            n: Finite number to add; it may be negative.

        Raises:
            ValueError: A name or a number is invalid, or there are too many names.
        """
        meter = _unheard() if self.meter is None else self.meter
        meter.count(name, n)

    def artifact(self, name: str) -> Path:
        """The path at which the attempt makes a file. If it succeeds, goflow keeps the file.

        Args:
            name: Name of the file, such as "report.csv".

        Returns:
            A path in a folder of the attempt's own.

        Raises:
            ValueError: The name is not that of a file in a folder.
        """
        if self.artifacts is None:
            raise RuntimeError("there is no place for artifacts")
        key = key_of(self.task, self.index)
        path: Path = self.artifacts.file(self.execution_id, key, self.attempt, name)
        return path

    @property
    def state(self) -> Any:
        """A copy of the execution's shared state, with all actions that were kept so far."""
        return self._shared().state()

    def dispatch(self, action: Any) -> Awaitable[None]:
        """Change the shared state by an action. Returns when the action is on disk; in async code
        it has to be awaited for that.

        Args:
            action: Value for the reducer, of JSON's types; usually a dict with a `type`.

        Returns:
            An awaitable, for async code.

        Raises:
            TaskFailed: The reducer raised, changed the state it was given, or returned no JSON;
                there are too many actions, or they are too large. The state stays as it was.
        """
        return self._shared().dispatch(action)

    def _shared(self) -> Shared:
        if self.shared is None:
            raise TaskFailed(f"job {self.job!r} has no shared state: it needs Job(state=reducer)")
        return self.shared


def _unheard() -> Meter:
    """The meter of a context that somebody made for a test."""
    return Meter(lambda meter: None, float)


class FoundExecution(NamedTuple):
    """An execution of some job; `finished` is the time of its end, if it has ended."""

    id: str
    state: State
    finished: datetime | None


class Executions(Protocol):
    """The engine's executions, of all jobs, as committed."""

    def knows(self, job: str) -> bool:
        """Whether a job of that name is registered."""
        ...

    def watch(self, job: str, context: Context) -> None:
        """Let this attempt look again as soon as an execution of a job has ended, from now on and
        once."""
        ...

    async def due(self, job: str, due: datetime) -> FoundExecution | str:
        """The execution of a job for a due time; why there is none, human-readable."""
        ...

    async def newest(self, job: str, state: State | None = None) -> FoundExecution | None:
        """The newest execution of a job, or the newest one in that state."""
        ...

    async def start(self, job: str, params: Mapping[str, Any], context: Context) -> FoundExecution:
        """The execution of a job that this attempt has started, however often it asks. Raises
        `TaskFailed`, and `Later` if none can start now."""
        ...

    async def results(self, execution: FoundExecution) -> dict[str, Any]:
        """The results of the successful tasks of an execution, by name."""
        ...


class Repeatable:
    """Base class of operators that run again after an interruption, even if their tasks have no
    retries."""


class Asking(Repeatable):
    """Base class of operators that ask for executions of other jobs. They run on the engine's
    event loop, by `ask` instead of `run`. An interrupted one asks again, so asking twice must do
    the same as asking once. One that `starts` executions is not in the job that it starts."""

    starts: ClassVar[bool] = False

    async def run(self, context: Context) -> Any:
        raise TaskFailed(
            f"{type(self).__name__} runs in the server's process; do without isolation=", final=True
        )

    async def ask(self, context: Context, executions: Executions) -> Any:
        """As `run`, with the executions of all jobs."""
        raise NotImplementedError

    def jobs(self) -> Iterable[str]:
        """The jobs that must be registered when the server starts."""
        return ()


class Operator(Protocol):
    """Any object with `run`, which may take a `Context` or nothing, and may be async."""

    @property
    def run(self) -> Callable[..., Any]: ...


class Confined:
    """Marks operators that change no settings of the process that they run in."""


class Call(NamedTuple):
    """How to call an operator's `run`, determined once, when the task is written."""

    takes_context: bool
    is_async: bool


def inspect_operator(operator: object, where: str) -> Call:
    """Check an operator; `where` names the task in the error. Raises `InvalidJob`."""
    run = getattr(operator, "run", None)
    if isinstance(operator, type) or not callable(run):
        raise InvalidJob(
            f"{where}: {shown(operator)} is not an operator; "
            f"it needs a method run() or run(context)"
        )
    call = _call_of_method(run.__func__) if _is_method(run) else call_of(run)
    if call is None:
        raise InvalidJob(
            f"{where}: run{inspect.signature(run)} of {shown(operator)} must take nothing "
            f"or one context"
        )
    return call


def _is_method(run: object) -> TypeGuard[MethodType]:
    return isinstance(run, MethodType) and isinstance(run.__func__, FunctionType)


# Cached, because many tasks have operators of the same few classes.
@lru_cache(maxsize=1024)
def _call_of_method(function: FunctionType) -> Call | None:
    return call_of(MethodType(function, object()))


def call_of(run: Callable[..., Any]) -> Call | None:
    """How to call this function; None if it requires other arguments."""
    is_async = inspect.iscoroutinefunction(run)
    try:
        parameters = inspect.signature(run).parameters.values()
    except (TypeError, ValueError):  # a builtin without a readable signature
        return Call(takes_context=False, is_async=is_async)
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in positional if p.default is p.empty]
    named = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if len(required) > 1 or named:
        return None
    takes_context = bool(required) or any(
        p.name == "context" or _is_context(p.annotation) for p in positional[:1]
    )
    return Call(takes_context=takes_context, is_async=is_async)


def _is_context(annotation: object) -> bool:
    # By identity, since an annotation may be any object with any __eq__.
    return annotation is Context or (type(annotation) is str and annotation == "Context")
