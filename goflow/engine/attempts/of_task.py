"""An attempt at a task or item of an execution: its values, its log and its context.

The rule that must not be broken: the execution is told one outcome of it, whatever happens here.
"""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from goflow.core.execution import Failed, Outcome, Postponed, Succeeded
from goflow.core.keys import Item, Key, described, item_of
from goflow.core.result import StoredResult
from goflow.engine.attempts.attempt import OUTCOMES, Attempt
from goflow.engine.attempts.hooks import outcome_of
from goflow.engine.attempts.shared import OfAttempt
from goflow.engine.attempts.streams import Stream
from goflow.engine.executors.base import Again, Executor, Run, Work
from goflow.engine.executors.conditional import Conditional
from goflow.engine.executors.outcomes import failed
from goflow.engine.executors.streaming import Streaming
from goflow.engine.output.tasklog import Chunk, TaskLog
from goflow.errors import ResultLost, TaskFailed
from goflow.job import Isolation, Task
from goflow.operators.base import Context
from goflow.operators.meter import Meter

if TYPE_CHECKING:
    from goflow.engine.attempts.under_way import Attempts

_NO_NAMES: frozenset[str] = frozenset()


class Ended(msgspec.Struct, frozen=True):
    """An attempt that has ended, or a mapped task. The `rest` of its log is not stored yet."""

    key: Key
    outcome: Outcome
    number: int = 0
    log: TaskLog | None = None

    @property
    def rest(self) -> Sequence[Chunk]:
        return () if self.log is None else self.log.rest


class Found(NamedTuple):
    """An attempt that an earlier server started and that still runs. `lines` and `unfinished` are
    the whole lines of its log and the beginning of another one."""

    run: Run
    lines: int
    unfinished: str


class Values(msgspec.Struct):
    """What an attempt is given besides its log. Each gets its own copy, and may change it."""

    params: dict[str, Any] = {}
    results: dict[str, Any] = {}
    objects: Mapping[str, StoredResult] = {}
    item: Any = None
    outcome: Any = None  # of the execution, for a hook


