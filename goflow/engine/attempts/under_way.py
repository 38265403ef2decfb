"""The attempts of one execution that are under way.

The rule that must not be broken: every attempt that begins ends with one outcome, and its slot
is released when its operator has really ended. An operator that does not heed its deadline or
its cancellation is abandoned after `CLEANUP` seconds.
"""

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Container, Iterator, Sequence
from typing import Any

import msgspec

from goflow.core.events import AnyFact, TaskPostponed, TaskStarted, TaskSucceeded
from goflow.core.execution import (
    Cancelled,
    Execution,
    Failed,
    Interrupted,
    Outcome,
    Postponed,
    Succeeded,
)
from goflow.core.keys import Item, Key, item_of, task_of
from goflow.core.result import SMALL
from goflow.core.summary import Waiting
from goflow.engine.attempts.abandoned import AbandonedAttempt
from goflow.engine.attempts.attempt import is_told_to_stop, stop
from goflow.engine.attempts.choice import with_choice
from goflow.engine.attempts.dependencies import Dependencies
from goflow.engine.attempts.mapped import MappedTasks
from goflow.engine.attempts.of_retry import RetryCall, error_of
from goflow.engine.attempts.of_task import Ended, Found, TaskAttempt
from goflow.engine.attempts.requests import Requests
from goflow.engine.attempts.settling import report_lost_log
from goflow.engine.attempts.shared import SharedState
from goflow.engine.attempts.streams import Stream, Streams
from goflow.engine.attempts.waits import Waits
from goflow.engine.hints import LINES
from goflow.engine.output.tasklog import Chunk, TaskLog
from goflow.engine.process import loops
from goflow.job import Job
from goflow.operators.base import Asking
from goflow.operators.meter import Meter
from goflow.operators.process_tag import tags_of
from goflow.stores.base import KeepResult
from goflow.stores.logs import AppendLog

