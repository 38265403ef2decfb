"""Drives one execution from its first commit to its last.

The rule that must not be broken: a fact is committed before anything is done because of
it. The runner alone changes its `Execution`; others send it an order and wake it.

A defect of ours in here ends this execution and no other: what runs is ended, the execution
fails by what is committed of it, and whoever waits for the runner is answered.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from datetime import datetime, timedelta
from typing import Any

import msgspec

from goflow.core.events import (
    AnyFact,
    CancelRequested,
    MarkedSkipped,
    MarkedSuccessful,
    TaskCancelled,
    TaskCancelRequested,
    TaskStarted,
)
from goflow.core.execution import Cancelled, Execution, Failed, Interrupted, Outcome, Succeeded
from goflow.core.result import StoredResult
from goflow.core.retry import CENTURY
from goflow.core.states import State
from goflow.engine.attempts.abandoned import Abandoned, AbandonedAttempt
from goflow.engine.attempts.attempt import attempt, is_told_to_stop, stop
from goflow.engine.attempts.hanging import Hanging
from goflow.engine.attempts.results import Results
from goflow.engine.clock import Clock, wait
from goflow.engine.executors.outcomes import failed
from goflow.engine.executors.process import Isolated
from goflow.engine.journal import PATIENCE, Journal
from goflow.engine.output.backlog import Backlog
from goflow.engine.output.tasklog import Chunk, TaskLog
from goflow.engine.process import loops
from goflow.engine.recovery import record_of, salvage
from goflow.engine.slots import Kind, Request, Slots, title
from goflow.engine.turns import StartingLine
from goflow.errors import NotFound, ResultLost, StoreUnavailable, Unavailable
from goflow.job import Isolation, Job, Task
from goflow.operators.base import Context
from goflow.operators.cookie import Cookie
from goflow.operators.leftovers import End
from goflow.shown import reason
from goflow.stores.base import AppendLog, Change, Existing, History
from goflow.stores.base import Outcome as Written

# How long a cancelled attempt may take to clean up before it is given up: longer than a
# program and what it left behind are given to end, by SIGTERM and by SIGKILL.
CLEANUP = 20.0  # seconds
STOPPED = "interrupted: the server was stopped while this attempt was running"
WAITS_FOR_OTHERS = "earlier executions of the job have not ended"
GIVEN_UP = Interrupted("interrupted: the server was stopped, and this attempt did not end then")
# A clock that differs from the even course of time by more was set. Below that it may be us
# who read the two clocks one after the other, and were held up between.
STEP = timedelta(seconds=0.25)

Order = Callable[[Execution, datetime], list[AnyFact]]


class Limits(msgspec.Struct, frozen=True):
    """What one attempt may leave behind, all those of an execution together, and what all
    unfinished executions may hold in memory."""

    result: int = 1024 * 1024  # bytes of JSON
    log: int = 16 * 1024 * 1024  # characters
    results: int = 1024 * 1024 * 1024  # bytes of JSON of all the results of an execution
    params: int = 256 * 1024 * 1024  # bytes of JSON of the params of all unfinished executions


class Tools(msgspec.Struct, frozen=True):
    """What runners are handed. `history` reads what is committed of an execution; `on_defect`
    hears of what went wrong in goflow itself, and where."""

    journal: Journal
    history: Callable[[str], Awaitable[History | None]]
    on_defect: Callable[[str, BaseException], None]
    results: Results
    clock: Clock
    slots: Slots
    starting_line: StartingLine
    abandoned: Abandoned
    hanging: Hanging
    executor: Executor
    limits: Limits
    backlog: Backlog
    epoch: str  # of the store
    server: str  # this process, as cookies name it
    end_leftovers: End


class Runner:
    """One execution under way. `opening` is the change that makes it so.

    It starts nothing before the executions in `after` are over. `opened` is done with the
    opening's outcome once that is committed, `over` when the runner has ended.
    """

    def __init__(
        self,
        execution: Execution,
        job: Job | None,
        opening: Change | None,
        tools: Tools,
        after: "Iterable[Runner]" = (),
    ) -> None:
        self.execution = execution
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[Written] = loop.create_future()
        self.over: asyncio.Future[None] = loop.create_future()
        self._job = job
        self._zero = tools.clock.now() - timedelta(seconds=tools.clock.elapsed())
        self._opening = opening
        self._tools = tools
        self._attempts: dict[str, asyncio.Task[Outcome]] = {}
        self._keeping: dict[str, int] = {}  # bytes of the results that are not yet in facts
        self._requests: dict[str, Request] = {}  # waiting ones, and those of running attempts
        self._granted: list[Request] = []
        self._ended: list[tuple[str, Outcome]] = []
        self._abandoned: dict[str, asyncio.Future[Any]] = {}
        self._overdue: dict[str, asyncio.TimerHandle] = {}
        self._orders: list[tuple[Order, asyncio.Future[bool]]] = []
        self._answers: list[tuple[asyncio.Future[bool], bool]] = []  # once facts are committed
        self._defect: str | None = None
        self._stopping = False
        self._interrupted = False
        self._woken = asyncio.Event()
        # What has to be over before this begins, and whose it is.
        self._before: dict[asyncio.Future[None], Runner] = {}
        self._tell = self._one_before_is_over  # one for all, since they may be many
        self._wait_for(after)

    # -- what others may say -------------------------------------------------------

    def wake(self) -> None:
        self._woken.set()

    def granted(self, request: Request) -> None:
        self._granted.append(request)
        self.wake()

    def stop(self) -> None:
        """Start nothing more, and return when what is running has ended."""
        self._stopping = True
        self.wake()

    def interrupt(self) -> None:
        """End the running attempts, and those whose start is being committed."""
        self._interrupted = True
        self._end_all()

    def order(self, order: Order) -> "asyncio.Future[bool]":
        """Have facts decided; done with whether there were any, once they are committed.
        False if it is too late."""
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if self.over.done():
            answer.set_result(False)
        else:
            self._orders.append((order, answer))
            self.wake()
        return answer

    @property
    def params_bytes(self) -> int:
        """How many bytes the execution's params take as JSON."""
        return len(self._params)

    @property
    def before(self) -> Iterable[str]:
        """The executions that have to end before this one begins."""
        if self.execution.state is not State.NOTSTARTED:
            return ()
        return (runner.execution.id for runner in self._before.values())

    @property
    def waits_for(self) -> "Iterable[Runner]":
        """Those whose end it waits for, or waited for when it came to its own."""
        return self._before.values()

    @property
    def held_up(self) -> str | None:
        """Why the execution does not begin, for people; None if it may."""
        waits = self._before and self.execution.state is State.NOTSTARTED
        return WAITS_FOR_OTHERS if waits else None

    @property
    def queued(self) -> Iterator[str]:
        """The tasks that could run and wait for a slot."""
        return (name for name in self._requests if self._is_queued(name))

    def waiting(self, name: str) -> str | None:
        """Why a task that is ready does not run, for people; None if it does not wait."""
        if self.held_up is not None:
            return self.held_up
        if not self._is_queued(name):
            return None
        return self._tools.slots.obstacle(self._requests[name])

    def _is_queued(self, name: str) -> bool:
        request = self._requests.get(name)
        return request is not None and not request.granted and self.execution.is_ready(name)

    def pool(self, name: str) -> str | None:
        """The pool that a task runs in, if any."""
        task = self._task(name)
        return None if task is None else task.pool

    # -- the life of an execution --------------------------------------------------

    async def run(self) -> bool:
        """Drive the execution to its end, or until stopped; False if it was not opened, or
        could not be driven to its end."""
        try:
            return await self._live()
        except Unavailable:  # not written, since the process is to end
            raise
        except Exception as error:
            self._defect = reason(error)
            self._tools.on_defect(self._title, error)
            if not self.opened.done():
                self.opened.set_exception(error)
            await self._fail(self._defect)
            return False
        finally:
            self.opened.cancel()  # if nobody will know any more
            _answer(self.over, None)
            self._leave()

    async def _live(self) -> bool:
        if not await self._open():
            return False
        while not self.execution.finished:
            facts = self._decide()
            if facts:
                await self._record(self.execution, facts)
                self._launch(facts)
            while self._answers:
                _answer(*self._answers.pop(0))
            if not facts:
                if self._stopping and not self._attempts:
                    break
                await self._rest()
        return True

    @property
    def _title(self) -> str:
        return f"execution {self.execution.id} of job {self.execution.job!r}"

    async def _open(self) -> bool:
        if self._opening is None:
            _answer(self.opened, None)
            return True
        try:
            written = await self._tools.journal.commit(self._opening)
        except (Unavailable, NotFound) as error:  # it may have been purged meanwhile
            if not self.opened.done():
                self.opened.set_exception(error)
            return False
        _answer(self.opened, written)
        return not isinstance(written, Existing)

    def _decide(self) -> list[AnyFact]:
        """What follows from what came in; the facts are applied, and must be committed."""
        execution = self.execution
        now = self._tools.clock.now()
        skew = now - timedelta(seconds=self._tools.clock.elapsed()) - self._zero
        if abs(skew - execution.skew) > STEP:
            execution.skew = skew
        facts: list[AnyFact] = []
        ended, self._ended = self._ended, []
        for name, outcome in ended:
            facts.append(self._settle(name, outcome, now))
        orders, self._orders = self._orders, []
        for order, answer in orders:
            try:
                decided = order(execution, now)
            except Exception as error:  # it decided nothing, and the execution is as it was
                if not answer.done():
                    answer.set_exception(error)
                self._tools.on_defect(f"an order to {self._title}", error)
            else:
                facts += decided
                self._answers.append((answer, bool(decided)))
        facts += execution.advance(now)
        if not (self._stopping or self._before or execution.finished):
            facts += execution.advance(now, self._started(now))
        return facts

    def _started(self, now: datetime) -> list[str]:
        """Ask for slots for what has become ready; the tasks that have got theirs."""
        slots = self._tools.slots
        for name in self.execution.newly_ready(now):
            if name not in self._requests:
                lane, priority = self._lane(name)
                self._requests[name] = slots.request(self, name, lane, priority, now)
        slots.grant()
        granted, self._granted = self._granted, []
        started = []
        for request in granted:
            if self.execution.is_ready(request.task):
                started.append(request.task)
            else:  # it was cancelled or marked while it waited
                self._release(request.task)
        return started

    def _lane(self, name: str) -> tuple[tuple[str, ...], float]:
        """The resources that a task needs besides a slot, and its priority."""
        task = self._task(name)
        if self._job is None or task is None:
            return (), 0
        lane = []
        if self._job.max_running is not None:
            lane.append(title(Kind.JOB, self._job.name))
        if task.pool is not None:
            lane.append(title(Kind.POOL, task.pool))
        return tuple(lane), task.priority

    def _settle(self, name: str, outcome: Outcome, now: datetime) -> AnyFact:
        execution = self.execution
        if isinstance(outcome, Cancelled) and not execution.is_cancelling(name):
            outcome = Interrupted(STOPPED)
        delay = 0.0
        if isinstance(outcome, Failed) and execution.will_retry(name, outcome):
            delay, outcome = self._delay(name, outcome)
        self._keeping.pop(name, None)
        return execution.settle(name, outcome, now, delay)

    def _delay(self, name: str, failed: Failed) -> tuple[float, Failed]:
        """Ask the task's retry delay, which is the user's code and may do anything."""
        task = self._task(name)
        if task is None:
            return 0.0, failed
        number = self.execution.tasks[name].attempt
        try:
            seconds = float(task.retry_delay.delay(number))
            if not 0 <= seconds <= CENTURY:
                raise ValueError(f"{seconds!r} is not from 0 to {CENTURY:g} seconds")
        except BaseException as error:  # a SystemExit would end the event loop
            why = reason(error)
            told = f"not tried again: retry_delay.delay({number}) gave no delay: {why}"
            return 0.0, Failed(f"{failed.error}\n\n{told}", final=True)
        return seconds, failed

    async def _record(self, execution: Execution, facts: Sequence[AnyFact]) -> None:
        await self._tools.journal.insist(record_of(execution, facts))

    def _launch(self, facts: Sequence[AnyFact]) -> None:
        """Begin the attempts whose start is now committed, end those whose end was asked for."""
        for fact in facts:
            match fact:
                case TaskStarted():
                    self._begin(fact)
                case CancelRequested():
                    self._end_all()
                case TaskCancelRequested() if fact.task in self._attempts:
                    self._end(fact.task)
                case MarkedSuccessful() | MarkedSkipped() | TaskCancelled():
                    self._withdraw(fact.task)
        if self._interrupted:
            self._end_all()

    async def _rest(self) -> None:
        due = None
        if not self._stopping:
            dues = (self.execution.next_retry(), self.execution.deadline())
            due = min((one for one in dues if one is not None), default=None)
        await wait(self._woken, self._tools.clock, due)

    def _withdraw(self, name: str) -> None:
        """Let a task that was cancelled or marked wait for a slot no longer."""
        request = self._requests.get(name)
        if request is not None and not request.granted:
            self._release(name)

    def _leave(self) -> None:
        for name in list(self._requests):
            if name not in self._attempts:
                self._release(name)
        waiting = [answer for _, answer in self._orders] + [answer for answer, _ in self._answers]
        for answer in waiting:
            if self._defect is not None and not answer.done():
                told = f"{self._title} was ended by a defect in goflow: {self._defect}"
                answer.set_exception(Unavailable(told))
            _answer(answer, False)

    # -- after a defect --------------------------------------------------------------

    async def _fail(self, defect: str) -> None:
        """End what runs, and let the execution fail. What it was about to do is not trusted any
        more: it is replayed from what is committed."""
        self._end_all()
        while self._attempts:
            await self._woken.wait()
            self._woken.clear()
        try:
            if (history := await self._history()) is None:  # not opened, or purged
                return
            execution = salvage(history).execution
            if facts := execution.abort(self._tools.clock.now(), defect):
                await self._record(execution, facts)
            self.execution = execution
        except Unavailable:
            raise
        except Exception as error:  # it is left to the next start
            self._tools.on_defect(f"the end of {self._title}", error)

    async def _history(self) -> History | None:
        while True:
            try:
                return await self._tools.history(self.execution.id)
            except StoreUnavailable:
                if self._interrupted:
                    raise
                await self._tools.clock.sleep(PATIENCE)

    def _one_before_is_over(self, over: "asyncio.Future[None]") -> None:
        ended = self._before.pop(over)
        # It may have been cancelled before it began; then those that it waited for go on.
        self._wait_for(ended.waits_for)
        self.wake()

    def _wait_for(self, runners: "Iterable[Runner]") -> None:
        for runner in runners:
            if runner.over not in self._before:
                self._before[runner.over] = runner
                runner.over.add_done_callback(self._tell)

    # -- attempts ------------------------------------------------------------------

    def _task(self, name: str) -> Task | None:
        return None if self._job is None else self._job.find(name)

    def _begin(self, fact: TaskStarted) -> None:
        task = self._task(fact.task)
        if task is None:
            self._note(fact.task, Failed(self._missing(fact.task), final=True))
            return
        running = asyncio.get_running_loop().create_task(
            # The results as they are now, committed all of them; in a moment they may not be.
            self._attempt(task, fact.attempt, self.execution.results_for(task.name))
        )
        self._attempts[fact.task] = running
        self._tools.hanging.started()
        running.add_done_callback(functools.partial(self._done, fact.task))
        if task.timeout is not None:
            # A coroutine may swallow the cancellation that the attempt's own deadline is.
            self._overdue[fact.task] = asyncio.get_running_loop().call_later(
                task.timeout, self._expired, fact.task, running, task.timeout
            )

    def _missing(self, name: str) -> str:
        if self._job is None:
            return f"job {self.execution.job!r} is not registered with this server any more"
        return f"job {self.execution.job!r} has no task {name!r} any more"

    async def _attempt(
        self, task: Task, number: int, upstream: Mapping[str, msgspec.Raw | StoredResult]
    ) -> Outcome:
        execution, tools = self.execution, self._tools
        if not task.call.is_async and task.isolation is Isolation.THREAD:
            await tools.starting_line.turn()

        async def append(chunk: Chunk) -> None:
            await tools.journal.insist(
                AppendLog(execution.id, task.name, number, **chunk._asdict())
            )

        log = TaskLog(
            append,
            asyncio.get_running_loop(),
            clock=tools.clock,
            backlog=tools.backlog,
            limit=tools.limits.log,
        )
        try:
            results = await tools.results.load(execution.id, upstream)
        except ResultLost as lost:
            await log.close(str(lost))
            return Failed(str(lost))
        context = Context(
            job=execution.job,
            task=task.name,
            execution_id=execution.id,
            attempt=number,
            # Each attempt has its own of all that it is handed, and may do with it what it likes.
            params=msgspec.json.decode(self._params),
            results=results,
            scheduled_at=execution.scheduled_at,
            submitted_at=execution.submitted_at,
            log=log,
            cookie=str(self._cookie(task.name, number)),
        )
        operator: Any = task.operator
        if task.isolation is Isolation.PROCESS:
            operator = Isolated(task.parcel, tools.limits.result)
        with tools.clock.work():
            return await attempt(
                operator,
                task.call,
                context,
                executor=tools.executor,
                timeout=task.timeout,
                max_result=tools.limits.result,
                end_leftovers=tools.end_leftovers,
                on_abandoned=lambda thread: self._abandoned.update({task.name: thread}),
                on_over=lambda: self._is_over(task.name),
                keep=lambda outcome: self._keep(task.name, number, outcome),
            )

    @functools.cached_property
    def _params(self) -> bytes:
        return msgspec.json.encode(self.execution.params)

    async def _keep(self, name: str, number: int, outcome: Succeeded) -> Outcome:
        """Store a result that is too large for a fact, if there is room for it."""
        size = len(outcome.result)
        others = sum(self._keeping.values()) - self._keeping.get(name, 0)
        together = self.execution.result_bytes + others + size
        if together > (most := self._tools.limits.results):
            return Failed(
                f"the results of this execution would be {together:,} bytes as JSON, more than "
                f"the {most:,} that are kept (max_results); write large ones to files or a "
                "database, and return where they are"
            )
        self._keeping[name] = size
        return await self._tools.results.keep(self.execution.id, name, number, outcome)

    def _cookie(self, name: str, number: int) -> Cookie:
        execution, tools = self.execution, self._tools
        place = execution.plan.position[name]
        return Cookie(tools.epoch, tools.server, execution.id, place, number)

    def _done(self, name: str, running: "asyncio.Task[Outcome]") -> None:
        if self._attempts.get(name) is running:
            del self._attempts[name]
            outcome: Outcome
            if running.cancelled():
                outcome = Cancelled()
            elif (error := running.exception()) is not None:
                self._tools.on_defect(f"an attempt of task {name!r}, {self._title}", error)
                outcome = failed(error)
            else:
                outcome = running.result()
            self._note(name, outcome)

    def _end_all(self) -> None:
        for name in list(self._attempts):
            self._end(name)

    def _end(self, name: str) -> None:
        """Tell an attempt to end, and give it up if it does not."""
        running = self._attempts[name]
        if not is_told_to_stop(running):
            stop(running)
            self._give_up_after(CLEANUP, name, running, GIVEN_UP)

    def _expired(self, name: str, running: "asyncio.Task[Outcome]", timeout: float) -> None:
        # Counted from now, since the loop may have been held up.
        self._overdue[name] = self._give_up_after(CLEANUP, name, running, overdue(timeout))

    def _is_over(self, name: str) -> None:
        """The operator of an attempt has ended, or is waited for no longer."""
        if (timer := self._overdue.pop(name, None)) is not None:
            timer.cancel()

    def _give_up_after(
        self, seconds: float, name: str, running: "asyncio.Task[Outcome]", outcome: Outcome
    ) -> asyncio.TimerHandle:
        timer = asyncio.get_running_loop().call_later(
            seconds, self._give_up, name, running, outcome
        )
        running.add_done_callback(lambda _: timer.cancel())
        return timer

    def _give_up(self, name: str, running: "asyncio.Task[Outcome]", outcome: Outcome) -> None:
        if self._attempts.get(name) is running:
            del self._attempts[name]
            self._abandoned[name] = running
            loops.give_up(running)
            self._note(name, Cancelled() if self.execution.is_cancelling(name) else outcome)

    def _note(self, name: str, outcome: Outcome) -> None:
        # What was abandoned keeps its slot for as long as it really runs.
        if (abandoned := self._abandoned.pop(name, None)) is None:
            self._release(name)
        else:
            request = self._requests.pop(name, None)
            limits = () if request is None else request.lane.resources
            self._tools.abandoned.add(self._abandoned_attempt(name, outcome), abandoned, limits)
            if request is not None:
                abandoned.add_done_callback(lambda _: self._tools.slots.release(request))
        self._ended.append((name, outcome))
        self.wake()

    def _abandoned_attempt(self, name: str, outcome: Outcome) -> AbandonedAttempt:
        execution, task = self.execution, self.execution.tasks[name]
        now = self._tools.clock.now()
        why = outcome.error.partition("\n")[0] if isinstance(outcome, Failed) else "cancelled"
        return AbandonedAttempt(
            execution.id, execution.job, name, task.attempt, task.started_at, now, why
        )

    def _release(self, name: str) -> None:
        if (request := self._requests.pop(name, None)) is not None:
            self._tools.slots.release(request)


def overdue(timeout: float) -> Failed:
    return Failed(
        f"timed out after {timeout:g} s, and did not end when told to; "
        "it was abandoned and may still run"
    )


def _answer(future: "asyncio.Future[Any]", value: object) -> None:
    if not future.done():
        future.set_result(value)