class TaskAttempt(Attempt):
    """An attempt of the execution whose `attempts` these are. `upstream` has the results of its
    upstream tasks. One that was `found` running goes on."""

    context: Context
    running: "asyncio.Task[None]"
    _shared: OfAttempt | None = None
    _stream: Stream | None = None  # of a generator
    _overdue: asyncio.TimerHandle | None = None  # abandons it

    def __init__(
        self,
        attempts: "Attempts",
        task: Task,
        key: Key,
        number: int,
        upstream: Mapping[str, msgspec.Raw | StoredResult],
        found: Found | None = None,
    ) -> None:
        super().__init__(task.timeout, attempts.dependencies.end_orphans)
        self._attempts = attempts
        self._task = task
        self._key = key
        self._number = number
        self._upstream = upstream
        self._found = found

    def begin(self) -> "asyncio.Task[None]":
        """Run it in an asyncio task of its own."""
        self.running = asyncio.get_running_loop().create_task(self._run_to_its_end())
        return self.running

    async def _run_to_its_end(self) -> None:
        attempts, key = self._attempts, self._key
        try:
            ended = await self._attempt()
        except Exception as error:  # a defect: operators raise nothing here
            execution = attempts.execution
            where = f"{described(key)}, execution {execution.id} of job {execution.job!r}"
            attempts.dependencies.on_defect(f"an attempt of {where}", error)
            ended = Ended(key, failed(error))
        if self._stream is not None:
            attempts.end_stream(self._stream)
        # Not in a callback of the asyncio task, which would run one turn of the loop later.
        if not attempts.done(self.running, ended):
            await attempts.store_rest(ended)

    async def _attempt(self) -> Ended:
        task, key, number = self._task, self._key, self._number
        execution, given = self._attempts.execution, self._attempts.dependencies
        if self._found is None and (stream := self._attempts.stream_of(key, number)) is not None:
            self._stream = stream
            executor: Executor = Streaming(given.executors.of_stream(task), stream)
        else:
            executor = given.executors.of(task)
        if self._found is not None:
            executor = Again(self._found.run, shares_process=executor.shares_process)
        elif not task.call.is_async and task.isolation is Isolation.THREAD:
            await given.starting_line.turn()
        # Further looks of an attempt that waits are past its condition.
        if task.when is not None and self._found is None and execution.run(key).waiting is None:
            executor = Conditional(executor, task.when)
        self._log = log = TaskLog(
            self._append,
            asyncio.get_running_loop(),
            clock=given.clock,
            backlog=given.backlog,
            limit=given.limits.log,
        )
        self._meter = Meter(self._attempts.report, self._attempts.thread_time, key, number)
        waited = 0.0
        if self._found is not None or self._attempts.looks_again(key):
            waited = await self._go_on()
        values = Values()
        if self._found is None and task.takes_values:
            try:
                await self._load(values)
            except (ResultLost, TaskFailed) as lost:
                await log.close(str(lost))
                return Ended(key, Failed(str(lost)), number, log)
        self.context = self._make_context(values, waited)
        spent = self._time_spent()
        if task.timeout is not None:
            # A coroutine may swallow the cancellation by the attempt's own deadline. Not before
            # the operator starts: an attempt that still loads results is not abandoned, since
            # its operator would start afterwards.
            left = max(task.timeout - spent, 0.0)
            self._overdue = asyncio.get_running_loop().call_later(left, self._expired, task.timeout)
        with given.clock.work():
            outcome = await self.perform(executor, self._work(values), spent)
        if (given.results.artifacts.used or task.isolation is Isolation.PROCESS) and not isinstance(
            outcome, Postponed
        ):
            given.results.discard_files(execution.id, key, number)
        return Ended(key, outcome, number, log)

    async def _append(self, chunk: Chunk) -> None:
        """Commit a chunk of the log."""
        change = self._attempts.change(self._key, self._number, chunk)
        await self._attempts.dependencies.journal.insist(change)

    async def _go_on(self) -> float:
        """Continue the log of an attempt that was found, or looks again. Returns the seconds since
        its first look."""
        log, key = self._log, self._key
        if self._found is not None:
            log.resume(self._found.lines, self._found.unfinished)
            log.info("the server was restarted; this attempt still runs")
            return 0.0
        waits = self._attempts.waits
        waited = waits.waited(key)
        if (cost := waits.cost(key)) is not None:
            self._meter.carry_on(cost)
        if (carried := await waits.log(key)) is not None:
            log.carry_on(carried)
        return waited

    async def _load(self, values: Values) -> None:
        """Load what the task takes. Raises `ResultLost` and `TaskFailed`."""
        attempts, key = self._attempts, self._key
        execution, given = attempts.execution, attempts.dependencies
        if self._task.hook is not None:
            values.outcome = await outcome_of(execution, given)
        values.params = msgspec.json.decode(attempts.params)
        values.results, values.objects = await given.results.load(execution.id, self._upstream)
        if isinstance(key, Item) and attempts.mapped is not None:
            values.item = await attempts.mapped.item(key, values.results)
        if attempts.shared is not None:
            await attempts.shared.load()
            self._shared = attempts.shared.of(key, self._number, self._log)

    def _make_context(self, values: Values, waited: float) -> Context:
        attempts, key = self._attempts, self._key
        execution = attempts.execution
        return Context(  # in the order of its fields: by name it takes four times as long
            execution.job,
            self._task.name,
            execution.id,
            self._number,
            values.params,
            values.results,
            execution.scheduled_at,
            execution.submitted_at,
            self._log,
            attempts.tag(key, self._number),
            values.item,
            item_of(key),
            execution.run(key).started_at,
            waited,
            "UTC" if attempts.job is None else attempts.job.timezone,
            values.outcome,
            execution.interval_start,
            execution.interval_end,
            frozenset(values.objects) if values.objects else _NO_NAMES,
            attempts.dependencies.results.artifacts,
            self._shared,
            self._meter,
            None if self._task.isolation is Isolation.PROCESS else self._stream,
        )

    def _work(self, values: Values) -> Work:
        task = self._task
        operator: Any = task.pickled if task.isolation is Isolation.PROCESS else task.operator
        most = self._attempts.dependencies.limits.result
        return Work(operator, task.call, self.context, most, task.result, values.objects)

    def _time_spent(self) -> float:
        """Seconds of the timeout that have passed already."""
        if self._found is None or self._attempts.execution.run(self._key).waiting is not None:
            return 0.0
        return self._seconds_since_start()

    def _seconds_since_start(self) -> float:
        started = self._attempts.execution.run(self._key).started_at
        now = self._attempts.dependencies.clock.now()
        return 0.0 if started is None else max((now - started).total_seconds(), 0.0)

    def _expired(self, timeout: float) -> None:
        # Counted from now, since the loop may have been blocked.
        self._overdue = self._attempts.give_up_overdue(self._key, self.running, timeout)

    # -- called by `perform` ---------------------------------------------------------

    def abandoned(self, end: "asyncio.Future[None]") -> None:
        self._attempts.abandon(self._key, end)

    def is_over(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None

    def keep(self, outcome: Succeeded) -> Outcome | Awaitable[Outcome]:
        if self._shared is None:
            return self._attempts.keep(self._key, self._number, outcome)
        return self._keep_settled(self._shared, outcome)

    async def _keep_settled(self, shared: OfAttempt, outcome: Succeeded) -> Outcome:
        """Keep the result when all actions of the attempt are kept."""
        if (error := await shared.settled()) is not None:
            return Failed(error)
        kept = self._attempts.keep(self._key, self._number, outcome)
        return kept if isinstance(kept, OUTCOMES) else await kept

    def hint(self, outcome: Outcome) -> None:
        self._attempts.hint(self.running, self._key, self._number, outcome, self._log)
