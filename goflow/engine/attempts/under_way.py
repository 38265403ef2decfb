"""The attempts of one execution that are under way.

The rule that must not be broken: every attempt that begins ends with one outcome, and its slot
is released when its operator has really ended. An operator that does not heed its deadline or
its cancellation is abandoned after `CLEANUP` seconds.
"""

import asyncio
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from goflow.core.events import TaskStarted
from goflow.core.execution import Cancelled, Execution, Failed, Interrupted, Outcome, Succeeded
from goflow.core.result import StoredResult
from goflow.engine.attempts.abandoned import AbandonedAttempt
from goflow.engine.attempts.attempt import attempt, is_told_to_stop, stop
from goflow.engine.attempts.dependencies import Dependencies
from goflow.engine.attempts.requests import Requests
from goflow.engine.executors.base import Work
from goflow.engine.executors.outcomes import failed
from goflow.engine.output.tasklog import Chunk, TaskLog
from goflow.engine.process import loops
from goflow.errors import ResultLost
from goflow.job import Isolation, Job, Task
from goflow.operators.base import Context
from goflow.operators.process_tag import ProcessTag, task_key
from goflow.stores.logs import AppendLog

# How long a cancelled attempt may take to clean up before it is abandoned: longer than a
# program and its children get to end, by SIGTERM and then by SIGKILL.
CLEANUP = 20.0  # seconds
ABANDONED = Interrupted("interrupted: the server was stopped, and this attempt did not end then")


