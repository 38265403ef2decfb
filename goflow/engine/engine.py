"""Engine: register, submit, toggle, cancel, retry; it owns every runner.

Every answer it gives is of committed facts: what it says has happened survives kill -9.
"""

import asyncio
import hashlib
import logging
import random
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from goflow.core.events import Submitted
from goflow.core.execution import Execution
from goflow.core.schedule import Schedule
from goflow.engine.board import Board
from goflow.engine.broadcast import Broadcast
from goflow.engine.capture import captured
from goflow.engine.clock import Clock, SystemClock
from goflow.engine.journal import Journal
from goflow.engine.reader import Reader
from goflow.engine.recovery import recover
from goflow.engine.runner import Limits, Runner, Tools
from goflow.engine.scheduler import Scheduler
from goflow.engine.slots import Slots
from goflow.engine.threads import DaemonThreads
from goflow.errors import Conflict, InvalidJob, NotFound, Stopping, Unavailable
from goflow.job import Job
from goflow.stores.base import (
    Anchor,
    Change,
    Existing,
    Idempotency,
    Outcome,
    Record,
    SetAnchor,
    SetSwitch,
    Store,
    Submit,
)

logger = logging.getLogger(__name__)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The engine's settings, checked whole.

    - `max_running`: attempts running at once, over all executions.
    - `max_unfinished`: executions unfinished at once; further submits are refused.
    - `stop_timeout`: seconds that running attempts have to end by themselves at a stop.
    - `with_seconds`: whether cron may have six fields, the first one seconds.
    - `limits`: see `Limits`.
    """

    with_seconds: bool = False
    max_running: int = 128
    max_unfinished: int = 10_000
    stop_timeout: float = 5.0
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        for name in ("max_running", "max_unfinished"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number from 1, not {value!r}")
        stop = self.stop_timeout
        if isinstance(stop, bool) or not isinstance(stop, int | float) or not 0 <= stop <= 86_400:
            raise ValueError(f"stop_timeout must be 0 to 86400 seconds, not {stop!r}")
        if not isinstance(self.with_seconds, bool):
            raise ValueError(f"with_seconds must be True or False, not {self.with_seconds!r}")


class Submission(msgspec.Struct, frozen=True):
    """An accepted submit. `created` is False when its tick or key had been used before."""

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
        keeps_time: bool = True,
    ) -> None:
        self.options = options or Options()
        self.clock: Clock = clock or SystemClock()
        self.jobs: dict[str, Job] = {}
        self._store = store
        # Ids must not repeat after a restart or a fork, so the default is the system's source.
        self._rng = rng or random.SystemRandom()
        self._keeps_time = keeps_time  # False: schedules never fire
        self._schedules: dict[str, Schedule | None] = {}
        self._switches: dict[str, bool] = {}
        self._anchors: dict[str, Anchor] = {}
        self._runners: dict[str, Runner] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._toggling = asyncio.Lock()
        self._retrying: set[str] = set()
        self._started = False
        self._stopping = False
        self.defect: str | None = None  # what went wrong that never should

    # -- jobs ----------------------------------------------------------------------

    def register(self, job: Job) -> Job:
        """Take up a job, before or after the start. Raises `InvalidJob`."""
        if job.name in self.jobs:
            raise InvalidJob(f"job {job.name!r} is registered already; names must differ")
        job.seal()
        schedule = job.schedule_for(with_seconds=self.options.with_seconds)
        self.jobs[job.name] = job
        self._schedules[job.name] = schedule
        if self._started:
            self._switch(job.name)
        return job

    def job(self, name: str) -> Job:
        """The registered job of that name. Raises `NotFound`."""
        if (job := self.jobs.get(name)) is None:
            raise NotFound(f"there is no job {name!r}", field="job")
        return job

    def active(self, name: str) -> bool:
        """Whether a job's schedule is on."""
        return self._switches.get(name, self.jobs[name].active)

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
        self._capture = captured()
        self._capture.__enter__()
        self.journal = Journal(self._store, self.clock, self._committed)
        self.board = Board(lambda entry: self.broadcast.publish(entry))
        self.board.version = self._store.version()
        self.reader = Reader(self._store, self.board)
        self.broadcast = Broadcast(self._store, self.board, self.reader.read)
        self._executor = DaemonThreads(self.options.max_running)
        self._tools = Tools(
            journal=self.journal,
            clock=self.clock,
            slots=Slots(self.options.max_running),
            executor=self._executor,
            limits=self.options.limits,
        )
        self._scheduler = Scheduler(self.clock, self._fire)
        self._switches = self._store.switches()
        self._anchors = self._store.anchors()
        self.journal.start()
        for execution in recover(self._store, self.board, self.clock):
            self._drive(Runner(execution, self.jobs.get(execution.job), None, self._tools))
        for name in self.jobs:
            self._switch(name)
        self._spawn(self._scheduler.run(), "the scheduler")

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
            self.defect = f"{task.get_name()}: {type(error).__name__}: {error}"
            logger.critical("defect in %s", task.get_name(), exc_info=error)

    def _switch(self, name: str) -> None:
        """Let a job's schedule be on or off, as it now should be."""
        schedule = self._schedules[name]
        if schedule is None or not self.active(name) or not self._keeps_time:
            self._scheduler.switch_off(name)
        else:
            self._scheduler.switch_on(name, schedule, self._anchor(name, schedule))

    def _anchor(self, name: str, schedule: Schedule) -> datetime:
        """The phase of an `@every` schedule, kept across restarts while its interval stays."""
        now = self.clock.now().replace(microsecond=0)
        if schedule.interval is None:
            return now
        interval = schedule.interval.total_seconds()
        anchor = self._anchors.get(name)
        if anchor is None or anchor.interval != interval:
            anchor = self._anchors[name] = Anchor(interval, now)
            self._keep(SetAnchor(name, interval, now))
        return anchor.at

    def _keep(self, change: Change) -> None:
        """Queue a change that nobody waits for; if it is not written, try until it is."""

        def written(future: "asyncio.Future[Outcome]") -> None:
            if not future.cancelled() and future.exception() is not None:
                self._spawn(self.journal.insist(change), "keeping a change")

        self.journal.commit(change).add_done_callback(written)

    # -- requests ------------------------------------------------------------------

    async def submit(
        self,
        job: str,
        params: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        cause: str = "api",
    ) -> Submission:
        """Create an execution of a job; it is durable when this returns.

        With the `key` of an earlier submit of the job, answers what that one answered.
        Raises `NotFound`, `InvalidRequest` for bad params, `Conflict` for a key used with
        other params, and `Unavailable`.
        """
        filled = self.job(job).fill_params(params)
        idempotency = None
        if key is not None:
            asked = msgspec.json.encode(filled, order="sorted")
            idempotency = Idempotency(key, hashlib.sha256(asked).hexdigest())
        return await self._submit(job, filled, cause, None, idempotency)

    async def _fire(self, job: str, due: datetime) -> Submission:
        return await self._submit(job, self.jobs[job].fill_params(None), "schedule", due, None)

    async def _submit(
        self,
        name: str,
        params: dict[str, Any],
        cause: str,
        due: datetime | None,
        idempotency: Idempotency | None,
    ) -> Submission:
        self._check_running()
        if len(self._runners) >= self.options.max_unfinished:
            raise Unavailable(
                f"{len(self._runners)} executions are unfinished, which is the limit; "
                f"wait until some have finished"
            )
        job = self.jobs[name]
        fact = Submitted(
            self.clock.now(),
            id=str(uuid.UUID(int=self._rng.getrandbits(128), version=4)),
            job=name,
            plan=job.plan.id,
            cause=cause,
            params=params,
            scheduled_at=due,
        )
        opening = Submit(fact, job.plan, tick=due is not None, idempotency=idempotency)
        outcome = await self._drive(Runner(Execution(job.plan, fact), job, opening, self._tools))
        if isinstance(outcome, Existing):
            if idempotency is not None and outcome.fingerprint != idempotency.fingerprint:
                raise Conflict(
                    f"Idempotency-Key {idempotency.key!r} was used before for job {name!r} "
                    f"with other params",
                    code="idempotency-conflict",
                    field="Idempotency-Key",
                )
            return Submission(outcome.execution, outcome.submitted, created=False)
        return Submission(fact.id, fact.at, created=True)

    async def toggle(self, name: str, active: bool | None = None) -> bool:
        """Switch a job's schedule to `active`, or over if None; the new state, durable."""
        self.job(name)
        self._check_running()
        # One at a time, so that each sees what the one before it made true.
        async with self._toggling:
            wanted = not self.active(name) if active is None else active
            await self.journal.commit(SetSwitch(name, wanted, self.clock.now()))
        return wanted

    async def cancel(self, id: str) -> bool:
        """Stop an execution; False if it has finished. Raises `NotFound`."""
        self._check_running()
        if (runner := self._runners.get(id)) is not None:
            return await runner.cancel()
        if await self.reader.read(self._store.find, id) is None:
            raise NotFound(f"there is no execution {id!r}", field="id")
        return False

    async def retry(self, id: str) -> None:
        """Send what did not succeed round again, under the same id.

        Raises `NotFound`, and `Conflict` if the execution is unfinished or succeeded whole.
        """
        self._check_running()
        if id in self._runners or id in self._retrying:
            raise Conflict(f"execution {id!r} is unfinished; cancel it or wait for its end")
        self._retrying.add(id)
        try:
            await self._retry(id)
        finally:
            self._retrying.discard(id)

    async def _retry(self, id: str) -> None:
        history = await self.reader.read(self._store.history, id)
        if history is None:
            raise NotFound(f"there is no execution {id!r}", field="id")
        execution = Execution.replay(history.plan, history.facts)
        summary = execution.summary()
        if not (facts := execution.retry(self.clock.now())):
            raise Conflict(f"every task of execution {id!r} succeeded; there is nothing to retry")
        self.board.adopt(history.plan, summary, history.version)
        record = Record(id, facts, execution.state, execution.modified_at)
        runner = Runner(execution, self.jobs.get(execution.job), record, self._tools)
        try:
            await self._drive(runner)
        except Unavailable:
            self.board.drop(id)
            raise

    async def finished(self, id: str) -> None:
        """Wait until an execution is not under way any more."""
        if (runner := self._runners.get(id)) is not None:
            await asyncio.shield(runner.over)

    def _check_running(self) -> None:
        if not self._started or self._stopping:
            raise Stopping("the server is stopping")

    def _drive(self, runner: Runner) -> "asyncio.Future[Outcome]":
        """Let a runner run. Done once its opening is committed, whoever still waits for that."""
        self._runners[runner.execution.id] = runner
        self._spawn(self._run(runner), DRIVING)
        return asyncio.shield(runner.opened)

    async def _run(self, runner: Runner) -> None:
        try:
            await runner.run()
        finally:
            del self._runners[runner.execution.id]

    def _committed(self, change: Change, outcome: Outcome) -> None:
        """The journal's word that a change is durable."""
        if isinstance(change, SetSwitch):
            self._switches[change.job] = change.active
            if change.job in self.jobs:
                self._switch(change.job)
        else:
            self.board.committed(change, outcome)


DRIVING = "an execution"