# How long a cancelled attempt may take to clean up before it is abandoned: longer than a
# program and its children get to end, by SIGTERM and then by SIGKILL.
CLEANUP = 20.0  # seconds
# What the logs and large results of attempts add to the transaction that ends them, at most, but
# for the last of these attempts. Further attempts that have ended wait for the next one.
LOAD = 1024 * 1024  # characters and bytes
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
        self.execution = execution
        self.job = job
        self.dependencies = dependencies
        self._requests = requests
        self._wake = wake
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._keeping: dict[Key, int] = {}  # bytes of the results that are not yet in facts
        self._kept = 0  # the sum of them
        self._bodies: dict[Key, bytes] = {}  # large results that `take_ended` has returned
        # Attempts whose ends are not committed yet, of two kinds: those that `take_ended` has not
        # returned, and those that it has.
        self._ended: list[Ended] = []
        self._taken: list[Ended] = []
        self._hinted: dict[Key, int] = {}  # where the hints of the ends are
        self.mapped: MappedTasks | None = None
        if execution.has_mapped_tasks:
            self.mapped = MappedTasks(execution, job, dependencies, self.keep, self._joined, wake)
        self.shared: SharedState | None = None
        self.streams: Streams | None = None
        self._abandoned: dict[Key, asyncio.Future[Any]] = {}
        self._bars = dependencies.bars
        self.thread_time = dependencies.clock.thread_time
        self._loop = asyncio.get_running_loop()
        self._waits: Waits | None = None  # once an attempt has looked in vain
        self._recording = False  # facts that are applied are being committed
        self._looks: dict[Key, int] = {}  # the looks that begin when they are
        self._telling: dict[Key, int] = {}  # the attempts whose `on_retry` runs
        self._told: list[tuple[Key, int, str]] = []  # whose `on_retry` has ended, with the error
        self._stopped = False

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
        task = None if self.job is None else self.job.find(task_of(key))
        if task is None:
            self._end(Ended(key, Failed(self._missing(task_of(key)), final=True)))
            return
        # The results as they are now, all of them committed; in a moment they may not be.
        upstream = self.execution.results_for(task.name) if task.takes_values else {}
        if isinstance(key, Item):  # it gets its item alone, without loading the whole list
            for one in self.execution.tasks[key.task].planned.lists:
                upstream.pop(one, None)
        self._running[key] = TaskAttempt(self, task, key, number, upstream).begin()
        self.dependencies.hanging.started()

    def wait(self, fact: TaskPostponed) -> None:
        """Let a task or item wait for its next look; that is committed."""
        self.waits.begin(fact.key)
        if self.execution.is_cancelling(fact.key):
            self.end(fact.key)

    @property
    def waits(self) -> Waits:
        """The tasks and items that wait for their next looks."""
        if self._waits is None:
            self._waits = Waits(self.execution, self.dependencies, self._requests, self._look)
        return self._waits

    def _look(self, key: Key, number: int) -> None:
        """Look again, when all results that the look gets are committed."""
        if self._recording:
            self._looks[key] = number
        else:
            self._begin(key, number)

    def resume(self, found: Container[Key]) -> None:
        """Take up the waits of an execution that was replayed, and the calls of `on_retry`."""
        if self.execution.waits:
            self.waits.resume(found)
            for key in self.execution.waits:
                task = None if self.job is None else self.job.find(task_of(key))
                if key not in found and task is not None and isinstance(task.operator, Asking):
                    self.waits.look_now(key)  # it may have missed the end of an execution
        for key in self.execution.untold:
            self.tell(key)

    def waiting(self, key: Key) -> Waiting | None:
        """Why a task or item waits for its next look, and until when; None if it does not."""
        if self._waits is None or key not in self._waits:
            return None
        return self._waits.again(key) or self.execution.run(key).waiting

    def stop(self) -> None:
        """Begin no more looks and calls of `on_retry`, and let no generator wait for tasks."""
        self._stopped = True
        if self._waits is not None:
            self._waits.stop()
        if self.streams is not None:
            self.streams.stop()

    def tell(self, key: Key, error: str | None = None) -> None:
        """Call the `on_retry` of a task or item when it has a slot; the fact is committed. It is
        told the error of the attempt, by default that in the store."""
        number = self.execution.run(key).attempt
        task = None if self.job is None else self.job.find(task_of(key))
        if task is None or (function := task.on_retry) is None:
            self._told.append((key, number, "the task has no on_retry any more"))
            self._wake()
            return

        def granted(key: Key) -> None:
            if self._stopped or not self.execution.is_untold(key):
                self._requests.release(key)
                return
            self._telling[key] = number
            self._running[key] = RetryCall(self, function, key, number, error).begin()
            self.dependencies.hanging.started()

        self._requests.ask_to_look(key, self.dependencies.clock.now(), granted)

    def take_told(self) -> Sequence[tuple[Key, int, str]]:
        """The tasks and items whose `on_retry` has ended since the last call, with the number of
        the attempt and the error."""
        if not self._told:
            return ()
        told, self._told = self._told, []
        return told

    def go_on(self, key: Key, found: Found) -> None:
        """Take over an attempt that was found running, with its slot."""
        task = None if self.job is None else self.job.find(task_of(key))
        assert task is not None, "an executor was asked for it"
        self._requests.occupy(key)
        number = self.execution.run(key).attempt
        self._running[key] = TaskAttempt(self, task, key, number, {}, found).begin()

    def _missing(self, name: str) -> str:
        if self.job is None:
            return f"job {self.execution.job!r} is not registered with this server any more"
        return f"job {self.execution.job!r} has no task {name!r} any more"

    def report(self, meter: Meter) -> None:
        """Takes the progress of an attempt, in any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has closed
            self._loop.call_soon_threadsafe(self._reported, meter)

    def _reported(self, meter: Meter) -> None:
        key = meter.key
        # Not of an abandoned one.
        if key in self._running and self.execution.run(key).attempt == meter.number:
            self._bars.report(self.execution.id, meter)

    def stream_of(self, key: Key, number: int) -> Stream | None:
        """The stream of an attempt that begins, if its task is one."""
        if self.streams is None or key not in self.execution.plan.streams:
            return None
        return self.streams.begin(task_of(key), number)

    def end_stream(self, stream: Stream) -> None:
        """An attempt has ended: keep no more of what it yields."""
        if self.streams is not None:
            self.streams.end(stream)

    def reserved(self) -> int:
        """The bytes of the results that are not in facts yet."""
        return self._kept

    def change(self, key: Key, number: int, chunk: Chunk) -> AppendLog:
        """A chunk of the log of an attempt, to be committed."""
        first, lines, text, times, forget, replaces = chunk
        execution, task, item = self.execution.id, task_of(key), item_of(key)
        return AppendLog(execution, task, number, first, lines, text, forget, times, replaces, item)

    def looks_again(self, key: Key) -> bool:
        """Whether the attempt at a task or item has looked in vain before."""
        return self._waits is not None and key in self._waits

    def abandon(self, key: Key, end: "asyncio.Future[None]") -> None:
        """The operator of an attempt that is about to end cannot be stopped, and has ended once the
        future is done."""
        self._abandoned[key] = end

    @functools.cached_property
    def params(self) -> bytes:
        """The execution's params as JSON."""
        return msgspec.json.encode(self.execution.params)

    @functools.cached_property
    def tag(self) -> Callable[[Key, int], str]:
        """Makes the process tags of attempts."""
        given = self.dependencies
        return tags_of(given.epoch, given.server, self.execution.id)

    def keep(self, key: Key, number: int, outcome: Succeeded) -> Outcome | Awaitable[Outcome]:
        """Take a result that is too large for a fact out of the outcome, if there is room for it.
        That of a branch must be a choice."""
        if (plan := self.execution.plan).branches and key in plan.branches:
            chosen = with_choice(outcome, plan.downstream[task_of(key)])
            if isinstance(chosen, Failed):
                return chosen
            outcome = chosen
        size = len(outcome.result)
        others = self._kept - self._keeping.get(key, 0)
        together = self.execution.result_bytes + others + size
        if together > (most := self.dependencies.limits.results):
            return Failed(
                f"the results of this execution would be {together:,} bytes as JSON, more than "
                f"the {most:,} that are kept (max_results); write large ones to files or a "
                "database, and return where they are"
            )
        self._keeping[key] = size
        self._kept = others + size
        return self.dependencies.results.keep(self.execution.id, key, number, outcome)

    # -- ending --------------------------------------------------------------------

    def end(self, key: Key) -> None:
        """Tell an attempt to end, and abandon it if it does not. A wait ends at once, if its task
        or item is being cancelled."""
        running = self._running.get(key)
        if self._looks and (number := self._looks.pop(key, 0)):
            self._end(Ended(key, Cancelled(), number))
        elif running is None and self._waits is not None and self.execution.is_cancelling(key):
            if (wait := self._waits.end(key)) is not None:
                self._end(Ended(key, Cancelled(), wait.number))
        elif running is not None and not is_told_to_stop(running):
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
        """Forget the wait of a marked or cancelled task or item, and end its `on_retry`."""
        if key in self._telling:
            self.end(key)
        if self._waits is not None:
            self._waits.forget(key)

    def close(self) -> None:
        """Forget all waits."""
        self.stop()

    def take_ended(self) -> list[Ended]:
        """The attempts that have ended since the last call, or the first of them if their logs
        and results are too much for one transaction. Those that are left come with the next
        call."""
        ended, self._ended = self._ended, []
        size = 0
        for count, one in enumerate(ended, 1):
            kept = self._keeping.pop(one.key, 0)
            self._kept -= kept
            size += sum(len(chunk.text) for chunk in one.rest)
            if kept > SMALL and isinstance(one.outcome, Succeeded):
                self._bodies[one.key] = one.outcome.body
                size += kept
            if size >= LOAD:
                ended, self._ended = ended[:count], ended[count:]
                break
        self._taken += ended
        return ended

    def recording(self) -> None:
        """To be called when facts are to be committed; `committed` follows."""
        self._recording = True

    def take_results(self, facts: Sequence[AnyFact]) -> list[KeepResult]:
        """The large results of the attempts that end by these facts, to be committed together
        with them."""
        if not self._bodies:
            return []
        bodies, self._bodies = self._bodies, {}
        id = self.execution.id
        return [
            KeepResult(id, fact.task, fact.attempt, bodies[fact.key], fact.item)
            for fact in facts
            if isinstance(fact, TaskSucceeded) and fact.key in bodies
        ]

    def last_lines(self) -> list[AppendLog]:
        """The last lines of the logs of the attempts that `take_ended` has returned, to be
        committed together with their ends."""
        return [
            self.change(one.key, one.number, chunk) for one in self._taken for chunk in one.rest
        ]

    def committed(self) -> None:
        """To be called when the ends of all attempts that `take_ended` has returned, and their
        last lines, are committed or never will be."""
        self._recording = False
        if self._looks:
            looks, self._looks = self._looks, {}
            for key, number in looks.items():
                self._begin(key, number)
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
            self.dependencies.hints.committed(hinted)

    def hint(self, running: object, key: Key, number: int, outcome: Outcome, log: TaskLog) -> None:
        """Leave a hint of an outcome before it is committed, in case the server is killed."""
        # Not of an abandoned one, and not of further looks in vain, which are repeated.
        if self._running.get(key) is running and not (
            isinstance(outcome, Postponed) and self.execution.run(key).waiting is not None
        ):
            execution, hints = self.execution.id, self.dependencies.hints
            last_lines = log.unwritten(LINES) if log.lines else None
            if half := hints.write(execution, key, number, outcome, last_lines):
                self._hinted[key] = half

    def done(self, running: object, ended: Ended) -> bool:
        """Note the end of an attempt or of a look; False if it was abandoned before, or if no fact
        follows from it, so that the rest of its log is to be stored alone."""
        if self._running.get(ended.key) is not running:
            return False
        del self._running[ended.key]
        return self._end(ended)

    def _end(self, ended: Ended) -> bool:
        """Note an outcome; False if no fact follows from it."""
        if ended.key in self._telling:
            self._end_telling(ended)
            return False
        self._bars.end(self.execution.id, ended.key)
        if self._waits is None and not isinstance(ended.outcome, Postponed):
            self._note(ended)
            return True
        key, outcome, waits = ended.key, ended.outcome, self.waits
        self.execution.looking.discard(key)
        is_news = self.execution.is_news(key, outcome)
        if isinstance(outcome, Postponed):
            carried = None if ended.log is None else ended.log.carried
            waits.postpone(key, ended.number, carried, outcome.cost)
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

    def _end_telling(self, ended: Ended) -> None:
        """Note the end of an `on_retry`. One that was stopped is called again at the next start,
        unless its task was cancelled."""
        number = self._telling.pop(ended.key)
        self._free(ended)
        if not isinstance(ended.outcome, Cancelled | Interrupted):
            self._told.append((ended.key, number, error_of(ended)))
        self._wake()

    async def store_rest(self, ended: Ended) -> None:
        """Store the last lines of an attempt that was abandoned, whose end has been noted."""
        try:
            for chunk in ended.rest:
                change = self.change(ended.key, ended.number, chunk)
                await self.dependencies.journal.insist(change)
        except Exception as error:
            report_lost_log(error)
        if ended.log is not None:
            ended.log.landed()

    def _cancelled(self, key: Key, running: "asyncio.Task[None]") -> None:
        """Handles the end of an attempt that was stopped before it ran anything."""
        if self._running.get(key) is running:
            self.done(running, Ended(key, Cancelled()))

    def give_up_overdue(
        self, key: Key, running: "asyncio.Task[None]", timeout: float
    ) -> asyncio.TimerHandle:
        """Abandon an attempt that has timed out, unless it ends in the time to clean up."""
        return self._give_up_after(CLEANUP, key, running, overdue(timeout))

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
            cancelling = self.execution.is_cancelling(key)
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
            self.dependencies.abandoned.add(entry, abandoned, limits)
            if request is not None:
                abandoned.add_done_callback(lambda _: self._requests.give_back(request))

    def _abandoned_attempt(self, key: Key, outcome: Outcome) -> AbandonedAttempt:
        execution, run = self.execution, self.execution.run(key)
        now = self.dependencies.clock.now()
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
