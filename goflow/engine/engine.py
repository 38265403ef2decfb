"""Engine: register, submit, toggle, cancel, retry; it owns every runner.

Every answer it gives is of committed facts: what it says has happened survives kill -9.
"""

import asyncio
import functools
import heapq
import logging
import random
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from datetime import date, datetime, timedelta
from typing import Any

import msgspec

from goflow import checks
from goflow.core.catchup import Overlap
from goflow.core.days import last_days
from goflow.core.events import AnyFact, Submitted
from goflow.core.execution import Execution
from goflow.core.schedule import Schedule, find_zone
from goflow.core.states import State
from goflow.engine.attempts.abandoned import Abandoned
from goflow.engine.attempts.dependencies import Dependencies, Limits
from goflow.engine.attempts.hanging import NAMED, Hanging
from goflow.engine.attempts.results import Results
from goflow.engine.backfill import Backfilled, check_range, due_times, executions_of
from goflow.engine.board import Board, Entry
from goflow.engine.broadcast import Broadcast
from goflow.engine.clock import Clock, SystemClock
from goflow.engine.errands import Errands, seen_through
from goflow.engine.executors.choice import Executors
from goflow.engine.hints import Hints, hints_file
from goflow.engine.idempotency import agrees, fingerprint
from goflow.engine.journal import PATIENCE, Journal
from goflow.engine.lineup import Lineup
from goflow.engine.output.backlog import Backlog
from goflow.engine.output.capture import captured
from goflow.engine.peak import Peak
from goflow.engine.process import exits, forked, leaving, loops
from goflow.engine.reader import Reader
from goflow.engine.recovery import record_of, recover, salvage
from goflow.engine.retention import Keep, Retention
from goflow.engine.runner import Runner
from goflow.engine.scheduler import (
    DOWN,
    SWITCHED_OFF,
    Coming,
    Scheduler,
    in_order_of_time,
    merged_into,
)
from goflow.engine.slots import Kind, Slots, Usage
from goflow.engine.threads import DaemonThreads, Threads
from goflow.engine.turns import StartingLine, short_turns
from goflow.errors import (
    Conflict,
    GoflowError,
    InvalidJob,
    InvalidRequest,
    NotFound,
    Stopping,
    StoreUnavailable,
    Unavailable,
)
from goflow.job import Job
from goflow.job.patterns import too_slow
from goflow.operators import process_tag
from goflow.shown import reason
from goflow.stores.base import (
    Activity,
    Change,
    Existing,
    History,
    Idempotency,
    Outcome,
    Purge,
    RecordTicks,
    Remark,
    SetSwitch,
    SetWatch,
    Store,
    Submit,
    Tick,
    TickOutcome,
    Watch,
)

