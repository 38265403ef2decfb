"""Drives one execution from its first commit to its last.

The rule that must not be broken: a fact is committed before anything is done because of
it. Only the runner changes its `Execution`; others send it commands.

A defect of goflow in here ends this execution and no other: the runner ends its attempts, lets
the execution fail from its committed facts, and answers everybody who waits for it.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from goflow.core.events import (
    AnyFact,
    AttemptFailed,
    CancelRequested,
    MarkedSkipped,
    MarkedSuccessful,
    TaskCancelled,
    TaskCancelRequested,
    TaskFailed,
    TaskPostponed,
    TaskStarted,
)
from goflow.core.execution import Cancelled, Execution, Interrupted, Outcome
from goflow.core.keys import Item, Key, task_of
from goflow.core.states import State
from goflow.core.summary import Waiting
from goflow.engine.attempts.dependencies import Dependencies
from goflow.engine.attempts.mapped import MappedTasks
from goflow.engine.attempts.of_task import Found
from goflow.engine.attempts.requests import Requests
from goflow.engine.attempts.settling import commit_ends, settle
from goflow.engine.attempts.shared import SharedState
from goflow.engine.attempts.streams import Streams
from goflow.engine.attempts.under_way import Attempts
from goflow.engine.clock import wait
from goflow.engine.journal import PATIENCE
from goflow.engine.replay import record_of, salvage
from goflow.engine.slots import Kind
from goflow.errors import NotFound, StoreUnavailable, Unavailable
from goflow.job import Job, Task
from goflow.shown import reason
from goflow.stores.base import Change, Existing, History
from goflow.stores.base import Outcome as Written

STOPPED = "interrupted: the server was stopped while this attempt was running"
NO_PLACE = "{} executions of the job may run at once, and as many have not ended"
UNTOLD = "its on_retry is called first"
WAITS_FOR_OTHERS = "earlier executions of the job have not ended"
# A clock that differs from the even course of time by more was set. Below that it may be us
# who read the two clocks one after the other, and were held up between.
STEP = timedelta(seconds=0.25)

# A request to change an execution: applies facts, and returns them.
Command = Callable[[Execution, datetime], list[AnyFact]]


class Runner:
    """One execution under way. `opening` is the change that makes it so.

    It starts nothing before the executions in `after` are over, and while it is `held`, since all
    `places` of its job are taken. Attempts that were `found` running, by task, go on. `opened` gets
    the outcome of the opening once that is committed; `over` is done when the runner has ended.
    """

    def __init__(
        self,
        execution: Execution,
        job: Job | None,
        opening: Change | None,
        dependencies: Dependencies,
        after: "Iterable[Runner]" = (),
        found: Mapping[Key, Found] | None = None,
        places: int | None = None,
    ) -> None:
        self.execution = execution
        self.places = places
        self.held = False
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[Written] = loop.create_future()
        self.over: asyncio.Future[None] = loop.create_future()
        self._job = job
        self._clock = clock = dependencies.clock
        self._zero = clock.now() - timedelta(seconds=clock.elapsed())
        self._opening = opening
        self._dependencies = dependencies
        self._requests = Requests(job, dependencies.slots, self.wake)
        self._attempts = Attempts(execution, job, dependencies, self._requests, self.wake)
        if job is not None and job.reducer is not None:
            self._attempts.shared = SharedState(execution, job, dependencies, self.command)
        if execution.has_mapped_tasks:
            execution.fold_items()
        if execution.has_streams:
            self._attempts.streams = Streams(
                execution, dependencies, self._requests, self.command, self._attempts.reserved
            )
            if self._attempts.mapped is not None:
                self._attempts.mapped.streams = self._attempts.streams
        self._commands: list[tuple[Command, asyncio.Future[bool]]] = []
        self._answers: list[tuple[asyncio.Future[bool], bool]] = []  # once facts are committed
        self._defect: str | None = None
        self._stopping = False
        self._interrupted = False
        self._woken = asyncio.Event()
        # What has to be over before this begins, and whose it is.
        self._before: dict[asyncio.Future[None], Runner] = {}
        self._tell = self._one_before_is_over  # one for all, since they may be many
        self._wait_for(after)
        for key, one in (found or {}).items():
            self._attempts.go_on(key, one)
            if execution.is_cancelling(key):
                # Once it is heard: one that was never heard would not be ended.
                loop.call_soon(self._attempts.end, key)
        self._attempts.resume(found or {})

    # -- called by other rooms -----------------------------------------------------

    def wake(self) -> None:
        self._woken.set()

    def stop(self) -> None:
        """Start nothing more, and return when what is running has ended."""
        self._stopping = True
        self._attempts.stop()
        self.wake()

    def look_now(self, key: Key) -> None:
        """Let a waiting task or item look again at once, without waiting for its time."""
        self._attempts.waits.look_now(key)

    def interrupt(self) -> None:
        """End the running attempts, and those whose start is being committed."""
        self._interrupted = True
        self._attempts.end_all()

    def command(self, command: Command) -> "asyncio.Future[bool]":
        """Have a command decide facts. The future is done once they are committed: True if there
        were any, False if there were none or the execution is over."""
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if self.over.done():
            answer.set_result(False)
        else:
            self._commands.append((command, answer))
            self.wake()
        return answer

    @property
    def params_bytes(self) -> int:
        """How many bytes the execution's params take as JSON."""
        return len(self._attempts.params)

    @property
    def before(self) -> Iterable[str]:
        """The executions that have to end before this one begins."""
        if self.execution.state is not State.NOTSTARTED:
            return ()
        return (runner.execution.id for runner in self._before.values())

    @property
    def waits_for(self) -> "Iterable[Runner]":
        """The runners whose end it waits for, or waited for when it ended itself."""
        return self._before.values()

    @property
    def held_up(self) -> str | None:
        """Why the execution does not begin, human-readable; None if it may."""
        if not (self._before or self.held) or self.execution.state is not State.NOTSTARTED:
            return None
        return NO_PLACE.format(self.places) if self.held else WAITS_FOR_OTHERS

    @property
    def queued(self) -> Iterator[Key]:
        """The tasks and items that are ready to run and wait for a slot."""
        return (key for key in self._requests if self._is_queued(key))

    def waiting(self, key: Key) -> str | Waiting | None:
        """Why a task that is ready does not run, human-readable; or why a running task or item
        waits, and until when. None if it does not wait."""
        if self.held_up is not None and task_of(key) in self.execution.tasks:
            return self.held_up
        if (waiting := self._attempts.waiting(key)) is not None:
            return waiting
        if self.execution.is_untold(key):
            return UNTOLD
        if (streams := self._attempts.streams) is not None:
            behind = streams.waiting(task_of(key))
            if behind is not None and isinstance(key, str):
                return behind
        if not self._is_queued(key):
            return None
        return self._requests.obstacle(key)

    def _is_queued(self, key: Key) -> bool:
        return self._requests.is_waiting(key) and self.execution.is_ready(key)

    def pool(self, name: str) -> str | None:
        """The pool that a task runs in, if any."""
        task = self._task(name)
        return None if task is None else task.pool

    @property
    def limits(self) -> list[tuple[Kind, str]]:
        """The limits on its tasks by the job's definition, besides the total limit."""
        job = self._job
        if job is None:
            return []
        of_job = [] if job.max_running is None else [(Kind.JOB, job.name)]
        return of_job + [(Kind.POOL, pool) for pool in job.pools]

    def _task(self, name: str) -> Task | None:
        return None if self._job is None else self._job.find(name)

    # -- the life of an execution --------------------------------------------------

    async def run(self) -> bool:
        """Drive the execution to its end, or until stopped. Returns False if it was not opened,
        or could not be driven to its end."""
        try:
            return await self._live()
        except Unavailable:  # not written, since the process is to end
            raise
        except Exception as error:
            self._defect = reason(error)
            self._dependencies.on_defect(self._title, error)
            if not self.opened.done():
                self.opened.set_exception(error)
            await self._fail(self._defect)
            return False
        finally:
            self.opened.cancel()  # if its outcome is never known
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
                if self._stopping and not len(self._attempts):
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
            written = await self._dependencies.journal.commit(self._opening)
        except (Unavailable, NotFound) as error:  # it may have been purged meanwhile
            if not self.opened.done():
                self.opened.set_exception(error)
            return False
        _answer(self.opened, written)
        return not isinstance(written, Existing)

    def _decide(self) -> list[AnyFact]:
        """The facts that follow from ends, commands and time. They are applied here, and must be
        committed."""
        execution = self.execution
        now = self._clock.now()
        skew = now - timedelta(seconds=self._clock.elapsed()) - self._zero
        if abs(skew - execution.skew) > STEP:
            execution.skew = skew
        facts: list[AnyFact] = []
        facts += self._settle_ended(now)
        for told in self._attempts.take_told():
            facts += execution.end_on_retry(*told, now)
        commands, self._commands = self._commands, []
        for command, answer in commands:
            try:
                decided = command(execution, now)
            except Exception as error:  # it changed nothing
                if not answer.done():
                    answer.set_exception(error)
                self._dependencies.on_defect(f"a command to {self._title}", error)
            else:
                facts += decided
                self._answers.append((answer, bool(decided)))
        facts += execution.advance(now)
        # Hooks of an execution that was cancelled before it began do not wait for others.
        begins = not self._stopping and (not (self._before or self.held) or execution.closing)
        if self._attempts.mapped is not None:
            facts += self._advance_mapped(self._attempts.mapped, now, begins)
        if begins and not execution.finished:
            facts += execution.advance(now, self._started(now))
        if (streams := self._attempts.streams) is not None:
            streams.go_on()
        return facts

    def _advance_mapped(self, mapped: MappedTasks, now: datetime, begins: bool) -> list[AnyFact]:
        """Find the items of mapped tasks, if they may begin, and join their results. Both may
        take a while; then they are decided at a later turn."""
        execution = self.execution
        facts: list[AnyFact] = []
        while True:
            decided: list[AnyFact] = []
            joined = execution.groups_to_join()
            for name in joined:
                mapped.join(name)
            if begins:
                for name in execution.groups_to_map():
                    mapped.find(name)
                for known in mapped.take_known():
                    decided += execution.map(known.task, now, *known[1:])
            if joined:
                decided += self._settle_ended(now)
            decided += execution.advance(now)
            if not decided:
                mapped.forget()
                return facts
            facts += decided

    def _settle_ended(self, now: datetime) -> list[AnyFact]:
        taken = self._attempts.take_ended()
        return [self._settle(ended.key, ended.outcome, now) for ended in taken]

    def _started(self, now: datetime) -> list[Key]:
        """Request slots for what has become ready; returns what has been granted one."""
        started = []
        for key in self._requests.ask(self.execution.newly_ready(now), now):
            if self.execution.is_ready(key):
                started.append(key)
            else:  # it was cancelled or marked while it waited
                self._requests.release(key)
        return started

    def _settle(self, key: Key, outcome: Outcome, now: datetime) -> AnyFact:
        if isinstance(outcome, Cancelled) and not self.execution.is_cancelling(key):
            outcome = Interrupted(STOPPED, outcome.cost)
        return settle(self.execution, self._task(task_of(key)), key, outcome, now)

    async def _record(self, execution: Execution, facts: Sequence[AnyFact]) -> None:
        """Commit facts, and the last lines of the attempts that end by them."""
        self._attempts.recording()
        changes: list[Change] = [*self._attempts.take_results(facts), record_of(execution, facts)]
        if (streams := self._attempts.streams) is not None:
            changes = [*streams.take_chunks(), *changes]
        last_lines = self._attempts.last_lines()
        await commit_ends(self._dependencies.journal.insist, changes, last_lines)
        self._attempts.committed()

    def _launch(self, facts: Sequence[AnyFact]) -> None:
        """Start the attempts whose start is committed, and stop those being cancelled."""
        if self.execution.children:
            self._end_children(facts)
        for fact in facts:
            match fact:
                case TaskStarted():
                    self._attempts.begin(fact)
                case TaskPostponed():
                    self._attempts.wait(fact)
                case AttemptFailed() if fact.tells:
                    self._attempts.tell(fact.key, fact.error)
                case CancelRequested():
                    self._attempts.end_all()
                case TaskCancelRequested():
                    if fact.key in self._attempts:
                        self._attempts.end(fact.key)
                    elif fact.item is None:
                        self._end_items(fact.task)
                case TaskCancelled() if fact.item is None:
                    self._withdraw(fact.key)
                    self._end_items(fact.task)
                case MarkedSuccessful() | MarkedSkipped() | TaskCancelled():
                    self._withdraw(fact.key)
                case TaskFailed() if fact.item is None:
                    self._end_items(fact.task)
        if self._interrupted:
            self._attempts.end_all()

    def _end_children(self, facts: Sequence[AnyFact]) -> None:
        """Cancel the executions that attempts have started and do not wait for any more."""
        for fact in facts:
            if isinstance(fact, TaskCancelled | TaskFailed | AttemptFailed):
                interrupted = not isinstance(fact, TaskCancelled) and fact.interrupted
                child, run = self.execution.child_of(fact.key), self.execution.run(fact.key)
                if child is not None and not interrupted:
                    first = run.attempt - run.interruptions  # interrupted attempts are one with it
                    waited_for = fact.attempt > 0 and child.attempt >= first
                    self._dependencies.end_child(child.child, waited_for)

    async def _rest(self) -> None:
        due = None
        if not self._stopping:
            dues = (self.execution.next_retry(), self.execution.deadline())
            due = min((one for one in dues if one is not None), default=None)
        await wait(self._woken, self._clock, due)

    def _end_items(self, name: str) -> None:
        """End the attempts of a mapped task's items, and withdraw the requests of those that
        wait."""
        if self.execution.named[name].items is not None:
            self._attempts.end_task(name)
            for key in [key for key in self._requests if isinstance(key, Item)]:
                if key.task == name:
                    self._withdraw(key)

    def _withdraw(self, key: Key) -> None:
        """Withdraw the request for a slot of a task or item that was cancelled or marked."""
        self._attempts.forget(key)
        if self._requests.is_waiting(key):
            self._requests.release(key)

    def _leave(self) -> None:
        if self._attempts.shared is not None:
            self._attempts.shared.close()
        self._attempts.close()
        if self._attempts.mapped is not None:
            self._attempts.mapped.close()
        for key in list(self._requests):
            if key not in self._attempts:
                self._requests.release(key)
        waiting = [answer for _, answer in self._commands] + [answer for answer, _ in self._answers]
        for answer in waiting:
            if self._defect is not None and not answer.done():
                told = f"{self._title} was ended by a defect in goflow: {self._defect}"
                answer.set_exception(Unavailable(told))
            _answer(answer, False)

    # -- after a defect --------------------------------------------------------------

    async def _fail(self, defect: str) -> None:
        """End what runs, and let the execution fail. The state in memory is not trusted any more:
        the execution is replayed from its committed facts."""
        self._attempts.end_all()
        while len(self._attempts):
            await self._woken.wait()
            self._woken.clear()
        try:
            if (history := await self._history()) is None:  # not opened, or purged
                return
            execution = salvage(history).execution
            facts = execution.abort(self._clock.now(), defect)
            while self._attempts.take_ended():
                pass
            self._attempts.take_results(())
            if self._attempts.streams is not None:
                self._attempts.streams.take_chunks()  # of facts that were not committed
            if facts:
                await self._record(execution, facts)
            self._attempts.committed()
            self.execution = execution
        except Unavailable:
            raise
        except Exception as error:  # it is left to the next start
            self._dependencies.on_defect(f"the end of {self._title}", error)

    async def _history(self) -> History | None:
        while True:
            try:
                return await self._dependencies.history(self.execution.id)
            except StoreUnavailable:
                if self._interrupted:
                    raise
                await self._clock.sleep(PATIENCE)

    def _one_before_is_over(self, over: "asyncio.Future[None]") -> None:
        ended = self._before.pop(over)
        # It may have been cancelled before it began, while its predecessors still run.
        self._wait_for(ended.waits_for)
        self.wake()

    def _wait_for(self, runners: "Iterable[Runner]") -> None:
        for runner in runners:
            if runner.over not in self._before:
                self._before[runner.over] = runner
                runner.over.add_done_callback(self._tell)


def _answer(future: "asyncio.Future[Any]", value: object) -> None:
    if not future.done():
        future.set_result(value)