class Attempts:
    """Begins and ends attempts. `wake` is called when one has ended; see `take_ended`."""

    def __init__(
        self,
        execution: Execution,
        job: Job | None,
        dependencies: Dependencies,
        requests: Requests,
        wake: Callable[[], None],
    ) -> None:
        self._execution = execution
        self._job = job
        self._dependencies = dependencies
        self._requests = requests
        self._wake = wake
        self._running: dict[str, asyncio.Task[None]] = {}
        self._keeping: dict[str, int] = {}  # bytes of the results that are not yet in facts
        self._ended: list[tuple[str, Outcome]] = []
        # Hints whose outcomes are not committed yet, of two kinds: attempts that `take_ended`
        # has not returned, and those that it has.
        self._hinted: set[str] = set()
        self._taken = 0
        self._abandoned: dict[str, asyncio.Future[Any]] = {}
        self._overdue: dict[str, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._running)

    def __iter__(self) -> Iterator[str]:
        return iter(self._running)

    def __contains__(self, name: str) -> bool:
        return name in self._running

    # -- beginning -----------------------------------------------------------------

    def begin(self, fact: TaskStarted) -> None:
        """Begin an attempt, whose start is committed."""
        task = None if self._job is None else self._job.find(fact.task)
        if task is None:
            self._note(fact.task, Failed(self._missing(fact.task), final=True))
            return
        loop = asyncio.get_running_loop()
        # The results as they are now, all of them committed; in a moment they may not be.
        upstream = self._execution.results_for(task.name) if task.call.takes_context else {}
        running = loop.create_task(self._run(task, fact.attempt, upstream))
        self._running[fact.task] = running
        self._dependencies.hanging.started()
        running.add_done_callback(functools.partial(self._cancelled, fact.task))

    def _missing(self, name: str) -> str:
        if self._job is None:
            return f"job {self._execution.job!r} is not registered with this server any more"
        return f"job {self._execution.job!r} has no task {name!r} any more"

    async def _run(
        self, task: Task, number: int, upstream: Mapping[str, msgspec.Raw | StoredResult]
    ) -> None:
        outcome: Outcome
        try:
            outcome = await self._attempt(task, number, upstream)
        except Exception as error:  # a defect: operators raise nothing here
            execution = self._execution
            where = f"task {task.name!r}, execution {execution.id} of job {execution.job!r}"
            self._dependencies.on_defect(f"an attempt of {where}", error)
            outcome = failed(error)
        # Not by a callback of the asyncio task, which would come one turn of the loop later.
        self._done(task.name, asyncio.current_task(), outcome)

    async def _attempt(
        self, task: Task, number: int, upstream: Mapping[str, msgspec.Raw | StoredResult]
    ) -> Outcome:
        execution, given = self._execution, self._dependencies
        name = task.name
        if not task.call.is_async and task.isolation is Isolation.THREAD:
            await given.starting_line.turn()

        async def append(chunk: Chunk) -> None:
            await given.journal.insist(AppendLog(execution.id, name, number, **chunk._asdict()))

        log = TaskLog(
            append,
            asyncio.get_running_loop(),
            clock=given.clock,
            backlog=given.backlog,
            limit=given.limits.log,
        )
        # Each attempt gets its own copy of params and results, and may change it.
        params, results = {}, {}
        if task.call.takes_context:
            params = msgspec.json.decode(self.params)
            try:
                results = await given.results.load(execution.id, upstream)
            except ResultLost as lost:
                await log.close(str(lost))
                return Failed(str(lost))
        context = Context(
            job=execution.job,
            task=name,
            execution_id=execution.id,
            attempt=number,
            params=params,
            results=results,
            scheduled_at=execution.scheduled_at,
            submitted_at=execution.submitted_at,
            log=log,
            process_tag=str(self._process_tag(name, number)),
        )
        operator: Any = task.pickled if task.isolation is Isolation.PROCESS else task.operator
        running = asyncio.current_task()
        if task.timeout is not None and running is not None:
            # A coroutine may swallow the cancellation by the attempt's own deadline. Not before
            # the operator starts: an attempt that still loads results is not abandoned, since
            # its operator would start afterwards.
            self._overdue[name] = asyncio.get_running_loop().call_later(
                task.timeout, self._expired, name, running, task.timeout
            )
        with given.clock.work():
            return await attempt(
                given.executors.of(task),
                Work(operator, task.call, context, given.limits.result),
                timeout=task.timeout,
                end_orphans=given.end_orphans,
                on_abandoned=lambda thread: self._abandoned.update({name: thread}),
                on_over=lambda: self._is_over(name),
                keep=lambda outcome: self._keep(name, number, outcome),
                hint=lambda outcome: self._hint(name, number, outcome),
            )

    @functools.cached_property
    def params(self) -> bytes:
        """The execution's params as JSON."""
        return msgspec.json.encode(self._execution.params)

    def _process_tag(self, name: str, number: int) -> ProcessTag:
        execution, given = self._execution, self._dependencies
        return ProcessTag(given.epoch, given.server, execution.id, task_key(name), number)

    async def _keep(self, name: str, number: int, outcome: Succeeded) -> Outcome:
        """Store a result that is too large for a fact, if there is room for it."""
        size = len(outcome.result)
        others = sum(self._keeping.values()) - self._keeping.get(name, 0)
        together = self._execution.result_bytes + others + size
        if together > (most := self._dependencies.limits.results):
            return Failed(
                f"the results of this execution would be {together:,} bytes as JSON, more than "
                f"the {most:,} that are kept (max_results); write large ones to files or a "
                "database, and return where they are"
            )
        self._keeping[name] = size
        return await self._dependencies.results.keep(self._execution.id, name, number, outcome)

    # -- ending --------------------------------------------------------------------

    def end(self, name: str) -> None:
        """Tell an attempt to end, and abandon it if it does not."""
        running = self._running[name]
        if not is_told_to_stop(running):
            stop(running)
            self._give_up_after(CLEANUP, name, running, ABANDONED)

    def end_all(self) -> None:
        for name in list(self._running):
            self.end(name)

    def take_ended(self) -> list[tuple[str, Outcome]]:
        """The outcomes of the attempts that have ended since the last call."""
        ended, self._ended = self._ended, []
        for name, _ in ended:
            self._keeping.pop(name, None)
            if name in self._hinted:
                self._hinted.discard(name)
                self._taken += 1
        return ended

    def committed(self) -> None:
        """To be called when all outcomes that `take_ended` has returned are committed."""
        if self._taken:
            taken, self._taken = self._taken, 0
            self._dependencies.hints.committed(taken)

    def forget(self) -> None:
        """To be called when no further outcome will be committed."""
        self._taken += len(self._hinted)
        self._hinted.clear()
        self.committed()

    def _hint(self, name: str, number: int, outcome: Outcome) -> None:
        """Leave a hint of an outcome before it is committed, in case the server is killed."""
        if self._running.get(name) is asyncio.current_task():  # not one that was abandoned
            execution = self._execution.id
            if self._dependencies.hints.write(execution, name, number, outcome):
                self._hinted.add(name)

    def _done(self, name: str, running: object, outcome: Outcome) -> None:
        if self._running.get(name) is running:
            del self._running[name]
            self._note(name, outcome)

    def _cancelled(self, name: str, running: "asyncio.Task[None]") -> None:
        """Takes the end of an attempt that was told to end before it came to run anything."""
        self._done(name, running, Cancelled())

    def _expired(self, name: str, running: "asyncio.Task[None]", timeout: float) -> None:
        # Counted from now, since the loop may have been held up.
        self._overdue[name] = self._give_up_after(CLEANUP, name, running, overdue(timeout))

    def _is_over(self, name: str) -> None:
        """An attempt no longer waits for its operator."""
        if (timer := self._overdue.pop(name, None)) is not None:
            timer.cancel()

    def _give_up_after(
        self, seconds: float, name: str, running: "asyncio.Task[None]", outcome: Outcome
    ) -> asyncio.TimerHandle:
        timer = asyncio.get_running_loop().call_later(
            seconds, self._give_up, name, running, outcome
        )
        running.add_done_callback(lambda _: timer.cancel())
        return timer

    def _give_up(self, name: str, running: "asyncio.Task[None]", outcome: Outcome) -> None:
        if self._running.get(name) is running:
            del self._running[name]
            self._abandoned[name] = running
            loops.give_up(running)
            self._note(name, Cancelled() if self._execution.is_cancelling(name) else outcome)

    def _note(self, name: str, outcome: Outcome) -> None:
        # An abandoned operator keeps its slot as long as it really runs.
        if (abandoned := self._abandoned.pop(name, None)) is None:
            self._requests.release(name)
        else:
            request = self._requests.take(name)
            limits = () if request is None else request.lane.resources
            entry = self._abandoned_attempt(name, outcome)
            self._dependencies.abandoned.add(entry, abandoned, limits)
            if request is not None:
                abandoned.add_done_callback(lambda _: self._requests.give_back(request))
        self._ended.append((name, outcome))
        self._wake()

    def _abandoned_attempt(self, name: str, outcome: Outcome) -> AbandonedAttempt:
        execution, task = self._execution, self._execution.tasks[name]
        now = self._dependencies.clock.now()
        why = outcome.error.partition("\n")[0] if isinstance(outcome, Failed) else "cancelled"
        return AbandonedAttempt(
            execution.id, execution.job, name, task.attempt, task.started_at, now, why
        )


def overdue(timeout: float) -> Failed:
    return Failed(
        f"timed out after {timeout:g} s, and did not end when told to; "
        "it was abandoned and may still run"
    )