logger = logging.getLogger(__name__)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The engine's settings, checked whole.

    - `max_running`: attempts running at once, over all executions.
    - `max_unfinished`: executions unfinished at once; further submits are refused. A tenth of
      them is kept for schedules, while any is on.
    - `pools`: names of pools, and how many tasks of each may run at once.
    - `stop_timeout`: seconds that running attempts have to end by themselves at a stop.
    - `with_seconds`: whether cron may have six fields, the first one seconds.
    - `limits`: see `Limits`; `keep`: see `Keep`.
    """

    with_seconds: bool = False
    max_running: int = 128
    max_unfinished: int = 10_000
    pools: dict[str, int] = {}
    stop_timeout: float = 5.0
    limits: Limits = Limits()
    keep: Keep = Keep()

    def __post_init__(self) -> None:
        for name in ("max_running", "max_unfinished"):
            checks.count(name, getattr(self, name), 1, error=ValueError)
        for pool, size in checks.mapping("pools", self.pools, error=ValueError).items():
            checks.count(f"pools: {checks.name('pool', pool)!r}", size, 1, error=ValueError)
        checks.number("stop_timeout", self.stop_timeout, 0, DAY, error=ValueError)
        checks.flag("with_seconds", self.with_seconds, error=ValueError)


class Submission(msgspec.Struct, frozen=True):
    """An accepted submit. `created` is False when its key had been used before."""

    id: str
    submitted: datetime
    created: bool


class Engine:
    """Jobs, and what runs of them. Use it between `start` and `stop`, on one event loop."""

    def __init__(
        self,
        store: Store,
        options: Options | None = None,
        *,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        threads: Threads | None = None,
        keeps_time: bool = True,
    ) -> None:
        self.options = options or Options()
        self.clock: Clock = clock or SystemClock()
        self.jobs: dict[str, Job] = {}
        self._store = store
        # Ids must not repeat after a restart or a fork, so the default is the system's source.
        self._rng = rng or random.SystemRandom()
        self._threads = threads or Threads()
        self._keeps_time = keeps_time  # False: schedules never fire
        self._schedules: dict[str, Schedule | None] = {}
        self._switches: dict[str, SetSwitch] = {}
        self._watches: dict[str, Watch] = {}
        self._unwritten: dict[str, asyncio.Future[Outcome]] = {}  # the watches not in the store
        self._runners: dict[str, Runner] = {}
        self._opened = ExitStack()  # what is to be given back at the end
        self._lineup = Lineup()  # the same, by job
        self._asked_for: set[str] = set()  # those that take no room kept for schedules
        self._params_bytes = 0  # of the executions that have runners
        self._reserved = 0  # executions that are going to be asked for, and have their room
        self._tasks: set[asyncio.Task[Any]] = set()
        self.errands = Errands(self.tell_defect)
        # Submits under way by job and key, with the fingerprints of what they ask.
        self._keyed: dict[tuple[str, str], tuple[str, asyncio.Task[Submission]]] = {}
        self._toggling = asyncio.Lock()
        self._reopening: set[str] = set()
        self._purged = False  # whether the last purge found something to forget
        self._started = False
        self._stopping = False
        self.defect: str | None = None  # what went wrong that never should
        self.lost: str | None = None  # what was committed before this start and is not there
        self.abandoned = Abandoned()
        self.notices: deque[Notice] = deque(maxlen=100)  # what people should know of

    # -- jobs ----------------------------------------------------------------------

    def register(self, job: Job) -> Job:
        """Take up a job, before or after the start. Raises `InvalidJob`."""
        if job.name in self.jobs:
            raise InvalidJob(f"job {job.name!r} is registered already; names must differ")
        job.seal()
        schedule = job.schedule_for(with_seconds=self.options.with_seconds)
        for task in job.tasks:
            if self._keeps_time and task.pool is not None and task.pool not in self.options.pools:
                known = ", ".join(map(repr, self.options.pools)) or "none"
                raise InvalidJob(
                    f"job {job.name!r}, task {task.name!r}: there is no pool {task.pool!r}; "
                    f"Goflow(pools={{…}}) has {known}"
                )
        self.jobs[job.name] = job
        self._schedules[job.name] = schedule
        if self._started:
            self._limit(job)
            self._switch(job.name)
        return job

    def job(self, name: str) -> Job:
        """The registered job of that name. Raises `NotFound`."""
        if (job := self.jobs.get(name)) is None:
            raise NotFound(f"there is no job {name!r}", field="job")
        return job

    def active(self, name: str) -> bool:
        """Whether a job's schedule is on."""
        switch = self._switches.get(name)
        return self.jobs[name].active if switch is None else switch.active

    def switched(self, name: str) -> SetSwitch | None:
        """Who switched a job's schedule by hand last, and when; None if nobody did."""
        return self._switches.get(name)

    def due(self, name: str) -> datetime | None:
        """When a job fires next, in UTC; None if it does not."""
        return self._scheduler.due(name) if self._started else None

    # -- start and stop ------------------------------------------------------------

    async def start(self) -> None:
        """Open the store, take up what was unfinished, and begin to keep time.

        Raises `StoreError` when the store cannot be opened; nothing runs then.
        """
        if self._started:
            raise RuntimeError("the engine has been started before")
        self._started = True
        try:
            await self._begin()
        except BaseException:
            await self._close()
            self._started = False
            raise

    async def _begin(self) -> None:
        opened = self._opened
        # First, since a store that could not be opened may hold something all the same.
        opened.callback(self._store.close)
        self._store.open()
        self.started_at = self.clock.now()
        self._capture = captured()
        opened.enter_context(self._capture)
        opened.enter_context(short_turns())
        opened.enter_context(exits.contained(asyncio.get_running_loop()))
        self._forks = forked.own(asyncio.get_running_loop())
        opened.enter_context(self._forks)
        self._take_note(self._store.check())
        self.journal = Journal(
            self._store, self.clock, self._committed, self._threads, self.tell_defect
        )
        self.board = Board(self._changed)
        self.board.version = self._store.version()
        self.reader = Reader(self._store, self.board, self._threads.readers(READERS))
        opened.callback(self.reader.close)
        self.broadcast = Broadcast(self._store, self.board, self.reader.read)
        self._executor = self._threads.operators(self.options.max_running)
        opened.callback(self._executor.shutdown, wait=False, cancel_futures=True)
        self._patterns = DaemonThreads(PATTERNS, name="goflow-patterns")
        opened.callback(self._patterns.shutdown, wait=False, cancel_futures=True)
        slots = Slots(self.options.max_running, self.options.pools)
        self.hanging = Hanging(slots, self.abandoned, self.clock)
        hints = Hints(hints_file(self._store), self._store.epoch, self.notice)
        opened.callback(hints.close)
        hints.open()
        self._dependencies = Dependencies(
            journal=self.journal,
            history=lambda id: self.reader.read(self._store.history, id),
            on_defect=self.tell_defect,
            results=Results(self._store, self.journal, self.clock, self.reader.read),
            clock=self.clock,
            starting_line=StartingLine(self.clock),
            slots=slots,
            abandoned=self.abandoned,
            hanging=self.hanging,
            executors=Executors(self._executor),
            limits=self.options.limits,
            backlog=Backlog(self.clock),
            epoch=self._store.epoch,
            server=process_tag.this_server(),
            end_orphans=self._threads.end_orphans,
            hints=hints,
        )
        self._scheduler = Scheduler(
            self.clock, self._fire, self._enter, self.reader.read, self.notice, self.tell_defect
        )
        for job in self.jobs.values():
            job.pack()  # again: by now the program has been read to its end
        await self._end_orphans()
        self._retention = Retention(self.journal, self.clock, self.options.keep, self._store.jobs())
        self._switches = self._store.switches()
        self._watches = self._store.watches()
        self.journal.start()
        for job in self.jobs.values():
            self._limit(job)
        left = hints.found
        unfinished = recover(self._store, self.board, self.clock, self.notice, self.jobs, left)
        hints.cut()
        for execution in unfinished:
            self._resume(execution)
        for job in self.jobs.values():
            self._replace_again(job)
            self._switch(job.name)
        if self._keeps_time:
            self._spawn(self._keep_up(self._scheduler.run, "the scheduler"), "the scheduler")
            self._spawn(self._keep_up(self._retention.run, "retention"), "retention")

    async def _end_orphans(self) -> None:
        """End the processes of interrupted attempts before these are tried again. An attempt
        that ended by itself may have left processes running on purpose."""
        unfinished = set(self._store.unfinished())
        replayed: dict[str, tuple[Execution, dict[str, str]]] = {}

        def task_of(tag: process_tag.ProcessTag) -> str | None:
            """The task whose interrupted attempt has this tag; None if there is none."""
            id = tag.execution
            if tag.store != self._store.epoch or id not in unfinished:
                return None
            if not process_tag.has_gone(tag.server):  # it serves a copy of this store
                return None
            if id not in replayed:
                history = self._store.history(id)
                assert history is not None
                execution = salvage(history).execution
                replayed[id] = execution, process_tag.tasks_by_key(execution.tasks)
            execution, names = replayed[id]
            task = names.get(tag.task, "")
            return task if execution.is_attempting(task, tag.attempt) else None

        if unfinished:
            for one in await self._threads.end_orphans(lambda tag: task_of(tag) is not None):
                self.notice(
                    f"process {one.pid} was left over from attempt {one.tag.attempt} of task "
                    f"{task_of(one.tag)!r}, execution {one.tag.execution}; it was ended"
                )

    async def stop(self) -> None:
        """Start nothing more, let running attempts end, then end them; close the store.

        What was ended early is recorded as interrupted, and goes on at the next start.
        """
        if not self._started or self._stopping:
            return
        self._stopping = True
        for runner in list(self._runners.values()):
            runner.stop()
        driving = {task for task in self._tasks if task.get_name() == DRIVING}
        if driving:
            await asyncio.wait(driving, timeout=self.options.stop_timeout)
        # What the store does not take now is found out at the next start, as interrupted.
        self.journal.hurry()
        for runner in list(self._runners.values()):
            runner.interrupt()
        if driving:
            await asyncio.wait(driving)
        await self._close()

    async def _close(self) -> None:
        """End what still goes on, write what is queued, and give back all that was opened."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if (journal := getattr(self, "journal", None)) is not None:
            await journal.stop()
        await self.errands.end()
        forked.let_go(asyncio.get_running_loop())
        self._opened.close()
        self._runners.clear()
        self._unwritten.clear()
        self._lineup = Lineup()
        loops.disown_given_up()
        if hasattr(self, "_tools"):
            leaving.note_run(abandoned=self.usage()[0].taken > 0)

    async def _keep_up(self, work: Callable[[], Awaitable[None]], what: str) -> None:
        """Let something run until the engine stops; begin it again, a minute after a defect at
        most, since nothing else would do its work."""
        pause = 1.0
        while True:
            try:
                await work()
            except Exception as error:
                if self._stopping and isinstance(error, Unavailable):
                    return
                self.tell_defect(what, error)
            await self.clock.sleep(pause)
            pause = min(2 * pause, 60.0)

    async def watch_store(self) -> None:
        """Look again and again, though nobody writes, whether the store is still what it was."""
        while True:
            await self.clock.sleep(LOOK)
            try:
                self._take_note(await self.reader.read(self._store.check))
            except StoreUnavailable as error:
                self.journal.doubt(error)

    def _take_note(self, remarks: list[Remark]) -> None:
        for remark in remarks:
            self.notice(remark.text)
            if remark.lost:
                self.lost = remark.text

    def accompany(self, coroutine: Any, what: str) -> None:
        """Let something run beside the engine until it stops; its failure is a defect."""
        self._spawn(coroutine, what)

    def _spawn(self, coroutine: Any, what: str) -> None:
        task = asyncio.get_running_loop().create_task(coroutine, name=what)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            if isinstance(error, Unavailable) and self._stopping:
                logger.warning("stopped before everything was written: %s", error)
                return
            self.tell_defect(task.get_name(), error)

    def tell_defect(self, what: str, error: BaseException) -> None:
        """Something went wrong in goflow itself, in `what`; the rest goes on."""
        self.defect = f"{what}: {reason(error)}"
        text = f"a defect in {self.defect}"
        if not any(notice.text == text for notice in self.notices):
            self.notices.append(Notice(self.clock.now(), text))
        with suppress(Exception):  # a handler of the user's must not make it worse
            logger.critical("defect in %s", what, exc_info=error)

    def all_notices(self) -> "list[Notice]":
        """What people should know of: what has happened, and then what is so now."""
        notices = list(self.notices)
        if (told := self.hanging.told) is not None:
            notices.append(Notice(*told))
        if self.hanging.may_be_stalled:
            running = (
                (since, f"task {name!r} of job {entry.summary.job!r}")
                for entry in self.board
                for name, since in entry.standing.running.items()
            )
            text = self.hanging.stalled(heapq.nsmallest(NAMED, running))
            if text is not None:
                notices.append(Notice(self.clock.now(), text))
        return notices

    def _tell_once(self, text: str) -> None:
        """A notice, unless it is among the last ones already."""
        if not any(notice.text == text for notice in self.notices):
            self.notice(text)

    def notice(self, text: str) -> None:
        """Tell people of something that is no error but that they should see."""
        self.notices.append(Notice(self.clock.now(), text))
        logger.warning("%s", text)

    def _limit(self, job: Job) -> None:
        """Let there be the slots that the job's tasks ask for."""
        slots = self._dependencies.slots
        if job.max_running is not None:
            slots.limit(Kind.JOB, job.name, job.max_running)
        for task in job.tasks:
            if task.pool is not None:  # of an engine that keeps no time, which has no pools
                slots.limit(Kind.POOL, task.pool, self.options.max_running)

    def _resume(self, execution: Execution) -> None:
        """Take up an execution that a stop or a crash interrupted."""
        job = self.jobs.get(execution.job)
        before = [self._runners[id] for id in execution.after if id in self._runners]
        if job is not None and job.overlap is not Overlap.ALLOW and execution.cause != "backfill":
            # One that was sent round again waits for others than when it was submitted.
            before = self._lineup.tail(job.name)
        kept = execution.cause == "schedule"
        self._drive(Runner(execution, job, None, self._dependencies, before), kept=kept)

    def _switch(self, name: str) -> None:
        """Let a job's schedule be on or off, as it now should be."""
        reason = DOWN  # of due times that passed since it was last on, if it was not off
        schedule, watch = self._schedules[name], self._watches.get(name)
        if schedule is None or not self.active(name) or not self._keeps_time:
            self._scheduler.switch_off(name)
            if watch is not None and not watch.schedule.startswith(OFF):
                # Kept, so that it is known after a restart that it was not only down.
                self._watch(name, msgspec.structs.replace(watch, schedule=OFF + watch.schedule))
            return
        text = repr(schedule)
        if watch is None or watch.schedule.removeprefix(OFF) != text:
            # New, or edited: that never fires by itself, and keeps no phase.
            now = self.clock.now().replace(microsecond=0)
            watch = self._watch(name, Watch(text, now, now))
        elif watch.schedule != text:
            reason = SWITCHED_OFF
            watch = self._watch(name, msgspec.structs.replace(watch, schedule=text))
        self._scheduler.switch_on(
            name, schedule, watch.anchor, watch.accounted, self.jobs[name].catchup, reason
        )

    def _watch(self, name: str, watch: Watch) -> Watch:
        self._watches[name] = watch
        self._write_watch(name)
        return watch

    def _write_watch(self, name: str) -> None:
        """Queue a job's watch, and again if it is refused, unless by then another one is."""

        def written(watch: "asyncio.Future[Outcome]") -> None:
            if watch.cancelled() or self._unwritten.get(name) is not watch:
                return
            if watch.exception() is None:
                del self._unwritten[name]
            elif not self._stopping:
                self._spawn(again(watch), "writing a watch")

        async def again(refused: "asyncio.Future[Outcome]") -> None:
            with suppress(Unavailable):  # and nothing else: that would be a defect
                await refused
            await self.clock.sleep(PATIENCE)
            if self._unwritten.get(name) is refused:
                self._write_watch(name)

        queued = self.journal.commit(SetWatch(name, self._watches[name]))
        self._unwritten[name] = queued
        queued.add_done_callback(written)

    # -- requests ------------------------------------------------------------------

    async def submit(
        self,
        job: str,
        params: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        cause: str = "api",
        by: str = "",
    ) -> Submission:
        """Create an execution of a job; it is durable when this returns.

        With the `key` of an earlier submit of the job, answers what that one answered.
        Raises `NotFound`, `InvalidRequest` for bad params, `Conflict` for a key used with
        other params, or where the job's overlap policy leaves no room, and `Unavailable`.
        """
        known = self.job(job)
        if key is None:
            return await self._submit_once(known, params, None, cause, by)
        asked = Idempotency(key, fingerprint(known.given_params(params)))
        # Submits with one key at the same time are one submit; the later ones wait for it.
        while (first := self._keyed.get((job, key))) is not None:
            its_fingerprint, task = first
            same = its_fingerprint == asked.fingerprint
            try:
                accepted = await self.errands.outcome(task)
            except GoflowError:
                if same:
                    raise
                self._forget_keyed(job, key, task)  # what was refused has not used the key
                continue
            if not same:
                raise _other_params(key, job)
            return msgspec.structs.replace(accepted, created=False)
        task = self.errands.begin(self._submit_keyed(known, params, asked, cause, by), "submit")
        self._keyed[job, key] = asked.fingerprint, task
        task.add_done_callback(functools.partial(self._forget_keyed, job, key))
        return await self.errands.outcome(task)

    def _forget_keyed(self, job: str, key: str, task: "asyncio.Task[Submission]") -> None:
        if (found := self._keyed.get((job, key))) is not None and found[1] is task:
            del self._keyed[job, key]

    async def _submit_keyed(
        self,
        job: Job,
        params: Mapping[str, Any] | None,
        asked: Idempotency,
        cause: str,
        by: str,
    ) -> Submission:
        """Submit unless the key was used before: then the answer is what it was, whatever the
        job takes and has room for now."""
        self._check_running()
        kept = await self.reader.read(self._store.submitted_with, job.name, asked.key)
        if kept is None:
            return await self._accept(job, params, asked, cause, by)
        await self._try_patterns(job, params)
        if not agrees(kept.fingerprint, asked.fingerprint, lambda: job.fill_params(params)):
            raise _other_params(asked.key, job.name)
        return Submission(kept.execution, kept.submitted, created=False)

    @seen_through
    async def _submit_once(
        self,
        job: Job,
        params: Mapping[str, Any] | None,
        idempotency: Idempotency | None,
        cause: str,
        by: str,
    ) -> Submission:
        return await self._accept(job, params, idempotency, cause, by)

    async def _accept(
        self,
        job: Job,
        params: Mapping[str, Any] | None,
        idempotency: Idempotency | None,
        cause: str,
        by: str,
    ) -> Submission:
        await self._try_patterns(job, params)
        filled = job.fill_params(params)
        try:
            return await self._submit(job.name, filled, cause, None, idempotency, by)
        except NoRoom as no_room:
            raise Conflict(f"job {job.name!r}: {no_room}", code="overlap") from None

    async def _try_patterns(self, job: Job, params: Mapping[str, Any] | None) -> None:
        """Refuse params whose match with a pattern would take long, without being held up."""
        if found := job.doubtful_params(params):
            loop = asyncio.get_running_loop()
            slow = await loop.run_in_executor(self._patterns, too_slow, found)
            if slow is not None:
                raise job.refuse_slow(slow)

    async def _fire(self, job: str, due: datetime, late: bool) -> str | None:
        """Make the execution of a due time; or why none is made. One that is late, with another
        due time after it, takes no room that is kept for those that are not."""
        await self._watch_written(job)
        watch = self._watches.get(job)
        # The clock may have been set back. What the ledger has as missed may still run then, but
        # what was skipped was decided at its time.
        again = watch is not None and due <= watch.accounted
        if again and await self.reader.read(self._was_skipped, job, due):
            return None
        try:
            params = self.jobs[job].fill_params(None)
        except InvalidRequest as error:  # of a class of the user's, which may do anything
            self._tell_once(f"job {job!r} makes no executions for its schedule: {error}")
            return str(error)
        try:
            await self._submit(job, params, "schedule", due, None, "", kept=not late)
        except NoRoom as no_room:
            return str(no_room)
        return None

    def _was_skipped(self, job: str, due: datetime) -> bool:
        ticks = self._store.ticks(job, due + timedelta(microseconds=1), 1)
        return any(tick.due == due and tick.outcome is TickOutcome.SKIPPED for tick in ticks)

    async def _enter(self, job: str, ticks: list[Tick], accounted: datetime) -> None:
        self._check_running()
        await self._watch_written(job)
        await self.journal.commit(RecordTicks(job, ticks, accounted))

    async def _watch_written(self, job: str) -> None:
        """Wait for what the ledger rests on: with no watch nobody would know where it ends."""
        if (queued := self._unwritten.get(job)) is not None:
            await asyncio.shield(queued)

    async def _submit(
        self,
        name: str,
        params: dict[str, Any],
        cause: str,
        due: datetime | None,
        idempotency: Idempotency | None,
        by: str,
        *,
        kept: bool = False,
    ) -> Submission:
        job = self.jobs[name]
        before = self._before(job)
        runner, outcome = await self._create(
            job, params, cause, due, idempotency, by, before, kept=kept
        )
        if isinstance(outcome, Existing):  # of a tick; a key was looked up before
            return Submission(outcome.execution, outcome.submitted, created=False)
        execution = runner.execution
        self._replace(job, runner)
        return Submission(execution.id, execution.submitted_at, created=True)

    async def _create(
        self,
        job: Job,
        params: dict[str, Any],
        cause: str,
        due: datetime | None,
        idempotency: Idempotency | None,
        by: str,
        before: list[Runner],
        *,
        kept: bool = False,
    ) -> tuple[Runner, Outcome]:
        """Let there be an execution that waits for those before it; what the store said. It may
        take room `kept` for schedules."""
        self._check_running()
        self._check_room(kept=kept)
        if not kept:
            self._check_params_fit(params)
        fact = Submitted(
            self.clock.now(),
            id=str(uuid.UUID(int=self._rng.getrandbits(128), version=4)),
            job=job.name,
            plan=job.plan.id,
            cause=cause,
            params=params,
            scheduled_at=due,
            after=tuple(runner.execution.id for runner in before),
            timeout=job.timeout,
            by=by,
        )
        opening = self._opening(fact, job, idempotency)
        runner = Runner(Execution(job.plan, fact), job, opening, self._dependencies, before)
        return runner, await self._drive(runner, kept=kept)

    @property
    def kept_for_schedules(self) -> int:
        """How many of the unfinished executions that there may be are kept for due times: a
        tenth, at least one, while any schedule is on."""
        most = self.options.max_unfinished
        return max(1, most // KEPT) if most > 1 and len(self._scheduler) else 0

    def has_room(self, *, kept: bool, wanted: int = 1) -> bool:
        """Whether there may be so many more unfinished executions, in room `kept` for schedules
        or not."""
        most, more = self.options.max_unfinished, self._reserved + wanted
        free = len(self._runners) + more <= most
        return free and (kept or len(self._asked_for) + more <= most - self.kept_for_schedules)

    def _check_room(self, *, kept: bool, wanted: int = 1) -> None:
        if self.has_room(kept=kept, wanted=wanted):
            return
        number, most = len(self._runners) + self._reserved, self.options.max_unfinished
        if kept:
            raise Unavailable(f"the limit of unfinished executions was reached: {most}")
        but = ""
        if number < most:
            but = f" of {most} but for {self.kept_for_schedules} kept for schedules"
        limit = "which is the limit" if wanted == 1 else f"so {wanted} more are above the limit"
        raise Unavailable(
            f"{number} executions are unfinished, {limit}{but}; wait until some have finished"
        )

    def _check_params_fit(self, params: dict[str, Any]) -> None:
        """Refuse what would let the params of all that is unfinished take too much memory."""
        most = self.options.limits.params
        if self._params_bytes and self._params_bytes + len(msgspec.json.encode(params)) > most:
            raise Unavailable(
                f"the params of the {len(self._runners)} unfinished executions take "
                f"{self._params_bytes:,} bytes, and may take {most:,}; wait until some finish"
            )

    def _opening(self, fact: Submitted, job: Job, idempotency: Idempotency | None) -> Submit:
        """What creates the execution, and enters its due time in the ledger."""
        due, schedule = fact.scheduled_at, self._schedules[job.name]
        if due is None or schedule is None:
            return Submit(fact, job.plan, idempotency=idempotency)
        change = schedule.clock_change(due)
        if change is None:
            return Submit(fact, job.plan, tick=True, idempotency=idempotency)
        merged = merged_into(due, change, fact.at)
        return Submit(fact, job.plan, True, idempotency, change.reason, merged)

    def _before(self, job: Job) -> list[Runner]:
        """The executions that a new one of the job must wait for. Raises `NoRoom`."""
        unfinished = self._lineup.count(job.name)
        if job.overlap is Overlap.ALLOW or not unfinished:
            return []
        if job.overlap is Overlap.SKIP:
            first = self._lineup.first(job.name).execution.id
            raise NoRoom(f"execution {first} has not ended")
        if job.overlap is Overlap.QUEUE and unfinished > job.max_queued:
            raise NoRoom(f"{unfinished - 1} executions wait already, which is the limit")
        return self._lineup.tail(job.name)

    def _replace(self, job: Job, newest: Runner) -> None:
        """Where the job's policy says so, cancel all that came before this one."""
        if job.overlap is not Overlap.REPLACE:
            return
        by = f"replaced by {newest.execution.id}"
        for runner in self._lineup.of(job.name):
            if runner is newest:
                return
            if not runner.execution.cancelling:
                runner.command(lambda execution, now: execution.cancel(now, by))

    def _replace_again(self, job: Job) -> None:
        """After a restart, which may have come between an execution and what it replaces."""
        of_job = reversed(self._lineup.of(job.name))
        newest = next((one for one in of_job if one.execution.cause != "backfill"), None)
        if newest is not None:
            self._replace(job, newest)

    @seen_through
    async def toggle(self, name: str, active: bool | None = None, *, by: str = "") -> bool:
        """Switch a job's schedule to `active`, or over if None; the new state, durable."""
        self.job(name)
        self._check_running()
        # One at a time, so that each sees what the one before it made true.
        async with self._toggling:
            wanted = not self.active(name) if active is None else active
            await self.journal.commit(SetSwitch(name, wanted, self.clock.now(), by))
        return wanted

    async def cancel(self, id: str, *, by: str = "") -> bool:
        """Stop an execution; False if it has finished. Raises `NotFound`."""
        self._check_running()
        if (runner := self._runners.get(id)) is not None:
            return await runner.command(lambda execution, now: execution.cancel(now, by))
        self._check_driven(id)
        if await self.reader.read(self._store.find, id) is None:
            raise NotFound(f"there is no execution {id!r}", field="id")
        return False

    async def cancel_task(self, id: str, task: str, *, by: str = "") -> bool:
        """Stop one task, the others going on; False if it has ended. Raises `NotFound`."""
        self._check_running()
        if (runner := self._runners.get(id)) is not None:
            _check_task(runner.execution, task)
            return await runner.command(lambda execution, now: execution.cancel_task(task, now, by))
        self._check_driven(id)
        _check_task(await self._replayed(id), task)
        return False

    @seen_through
    async def mark(self, id: str, task: str, state: State, *, by: str = "") -> None:
        """Let a task count as successful or skipped, by hand. Raises `NotFound`, and `Conflict`
        if it runs, is being cancelled, or is in that state already."""
        self._check_running()
        refused = Conflict(
            f"task {task!r} of execution {id!r} cannot be marked {state} now: "
            f"it runs, is being cancelled, or is in that state already"
        )

        def order(execution: Execution, now: datetime) -> list[AnyFact]:
            return execution.mark(task, state, now, by)

        if (runner := self._runners.get(id)) is not None:
            _check_task(runner.execution, task)
            if not await runner.command(order):
                raise refused
            return
        async with self._reopened(id) as (history, execution):
            _check_task(execution, task)
            summary = execution.summary()
            if not (facts := order(execution, self.clock.now())):
                raise refused
            self.board.adopt(history.plan, summary, history.version)
            try:
                await self.journal.commit(record_of(execution, facts))
            except (Unavailable, NotFound):
                self.board.drop(id)
                raise

    @seen_through
    async def retry(
        self,
        id: str,
        *,
        task: str | None = None,
        following: bool = True,
        params: Mapping[str, Any] | None = None,
        by: str = "",
    ) -> None:
        """Send what did not succeed round again, under the same id; or `task` alone, with all
        that comes after it if `following`. With `params`, the execution has those from now on.

        Raises `NotFound`, `InvalidRequest` for bad params, and `Conflict` if the execution is
        unfinished, its job is registered no more, or there is nothing to do again.
        """
        self._check_running()
        async with self._reopened(id) as (history, execution):
            if (job := self.jobs.get(execution.job)) is None:
                raise Conflict(
                    f"job {execution.job!r} is not registered with this server any more, so "
                    f"there is nothing to run again for execution {id!r}",
                    code="job-gone",
                )
            if task is not None:
                _check_task(execution, task)
            await self._try_patterns(job, params)
            edited = None if params is None else job.fill_params(params)
            before = self._before(job)
            self._check_room(kept=False)
            summary = execution.summary()
            now = self.clock.now()
            facts = execution.retry(now, task, following=following, params=edited, by=by)
            if not facts:
                raise Conflict(
                    f"every task of execution {id!r} succeeded; there is nothing to retry"
                )
            self.board.adopt(history.plan, summary, history.version)
            self._check_running()
            runner = Runner(execution, job, record_of(execution, facts), self._dependencies, before)
            try:
                await self._drive(runner)
            except (Unavailable, NotFound):
                self.board.drop(id)
                raise
            self._replace(job, runner)

    @asynccontextmanager
    async def _reopened(self, id: str) -> AsyncIterator[tuple[History, Execution]]:
        """A finished execution, to be changed by nobody else meanwhile."""
        if id in self._runners or id in self._reopening:
            raise Conflict(f"execution {id!r} is unfinished; cancel it or wait for its end")
        self._check_driven(id)
        self._reopening.add(id)
        try:
            history = await self.reader.read(self._store.history, id)
            if history is None:
                raise NotFound(f"there is no execution {id!r}", field="id")
            execution, _, damage = salvage(history)
            if damage is not None and not execution.finished:
                raise Conflict(
                    f"execution {id!r} cannot be changed, since its history is damaged: {damage}",
                    code="damaged",
                )
            yield history, execution
        except NoRoom as no_room:
            raise Conflict(str(no_room), code="overlap") from None
        finally:
            self._reopening.discard(id)

    async def _replayed(self, id: str) -> Execution:
        history = await self.reader.read(self._store.history, id)
        if history is None:
            raise NotFound(f"there is no execution {id!r}", field="id")
        return salvage(history).execution

    @seen_through
    async def backfill(
        self,
        name: str,
        start: datetime,
        end: datetime,
        *,
        parallel: int = 1,
        params: Mapping[str, Any] | None = None,
        dry_run: bool = False,
        by: str = "",
    ) -> list[Backfilled]:
        """Run a job for its due times from `start` up to, not including, `end`, oldest first,
        at most `parallel` at once, leaving out those that have run already.

        They are all created, durably, before this returns; each waits for the one `parallel`
        before it. With `dry_run` nothing is created. What was made stays if the store refuses
        the rest; to ask again then makes the rest, still `parallel` at once. Raises `NotFound`,
        `InvalidRequest` for a range that is none, in the future, or of more than 1000 due times
        or than may be unfinished at all, `Conflict` for a job without a schedule, and
        `Unavailable`, with nothing made, where there is no room for all of them now.
        """
        job, schedule = self.job(name), self.schedule(name)
        await self._try_patterns(job, params)
        filled = job.fill_params(params)
        if schedule is None:
            raise Conflict(f"job {name!r} has no schedule, so it has no due times to run for")
        check_range(start, end, self.clock.now())
        watch = self._watches.get(name)
        anchor = start if watch is None else watch.anchor
        dues = await self.reader.read(due_times, schedule, start, end, anchor)
        fired = await self.reader.read(executions_of, self._store, name, start, end)
        if dry_run:
            return [Backfilled(due, fired.get(due), created=False) for due in dues]
        with self._reserving(sum(due not in fired for due in dues)) as take:
            result: list[Backfilled] = []
            # The last `parallel` of the range that are not over, whoever made them.
            last: deque[Runner] = deque(maxlen=parallel)
            for due in dues:
                if (known := fired.get(due)) is None:
                    before = [last[0]] if len(last) == parallel else []
                    take()
                    runner, outcome = await self._create(
                        job, filled, "backfill", due, None, by, before
                    )
                    if not isinstance(outcome, Existing):
                        last.append(runner)
                        result.append(Backfilled(due, runner.execution.id, created=True))
                        continue
                    known = outcome.execution
                if (under_way := self._runners.get(known)) is not None:
                    last.append(under_way)
                result.append(Backfilled(due, known, created=False))
            return result

    @contextmanager
    def _reserving(self, number: int) -> Iterator[Callable[[], None]]:
        """Keep room for so many executions; what it gives is called before each is made."""
        most = self.options.max_unfinished - self.kept_for_schedules
        if number > most:
            raise InvalidRequest(
                f"the range holds {number} due times to run for, and at most {most} executions "
                f"may be unfinished that no schedule makes; take a smaller one",
                code="invalid-range",
                field="to",
            )
        self._check_room(kept=False, wanted=number)
        left = number
        self._reserved += number

        def take() -> None:
            nonlocal left
            if left:
                left -= 1
                self._reserved -= 1

        try:
            yield take
        finally:
            self._reserved -= left

    def usage(self) -> list[Usage]:
        """How each limit on running tasks is used, the one on all of them first."""
        return self._dependencies.slots.usage()

    async def coming(self, until: datetime, limit: int, each: int) -> list[Coming]:
        """The next due times of all jobs whose schedules are on, up to `until`, in order of
        time; at most `each` of a job, and `limit` in all."""
        nearest = self._scheduler.nearest(until, limit)
        return await self.reader.read(in_order_of_time, nearest, until, limit, each)

    @property
    def lateness(self) -> Peak:
        """How late due times were recorded."""
        return self._scheduler.lateness

    @property
    def store(self) -> Store:
        return self._store

    @property
    def scheduled(self) -> int:
        """How many jobs' schedules are on."""
        return len(self._scheduler)

    def runner(self, id: str) -> Runner | None:
        """Who drives an unfinished execution; to be asked what it waits for, for people."""
        return self._runners.get(id)

    def waiting(self, id: str, task: str) -> str | None:
        """Why a task that is ready does not run, for people; None if it does not wait."""
        runner = self._runners.get(id)
        return None if runner is None else runner.waiting(task)

    def schedule(self, name: str) -> Schedule | None:
        """A job's schedule. Raises `NotFound`."""
        self.job(name)
        return self._schedules[name]

    def upcoming(self, name: str, count: int) -> list[datetime]:
        """The next `count` due times of a job, whether or not its schedule is on."""
        schedule = self.schedule(name)
        times: list[datetime] = []
        at = self.clock.now()
        watch = self._watches.get(name)
        anchor = at.replace(microsecond=0) if watch is None else watch.anchor
        while schedule is not None and len(times) < count:
            following = schedule.next(at, anchor=anchor)
            if following is None:
                break
            times.append(following)
            at = following
        return times

    async def calendar(self, name: str, timezone: str, days: int) -> list[tuple[date, Activity]]:
        """What a job did on each of the last `days` days of a time zone, today included, oldest
        first; days on which it did nothing are left out. Raises `InvalidRequest` for a zone
        that there is not, and `NotFound`."""
        await self.check_known(name)
        now = self.clock.now()

        def read() -> list[tuple[date, Activity]]:
            try:
                zone = find_zone(timezone)
            except ValueError as error:
                raise InvalidRequest(
                    str(error), code="invalid-timezone", field="timezone"
                ) from None
            found = list(last_days(zone, now, days))
            spans = self._store.activity(name, [begin for _, begin in found])
            return [(day, did) for (day, _), did in zip(found, spans, strict=False) if did.counts]

        return await self.reader.read(read)

    async def ticks(self, name: str, before: datetime | None, limit: int) -> list[Tick]:
        """A job's ledger, newest first, from due times before `before` on. Raises `NotFound`."""
        await self.check_known(name)
        return await self.reader.ticks(name, before, limit)

    async def check_known(self, name: str) -> None:
        """Raise `NotFound` for a job that neither is registered nor has any history."""
        if name not in self.jobs and not await self.reader.read(self._store.knows, name):
            self.job(name)

    async def finished(self, id: str) -> None:
        """Wait until an execution is not under way any more."""
        if (runner := self._runners.get(id)) is not None:
            await asyncio.shield(runner.over)

    def _check_running(self) -> None:
        if not self._started or self._stopping:
            raise Stopping("the server is stopping")

    def _check_driven(self, id: str) -> None:
        """Refuse what is asked of an execution that a defect has stopped in the middle."""
        on_its_way = id in self._runners or id in self._reopening
        if not on_its_way and self.board.get(id) is not None:
            raise Unavailable(
                f"execution {id!r} was stopped by a defect in goflow, and its end could not be "
                f"written; it goes on when the server is started again"
            )

    def _drive(self, runner: Runner, *, kept: bool = False) -> "asyncio.Future[Outcome]":
        """Let a runner run, in room `kept` for schedules or not. Done once its opening is
        committed, whoever still waits for that."""
        execution = runner.execution
        self._runners[execution.id] = runner
        self._params_bytes += runner.params_bytes
        if not kept:
            self._asked_for.add(execution.id)
        self._lineup.add(runner)
        self._spawn(self._run(runner), DRIVING)
        return asyncio.shield(runner.opened)

    async def _run(self, runner: Runner) -> None:
        try:
            await runner.run()
        finally:
            del self._runners[runner.execution.id]
            self._params_bytes -= runner.params_bytes
            self._asked_for.discard(runner.execution.id)
            self._lineup.remove(runner)

    def _committed(self, change: Change, outcome: Outcome) -> None:
        """The journal's word that a change is durable."""
        match change:
            case SetSwitch():
                was_on = change.job in self.jobs and self.active(change.job)
                self._switches[change.job] = change
                if change.job in self.jobs and was_on is not change.active:
                    self._switch(change.job)
            case RecordTicks():
                self._account(change.job, change.accounted)
            case Purge():
                # A round of retention is many purges: only at its end is everything read anew.
                if self._purged and not outcome:
                    self.reader.marks.forget()
                self._purged = bool(outcome)
            case _:
                if isinstance(change, Submit) and change.accounts:
                    assert change.fact.scheduled_at is not None
                    self._account(change.fact.job, change.fact.scheduled_at)
                self.board.committed(change, outcome)

    def _changed(self, entry: Entry) -> None:
        """The board's word that an execution is not as it was."""
        self.reader.marks.changed(entry.summary.job)
        if entry.summary.state.finished:
            self._retention.note(entry.summary.job)
        self.broadcast.publish(entry)

    def _account(self, job: str, accounted: datetime) -> None:
        watch = self._watches.get(job)
        if watch is not None and accounted > watch.accounted:
            self._watches[job] = msgspec.structs.replace(watch, accounted=accounted)


DRIVING = "an execution"
LOOK = 1.0  # seconds between two looks at the store's files
OFF = "off "  # before the schedule of a watch that was switched off
KEPT = 10  # one in so many of the unfinished executions is kept for schedules
DAY = 86_400  # seconds
PATTERNS = 2  # requests whose patterns are tried at once, each in a process
READERS = 4  # questions put to the store at once


class NoRoom(Exception):
    """The job's overlap policy makes no execution now; says why."""


class Notice(msgspec.Struct, frozen=True):
    """Something that people should know of."""

    at: datetime
    text: str


def _other_params(key: str, job: str) -> Conflict:
    return Conflict(
        f"Idempotency-Key {key!r} was used before for job {job!r} with other params",
        code="idempotency-conflict",
        field="Idempotency-Key",
    )


def _check_task(execution: Execution, task: str) -> None:
    if task not in execution.tasks:
        raise NotFound(f"execution {execution.id!r} has no task {task!r}", field="task")
