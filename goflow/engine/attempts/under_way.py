"""The attempts of one execution that are under way.

The rule that must not be broken: every attempt that begins ends with one outcome, and its slot
is released when its operator has really ended. An operator that does not heed its deadline or
its cancellation is abandoned after `CLEANUP` seconds.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Container, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from goflow.core.events import TaskPostponed, TaskStarted
from goflow.core.execution import (
    Cancelled,
    Execution,
    Failed,
    Interrupted,
    Outcome,
    Postponed,
    Succeeded,
)
from goflow.core.keys import Item, Key, described, item_of, task_of
from goflow.core.result import StoredResult
from goflow.core.summary import Waiting
from goflow.engine.attempts.abandoned import AbandonedAttempt
from goflow.engine.attempts.attempt import OUTCOMES, attempt, is_told_to_stop, stop
from goflow.engine.attempts.choice import with_choice
from goflow.engine.attempts.dependencies import Dependencies
from goflow.engine.attempts.hooks import outcome_of, tell_of_retry
from goflow.engine.attempts.mapped import MappedTasks
from goflow.engine.attempts.requests import Requests
from goflow.engine.attempts.settling import report_lost_log
from goflow.engine.attempts.shared import OfAttempt, SharedState
from goflow.engine.attempts.waits import Waits
from goflow.engine.executors.base import Again, Run, Work
from goflow.engine.executors.conditional import Conditional
from goflow.engine.executors.outcomes import failed
from goflow.engine.hints import LINES
from goflow.engine.output.tasklog import Chunk, TaskLog
from goflow.engine.process import loops
from goflow.errors import ResultLost, TaskFailed
from goflow.job import Isolation, Job, Task
from goflow.operators.base import Context
from goflow.operators.process_tag import tags_of
from goflow.stores.logs import AppendLog

# How long a cancelled attempt may take to clean up before it is abandoned: longer than a
# program and its children get to end, by SIGTERM and then by SIGKILL.
CLEANUP = 20.0  # seconds
# What the logs of attempts add to the transaction that ends them, at most. Further attempts that
# have ended wait for the next one.
LOGS = 1024 * 1024  # characters
_NO_NAMES: frozenset[str] = frozenset()
ABANDONED = Interrupted("interrupted: the server was stopped, and this attempt did not end then")


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
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._keeping: dict[Key, int] = {}  # bytes of the results that are not yet in facts
        self._kept = 0  # the sum of them
        # Attempts whose ends are not committed yet, of two kinds: those that `take_ended` has not
        # returned, and those that it has.
        self._ended: list[Ended] = []
        self._taken: list[Ended] = []
        self._hinted: dict[Key, int] = {}  # where the hints of the ends are
        self.mapped: MappedTasks | None = None
        if execution.has_mapped_tasks:
            self.mapped = MappedTasks(execution, job, dependencies, self._keep, self._joined, wake)
        self.shared: SharedState | None = None
        self._abandoned: dict[Key, asyncio.Future[Any]] = {}
        self._overdue: dict[Key, asyncio.TimerHandle] = {}
        self._waits: Waits | None = None  # once an attempt has looked in vain

    def __len__(self) -> int:
        return len(self._running)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._running)

    def __contains__(self, key: Key) -> bool:
        return key in self._running or (self._waits is not None and key in self._waits)

    # -- beginning -----------------------------------------------------------------

    def begin(self, fact: TaskStarted) -> None:
        """Start an attempt; its start is committed."""
        self._begin(fact.key, fact.attempt)

    def _begin(self, key: Key, number: int) -> None:
        task = None if self._job is None else self._job.find(task_of(key))
        if task is None:
            self._end(Ended(key, Failed(self._missing(task_of(key)), final=True)))
            return
        loop = asyncio.get_running_loop()
        # The results as they are now, all of them committed; in a moment they may not be.
        upstream = self._execution.results_for(task.name) if task.takes_values else {}
        if isinstance(key, Item):  # it gets its item alone, without loading the whole list
            for one in self._execution.tasks[key.task].planned.lists:
                upstream.pop(one, None)
        self._running[key] = loop.create_task(self._run(task, key, number, upstream))
        self._dependencies.hanging.started()

    def wait(self, fact: TaskPostponed) -> None:
        """Let a task or item wait for its next look; that is committed."""
        self.waits.begin(fact.key)
        if self._execution.is_cancelling(fact.key):
            self.end(fact.key)

    @property
    def waits(self) -> Waits:
        """The tasks and items that wait for their next looks."""
        if self._waits is None:
            self._waits = Waits(self._execution, self._dependencies, self._requests, self._begin)
        return self._waits

    def resume(self, found: Container[Key]) -> None:
        """Take up the waits of an execution that was replayed."""
        if self._execution.waits:
            self.waits.resume(found)

    def waiting(self, key: Key) -> Waiting | None:
        """Why a task or item waits for its next look, and until when; None if it does not."""
        if self._waits is None or key not in self._waits:
            return None
        return self._waits.again(key) or self._execution.run(key).waiting

    def stop(self) -> None:
        """Begin no more looks."""
        if self._waits is not None:
            self._waits.stop()

    def go_on(self, key: Key, found: Found) -> None:
        """Take over an attempt that was found running, with its slot."""
        task = None if self._job is None else self._job.find(task_of(key))
        assert task is not None, "an executor was asked for it"
        self._requests.occupy(key)
        number = self._execution.run(key).attempt
        loop = asyncio.get_running_loop()
        self._running[key] = loop.create_task(self._run(task, key, number, {}, found))

    def _missing(self, name: str) -> str:
        if self._job is None:
            return f"job {self._execution.job!r} is not registered with this server any more"
        return f"job {self._execution.job!r} has no task {name!r} any more"

    async def _run(
        self,
        task: Task,
        key: Key,
        number: int,
        upstream: Mapping[str, msgspec.Raw | StoredResult],
        found: Found | None = None,
    ) -> None:
        running = self._running[key]
        try:
            ended = await self._attempt(task, key, number, upstream, running, found)
        except Exception as error:  # a defect: operators raise nothing here
            execution = self._execution
            where = f"{described(key)}, execution {execution.id} of job {execution.job!r}"
            self._dependencies.on_defect(f"an attempt of {where}", error)
            ended = Ended(key, failed(error))
        # Not in a callback of the asyncio task, which would run one turn of the loop later.
        if not self._done(running, ended):
            await self._store_rest(ended)

    async def _attempt(
        self,
        task: Task,
        key: Key,
        number: int,
        upstream: Mapping[str, msgspec.Raw | StoredResult],
        running: "asyncio.Task[None]",
        found: Found | None,
    ) -> Ended:
        execution, given, waits, waited = self._execution, self._dependencies, self._waits, 0.0
        name = task.name
        executor = given.executors.of(task)
        if found is not None:
            executor = Again(found.run, shares_process=executor.shares_process)
        elif not task.call.is_async and task.isolation is Isolation.THREAD:
            await given.starting_line.turn()
        # Further looks of an attempt that waits are past its condition.
        if task.when is not None and found is None and execution.run(key).waiting is None:
            executor = Conditional(executor, task.when)

        async def append(chunk: Chunk) -> None:
            await given.journal.insist(self._change(key, number, chunk))

        log = TaskLog(
            append,
            asyncio.get_running_loop(),
            clock=given.clock,
            backlog=given.backlog,
            limit=given.limits.log,
        )
        if found is not None:
            log.resume(found.lines, found.unfinished)
            log.info("the server was restarted; this attempt still runs")
        elif waits is not None and key in waits:
            waited = waits.waited(key)
            if (carried := await waits.log(key)) is not None:
                log.carry_on(carried)
        # Each attempt gets its own copy of params and results, and may change it.
        params: dict[str, Any] = {}
        results: dict[str, Any] = {}
        objects: Mapping[str, StoredResult] = {}
        item: Any = None
        outcome_told = shared = None
        if found is None and task.takes_values:
            if task.hook is not None:
                outcome_told = await outcome_of(execution, given)
            params = msgspec.json.decode(self.params)
            try:
                results, objects = await given.results.load(execution.id, upstream)
                if isinstance(key, Item) and self.mapped is not None:
                    item = await self.mapped.item(key, results)
                if self.shared is not None:
                    await self.shared.load()
                    shared = self.shared.of(key, number, log)
            except (ResultLost, TaskFailed) as lost:
                await log.close(str(lost))
                return Ended(key, Failed(str(lost)), number, log)
        artifacts = given.results.artifacts
        context = Context(  # in the order of its fields: by name it takes four times as long
            execution.job,
            name,
            execution.id,
            number,
            params,
            results,
            execution.scheduled_at,
            execution.submitted_at,
            log,
            self._tag(key, number),
            item,
            item_of(key),
            execution.run(key).started_at,
            waited,
            "UTC" if self._job is None else self._job.timezone,
            outcome_told,
            execution.interval_start,
            execution.interval_end,
            frozenset(objects) if objects else _NO_NAMES,
            artifacts,
            shared,
        )
        on_failed = None
        if task.on_retry is not None:
            on_failed = functools.partial(tell_of_retry, execution, task, key, context, given)
        operator: Any = task.pickled if task.isolation is Isolation.PROCESS else task.operator
        is_looking = execution.run(key).waiting is not None
        spent = 0.0 if found is None or is_looking else self._seconds_since_start(key)
        if task.timeout is not None:
            # A coroutine may swallow the cancellation by the attempt's own deadline. Not before
            # the operator starts: an attempt that still loads results is not abandoned, since
            # its operator would start afterwards.
            left = max(task.timeout - spent, 0.0)
            self._overdue[key] = asyncio.get_running_loop().call_later(
                left, self._expired, key, running, task.timeout
            )
        with given.clock.work():
            outcome = await attempt(
                executor,
                Work(operator, task.call, context, given.limits.result, task.result, objects),
                timeout=task.timeout,
                spent=spent,
                end_orphans=given.end_orphans,
                on_abandoned=lambda thread: self._abandoned.update({key: thread}),
                on_over=lambda: self._is_over(key),
                keep=lambda outcome: self._keep_after(shared, key, number, outcome),
                on_failed=on_failed,
                hint=lambda outcome: self._hint(running, key, number, outcome, log),
            )
        if (artifacts.used or task.isolation is Isolation.PROCESS) and not isinstance(
            outcome, Postponed
        ):
            given.results.discard_files(execution.id, key, number)
        return Ended(key, outcome, number, log)

    def _change(self, key: Key, number: int, chunk: Chunk) -> AppendLog:
        first, lines, text, times, forget, replaces = chunk
        execution, task, item = self._execution.id, task_of(key), item_of(key)
        return AppendLog(execution, task, number, first, lines, text, forget, times, replaces, item)

    def _seconds_since_start(self, key: Key) -> float:
        started = self._execution.run(key).started_at
        now = self._dependencies.clock.now()
        return 0.0 if started is None else max((now - started).total_seconds(), 0.0)

    @functools.cached_property
    def params(self) -> bytes:
        """The execution's params as JSON."""
        return msgspec.json.encode(self._execution.params)

    @functools.cached_property
    def _tag(self) -> Callable[[Key, int], str]:
        """Makes the process tags of attempts."""
        given = self._dependencies
        return tags_of(given.epoch, given.server, self._execution.id)

    def _keep_after(
        self, shared: OfAttempt | None, key: Key, number: int, outcome: Succeeded
    ) -> Outcome | Awaitable[Outcome]:
        """Store a result when all actions of the attempt are kept."""
        if shared is None:
            return self._keep(key, number, outcome)
        return self._keep_settled(shared, key, number, outcome)

    async def _keep_settled(
        self, shared: OfAttempt, key: Key, number: int, outcome: Succeeded
    ) -> Outcome:
        if (error := await shared.settled()) is not None:
            return Failed(error)
        kept = self._keep(key, number, outcome)
        return kept if isinstance(kept, OUTCOMES) else await kept

    def _keep(self, key: Key, number: int, outcome: Succeeded) -> Outcome | Awaitable[Outcome]:
        """Store a result that is too large for a fact, if there is room for it. That of a branch
        must be a choice."""
        if (plan := self._execution.plan).branches and key in plan.branches:
            chosen = with_choice(outcome, plan.downstream[task_of(key)])
            if isinstance(chosen, Failed):
                return chosen
            outcome = chosen
        size = len(outcome.result)
        others = self._kept - self._keeping.get(key, 0)
        together = self._execution.result_bytes + others + size
        if together > (most := self._dependencies.limits.results):
            return Failed(
                f"the results of this execution would be {together:,} bytes as JSON, more than "
                f"the {most:,} that are kept (max_results); write large ones to files or a "
                "database, and return where they are"
            )
        self._keeping[key] = size
        self._kept = others + size
        return self._dependencies.results.keep(self._execution.id, key, number, outcome)

    # -- ending --------------------------------------------------------------------

    def end(self, key: Key) -> None:
        """Tell an attempt to end, and abandon it if it does not. A wait ends at once, if its task
        or item is being cancelled."""
        running = self._running.get(key)
        if running is None and self._waits is not None and self._execution.is_cancelling(key):
            if (wait := self._waits.end(key)) is not None:
                self._end(Ended(key, Cancelled(), wait.number))
            return
        if running is not None and not is_told_to_stop(running):
            stop(running)
            # It may not have begun to run anything; then nothing of `_run` will run either.
            running.add_done_callback(functools.partial(self._cancelled, key))
            self._give_up_after(CLEANUP, key, running, ABANDONED)

    def end_task(self, name: str) -> None:
        """Tell the attempts of a task or of its items to end."""
        for key in [key for key in self._under_way() if task_of(key) == name]:
            self.end(key)

    def end_all(self) -> None:
        for key in self._under_way():
            self.end(key)

    def _under_way(self) -> list[Key]:
        return [*self._running, *(self._waits or ())]

    def forget(self, key: Key) -> None:
        """Forget the wait of a task or item that was marked or cancelled."""
        if self._waits is not None:
            self._waits.forget(key)

    def close(self) -> None:
        """Forget all waits."""
        self.stop()

    def take_ended(self) -> list[Ended]:
        """The attempts that have ended since the last call, or the first of them if their logs
        are too much for one transaction. Those that are left come with the next call."""
        ended, self._ended = self._ended, []
        size = 0
        for count, one in enumerate(ended, 1):
            self._kept -= self._keeping.pop(one.key, 0)
            size += sum(len(chunk.text) for chunk in one.rest)
            if size >= LOGS:
                ended, self._ended = ended[:count], ended[count:]
                break
        self._taken += ended
        return ended

    def last_lines(self) -> list[AppendLog]:
        """The last lines of the logs of the attempts that `take_ended` has returned, to be
        committed together with their ends."""
        return [
            self._change(one.key, one.number, chunk) for one in self._taken for chunk in one.rest
        ]

    def committed(self) -> None:
        """To be called when the ends of all attempts that `take_ended` has returned, and their
        last lines, are committed or never will be."""
        if not self._taken:
            return
        taken, self._taken = self._taken, []
        hinted = []
        for one in taken:
            if one.log is not None and one.log.rest:
                one.log.landed()
            if half := self._hinted.pop(one.key, 0):
                hinted.append(half)
        if hinted:
            self._dependencies.hints.committed(hinted)

    def _hint(self, running: object, key: Key, number: int, outcome: Outcome, log: TaskLog) -> None:
        """Leave a hint of an outcome before it is committed, in case the server is killed."""
        # Not of an abandoned one, and not of further looks in vain, which are repeated.
        if self._running.get(key) is running and not (
            isinstance(outcome, Postponed) and self._execution.run(key).waiting is not None
        ):
            execution, hints = self._execution.id, self._dependencies.hints
            last_lines = log.unwritten(LINES) if log.lines else None
            if half := hints.write(execution, key, number, outcome, last_lines):
                self._hinted[key] = half

    def _done(self, running: object, ended: Ended) -> bool:
        """Note the end of an attempt or of a look; False if it was abandoned before, or if no fact
        follows from it, so that the rest of its log is to be stored alone."""
        if self._running.get(ended.key) is not running:
            return False
        del self._running[ended.key]
        return self._end(ended)

    def _end(self, ended: Ended) -> bool:
        """Note an outcome; False if no fact follows from it."""
        if self._waits is None and not isinstance(ended.outcome, Postponed):
            self._note(ended)
            return True
        key, outcome, waits = ended.key, ended.outcome, self.waits
        self._execution.looking.discard(key)
        is_news = self._execution.is_news(key, outcome)
        if isinstance(outcome, Postponed):
            waits.postpone(key, ended.number, None if ended.log is None else ended.log.carried)
        elif is_news:
            waits.forget(key)
        if is_news:
            self._note(ended)
            return True
        self._free(ended)
        if isinstance(outcome, Postponed):
            waits.go_on(key, outcome)
        if waits.stopped or not isinstance(outcome, Postponed):
            self._wake()  # there may be nothing more to wait for
        return False

    async def _store_rest(self, ended: Ended) -> None:
        """Store the last lines of an attempt that was abandoned, whose end has been noted."""
        try:
            for chunk in ended.rest:
                change = self._change(ended.key, ended.number, chunk)
                await self._dependencies.journal.insist(change)
        except Exception as error:
            report_lost_log(error)
        if ended.log is not None:
            ended.log.landed()

    def _cancelled(self, key: Key, running: "asyncio.Task[None]") -> None:
        """Handles the end of an attempt that was stopped before it ran anything."""
        if self._running.get(key) is running:
            self._done(running, Ended(key, Cancelled()))

    def _expired(self, key: Key, running: "asyncio.Task[None]", timeout: float) -> None:
        # Counted from now, since the loop may have been blocked.
        self._overdue[key] = self._give_up_after(CLEANUP, key, running, overdue(timeout))

    def _is_over(self, key: Key) -> None:
        """An attempt no longer waits for its operator."""
        if (timer := self._overdue.pop(key, None)) is not None:
            timer.cancel()

    def _give_up_after(
        self, seconds: float, key: Key, running: "asyncio.Task[None]", outcome: Outcome
    ) -> asyncio.TimerHandle:
        timer = asyncio.get_running_loop().call_later(seconds, self._give_up, key, running, outcome)
        running.add_done_callback(lambda _: timer.cancel())
        return timer

    def _give_up(self, key: Key, running: "asyncio.Task[None]", outcome: Outcome) -> None:
        if self._running.get(key) is running:
            del self._running[key]
            self._abandoned[key] = running
            loops.give_up(running)
            cancelling = self._execution.is_cancelling(key)
            self._end(Ended(key, Cancelled() if cancelling else outcome))

    def _joined(self, name: str, outcome: Outcome) -> None:
        """Takes the outcome of a mapped task."""
        self._ended.append(Ended(name, outcome))
        self._wake()

    def _note(self, ended: Ended) -> None:
        self._free(ended)
        self._ended.append(ended)
        self._wake()

    def _free(self, ended: Ended) -> None:
        """Give back the slot of an attempt or a look that has ended."""
        key = ended.key
        # An abandoned operator keeps its slot as long as it really runs.
        if (abandoned := self._abandoned.pop(key, None)) is None:
            self._requests.release(key)
        else:
            request = self._requests.take(key)
            limits = () if request is None else request.lane.resources
            entry = self._abandoned_attempt(key, ended.outcome)
            self._dependencies.abandoned.add(entry, abandoned, limits)
            if request is not None:
                abandoned.add_done_callback(lambda _: self._requests.give_back(request))

    def _abandoned_attempt(self, key: Key, outcome: Outcome) -> AbandonedAttempt:
        execution, run = self._execution, self._execution.run(key)
        now = self._dependencies.clock.now()
        why = outcome.error.partition("\n")[0] if isinstance(outcome, Failed) else "cancelled"
        return AbandonedAttempt(
            execution.id,
            execution.job,
            task_of(key),
            run.attempt,
            run.started_at,
            now,
            why,
            key.number if isinstance(key, Item) else msgspec.UNSET,
        )


def overdue(timeout: float) -> Failed:
    return Failed(
        f"timed out after {timeout:g} s, and did not end when told to; "
        "it was abandoned and may still run"
    )
