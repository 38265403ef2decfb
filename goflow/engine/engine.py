"""Engine: register, submit, toggle, cancel, retry; it owns every runner.

Every answer it gives is of committed facts: what it says has happened survives kill -9.
"""

import asyncio
import hashlib
import logging
import random
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import date, datetime
from typing import Any

import msgspec

from goflow.core.catchup import Overlap
from goflow.core.days import last_days
from goflow.core.events import AnyFact, Submitted
from goflow.core.execution import Execution
from goflow.core.schedule import Schedule, find_zone
from goflow.core.states import State
from goflow.engine import forked, leaving, loops
from goflow.engine.backfill import Backfilled, check_range, due_times, executions_of
from goflow.engine.board import Board, Entry
from goflow.engine.broadcast import Broadcast
from goflow.engine.capture import captured
from goflow.engine.clock import Clock, SystemClock
from goflow.engine.journal import PATIENCE, Journal
from goflow.engine.peak import Peak
from goflow.engine.reader import Reader
from goflow.engine.recovery import record_of, recover, salvage
from goflow.engine.results import Results
from goflow.engine.retention import Keep, Retention
from goflow.engine.runner import Limits, Runner, Tools
from goflow.engine.scheduler import (
    DOWN,
    SWITCHED_OFF,
    Coming,
    Scheduler,
    in_order_of_time,
    merged_into,
)
from goflow.engine.slots import Kind, Slots, Usage
from goflow.engine.threads import Threads
from goflow.errors import Conflict, InvalidJob, InvalidRequest, NotFound, Stopping, Unavailable
from goflow.job import Job, check_name
from goflow.operators import cookie
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
    SetSwitch,
    SetWatch,
    Store,
    Submit,
    Tick,
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
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number from 1, not {value!r}")
        if not isinstance(self.pools, dict):
            raise ValueError(f"pools must map names to sizes, not {self.pools!r}")
        for pool, size in self.pools.items():
            check_name("pool", pool)
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise ValueError(f"pools: {pool!r} must have a whole size from 1, not {size!r}")
        stop = self.stop_timeout
        if isinstance(stop, bool) or not isinstance(stop, int | float) or not 0 <= stop <= 86_400:
            raise ValueError(f"stop_timeout must be 0 to 86400 seconds, not {stop!r}")
        if not isinstance(self.with_seconds, bool):
            raise ValueError(f"with_seconds must be True or False, not {self.with_seconds!r}")


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
        self._of_job: dict[str, dict[str, Runner]] = {}  # the same, oldest first
        self._asked_for: set[str] = set()  # those that take no room kept for schedules
        self._tasks: set[asyncio.Task[Any]] = set()
        self._toggling = asyncio.Lock()
        self._reopening: set[str] = set()
        self._purged = False  # whether the last purge found something to forget
        self._started = False
        self._stopping = False
        self.defect: str | None = None  # what went wrong that never should
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
        self._store.open()
        self._started = True
        self.started_at = self.clock.now()
        self._capture = captured()
        self._capture.__enter__()
        self._forks = forked.own(asyncio.get_running_loop())
        self._forks.__enter__()
        self.journal = Journal(
            self._store, self.clock, self._committed, self._threads, self.tell_defect
        )
        self.board = Board(self._changed)
        self.board.version = self._store.version()
        self.reader = Reader(self._store, self.board, self._threads.readers(READERS))
        self.broadcast = Broadcast(self._store, self.board, self.reader.read)
        self._executor = self._threads.operators(self.options.max_running)
        self._tools = Tools(
            journal=self.journal,
            history=lambda id: self.reader.read(self._store.history, id),
            on_defect=self.tell_defect,
            results=Results(self._store, self.journal, self.clock, self.reader.read),
            clock=self.clock,
            slots=Slots(self.options.max_running, self.options.pools),
            executor=self._executor,
            limits=self.options.limits,
            epoch=self._store.epoch,
            server=cookie.this_server(),
            end_leftovers=self._threads.end_leftovers,
        )
        self._scheduler = Scheduler(
            self.clock, self._fire, self._enter, self.reader.read, self.notice, self.tell_defect
        )
        for job in self.jobs.values():
            job.pack()  # again: by now the program has been read to its end
        await self._end_leftovers()
        self._retention = Retention(self.journal, self.clock, self.options.keep)
        self._switches = self._store.switches()
        self._watches = self._store.watches()
        self.journal.start()
        for job in self.jobs.values():
            self._limit(job)
        for execution in recover(self._store, self.board, self.clock, self.notice):
            self._resume(execution)
        for name in self.jobs:
            self._switch(name)
        if self._keeps_time:
            self._spawn(self._keep_up(self._scheduler.run, "the scheduler"), "the scheduler")
            self._spawn(self._keep_up(self._retention.run, "retention"), "retention")

    async def _end_leftovers(self) -> None:
        """End what attempts that a crash interrupted have left running, before they are tried
        again. What an attempt that has ended left behind was left on purpose."""
        unfinished = set(self._store.unfinished())
        replayed: dict[str, Execution] = {}

        def was_running(found: cookie.Cookie) -> bool:
            id = found.execution
            if found.epoch != self._store.epoch or id not in unfinished:
                return False
            if not cookie.has_gone(found.server):  # it serves a copy of this store
                return False
            if id not in replayed:
                history = self._store.history(id)
                assert history is not None
                replayed[id] = salvage(history).execution
            return replayed[id].is_attempting(found.place, found.attempt)

        if unfinished:
            for one in await self._threads.end_leftovers(was_running):
                task = replayed[one.cookie.execution].plan.tasks[one.cookie.place].name
                self.notice(
                    f"process {one.pid} was left over from attempt {one.cookie.attempt} of task "
                    f"{task!r}, execution {one.cookie.execution}; it was ended"
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
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.journal.stop()
        self._executor.shutdown(wait=False, cancel_futures=True)
        self.reader.close()
        self._store.close()
        self._capture.__exit__(None, None, None)
        forked.let_go(asyncio.get_running_loop())
        self._forks.__exit__(None, None, None)
        loops.disown_given_up()
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
        slots = self._tools.slots
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
            before = list(self._of_job.get(job.name, {}).values())
        kept = execution.cause == "schedule"
        self._drive(Runner(execution, job, None, self._tools, before), kept=kept)
        if job is not None and job.overlap is Overlap.REPLACE:
            self._replace(before, execution.id)

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
        filled = self.job(job).fill_params(params)
        idempotency = None
        if key is not None:
            asked = msgspec.json.encode(filled, order="sorted")
            idempotency = Idempotency(key, hashlib.sha256(asked).hexdigest())
        try:
            return await self._submit(job, filled, cause, None, idempotency, by)
        except NoRoom as no_room:
            if key is not None and (kept := await self._kept(job, key, idempotency)) is not None:
                return kept
            raise Conflict(f"job {job!r}: {no_room}", code="overlap") from None

    async def _fire(self, job: str, due: datetime, late: bool) -> str | None:
        """Make the execution of a due time; or why none is made. One that is late, with another
        due time after it, takes no room that is kept for those that are not."""
        await self._watch_written(job)
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
        if isinstance(outcome, Existing):
            return _existing(outcome, name, idempotency)
        execution = runner.execution
        if job.overlap is Overlap.REPLACE:
            self._replace(before, execution.id)
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
        runner = Runner(Execution(job.plan, fact), job, opening, self._tools, before)
        return runner, await self._drive(runner, kept=kept)

    @property
    def kept_for_schedules(self) -> int:
        """How many of the unfinished executions that there may be are kept for due times: a
        tenth, at least one, while any schedule is on."""
        most = self.options.max_unfinished
        return max(1, most // KEPT) if most > 1 and len(self._scheduler) else 0

    def has_room(self, *, kept: bool) -> bool:
        """Whether there may be one more unfinished execution, in room `kept` for schedules or
        not."""
        most = self.options.max_unfinished
        free = len(self._runners) < most
        return free and (kept or len(self._asked_for) < most - self.kept_for_schedules)

    def _check_room(self, *, kept: bool) -> None:
        if self.has_room(kept=kept):
            return
        number, most = len(self._runners), self.options.max_unfinished
        if kept:
            raise Unavailable(f"the limit of unfinished executions was reached: {most}")
        but = ""
        if number < most:
            but = f" of {most} but for {self.kept_for_schedules} kept for schedules"
        raise Unavailable(
            f"{number} executions are unfinished, which is the limit{but}; "
            f"wait until some have finished"
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
        unfinished = list(self._of_job.get(job.name, {}).values())
        if job.overlap is Overlap.ALLOW or not unfinished:
            return []
        if job.overlap is Overlap.SKIP:
            raise NoRoom(f"execution {unfinished[0].execution.id} has not ended")
        if job.overlap is Overlap.QUEUE and len(unfinished) > job.max_queued:
            raise NoRoom(f"{len(unfinished) - 1} executions wait already, which is the limit")
        return unfinished

    def _replace(self, before: list[Runner], id: str) -> None:
        for runner in before:
            runner.order(lambda execution, now: execution.cancel(now, f"replaced by {id}"))

    async def _kept(self, job: str, key: str, idempotency: Idempotency | None) -> Submission | None:
        """What an earlier submit with this key was answered, whatever there is room for now."""
        kept = await self.reader.read(self._store.submitted_with, job, key)
        return None if kept is None else _existing(kept, job, idempotency)

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
            return await runner.order(lambda execution, now: execution.cancel(now, by))
        self._check_driven(id)
        if await self.reader.read(self._store.find, id) is None:
            raise NotFound(f"there is no execution {id!r}", field="id")
        return False

    async def cancel_task(self, id: str, task: str, *, by: str = "") -> bool:
        """Stop one task, the others going on; False if it has ended. Raises `NotFound`."""
        self._check_running()
        if (runner := self._runners.get(id)) is not None:
            _check_task(runner.execution, task)
            return await runner.order(lambda execution, now: execution.cancel_task(task, now, by))
        self._check_driven(id)
        _check_task(await self._replayed(id), task)
        return False

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
            if not await runner.order(order):
                raise refused
            return
        async with self._reopened(id) as (history, execution):
            _check_task(execution, task)
            summary = execution.summary()
            if not (facts := order(execution, self.clock.now())):
                raise refused
            self.board.adopt(history.plan, summary, history.version)
            try:
                await asyncio.shield(self.journal.commit(record_of(execution, facts)))
            except (Unavailable, NotFound):
                self.board.drop(id)
                raise

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
        unfinished or there is nothing to do again.
        """
        self._check_running()
        async with self._reopened(id) as (history, execution):
            job = self.jobs.get(execution.job)
            if task is not None:
                _check_task(execution, task)
            edited = None
            if params is not None:
                edited = self.job(execution.job).fill_params(params)
            before = self._before(job) if job is not None else []
            self._check_room(kept=False)
            summary = execution.summary()
            now = self.clock.now()
            facts = execution.retry(now, task, following=following, params=edited, by=by)
            if not facts:
                raise Conflict(
                    f"every task of execution {id!r} succeeded; there is nothing to retry"
                )
            self.board.adopt(history.plan, summary, history.version)
            opening = record_of(execution, facts)
            try:
                await self._drive(Runner(execution, job, opening, self._tools, before))
            except (Unavailable, NotFound):
                self.board.drop(id)
                raise

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
        before it. With `dry_run` nothing is created. Raises `NotFound`, `InvalidRequest` for
        a range that is none, in the future, or of more than 1000 due times, and
        `Conflict` for a job without a schedule.
        """
        job, schedule = self.job(name), self.schedule(name)
        filled = job.fill_params(params)
        if schedule is None:
            raise Conflict(f"job {name!r} has no schedule, so it has no due times to run for")
        check_range(start, end, self.clock.now())
        watch = self._watches.get(name)
        anchor = start if watch is None else watch.anchor
        dues = await self.reader.read(due_times, schedule, start, end, anchor)
        fired = await self.reader.read(executions_of, self._store, name, start, end)
        result: list[Backfilled] = []
        created: deque[Runner] = deque(maxlen=parallel)
        for due in dues:
            if (execution := fired.get(due)) is not None:
                result.append(Backfilled(due, execution, created=False))
            elif dry_run:
                result.append(Backfilled(due, None, created=False))
            else:
                before = [created[0]] if len(created) == parallel else []
                runner, outcome = await self._create(job, filled, "backfill", due, None, by, before)
                if isinstance(outcome, Existing):
                    result.append(Backfilled(due, outcome.execution, created=False))
                else:
                    created.append(runner)
                    result.append(Backfilled(due, runner.execution.id, created=True))
        return result

    def usage(self) -> list[Usage]:
        """How each limit on running tasks is used, the one on all of them first."""
        return self._tools.slots.usage()

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
        that there is not."""
        self.job(name)
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
        if not kept:
            self._asked_for.add(execution.id)
        self._of_job.setdefault(execution.job, {})[execution.id] = runner
        self._spawn(self._run(runner), DRIVING)
        return asyncio.shield(runner.opened)

    async def _run(self, runner: Runner) -> None:
        try:
            await runner.run()
        finally:
            execution = runner.execution
            del self._runners[execution.id]
            self._asked_for.discard(execution.id)
            del self._of_job[execution.job][execution.id]
            if not self._of_job[execution.job]:
                del self._of_job[execution.job]

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
                if isinstance(change, Submit):
                    self._retention.note(change.fact.job)
                    if change.accounts:
                        assert change.fact.scheduled_at is not None
                        self._account(change.fact.job, change.fact.scheduled_at)
                self.board.committed(change, outcome)

    def _changed(self, entry: Entry) -> None:
        """The board's word that an execution is not as it was."""
        self.reader.marks.changed(entry.summary.job)
        self.broadcast.publish(entry)

    def _account(self, job: str, accounted: datetime) -> None:
        watch = self._watches.get(job)
        if watch is not None and accounted > watch.accounted:
            self._watches[job] = msgspec.structs.replace(watch, accounted=accounted)


DRIVING = "an execution"
OFF = "off "  # before the schedule of a watch that was switched off
KEPT = 10  # one in so many of the unfinished executions is kept for schedules
READERS = 4  # questions put to the store at once


class NoRoom(Exception):
    """The job's overlap policy makes no execution now; says why."""


class Notice(msgspec.Struct, frozen=True):
    """Something that people should know of."""

    at: datetime
    text: str


def _existing(found: Existing, job: str, idempotency: Idempotency | None) -> Submission:
    if idempotency is not None and found.fingerprint != idempotency.fingerprint:
        raise Conflict(
            f"Idempotency-Key {idempotency.key!r} was used before for job {job!r} "
            f"with other params",
            code="idempotency-conflict",
            field="Idempotency-Key",
        )
    return Submission(found.execution, found.submitted, created=False)


def _check_task(execution: Execution, task: str) -> None:
    if task not in execution.tasks:
        raise NotFound(f"execution {execution.id!r} has no task {task!r}", field="task")
