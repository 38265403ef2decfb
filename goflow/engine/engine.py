"""Engine: puts the rooms together, starts them and stops them.

Requests go to the room that they are about, as in `engine.submissions.submit(…)`. Everything that
the engine reports as done is committed: it survives kill -9.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import ParamSpec

from goflow.artifacts.base import Artifacts, opened, temporary_address
from goflow.artifacts.folder import ARTIFACTS, FolderArtifacts
from goflow.core.cost import Bar
from goflow.core.keys import Key, task_of
from goflow.engine.alarm import Alarm
from goflow.engine.attempts.abandoned import Abandoned
from goflow.engine.attempts.bars import Bars
from goflow.engine.attempts.dependencies import Dependencies
from goflow.engine.attempts.hanging import Hanging
from goflow.engine.attempts.results import Results
from goflow.engine.attempts.waits import measure
from goflow.engine.backfill import Backfills
from goflow.engine.broadcast import Broadcast
from goflow.engine.clock import Clock, SystemClock
from goflow.engine.control import Control
from goflow.engine.due_times import DueTimes
from goflow.engine.errands import Errands
from goflow.engine.executions import KnownExecutions
from goflow.engine.executors.choice import Choose, Executors
from goflow.engine.families import Families
from goflow.engine.feed import Feed
from goflow.engine.followers import Followers
from goflow.engine.health import Health
from goflow.engine.hints import Hints, hints_file
from goflow.engine.journal import Journal
from goflow.engine.ledger import Ledger
from goflow.engine.lifetime import Lifetime
from goflow.engine.lineup import Lineup
from goflow.engine.live import LiveExecution, LiveState
from goflow.engine.options import Options
from goflow.engine.output.backlog import Backlog
from goflow.engine.output.capture import captured
from goflow.engine.param_checks import ParamChecks
from goflow.engine.process import exits, forked, leaving, loops
from goflow.engine.reader import Reader
from goflow.engine.recovery import Recovery
from goflow.engine.registry import Registry
from goflow.engine.retention import Retention
from goflow.engine.room import Room
from goflow.engine.runners import Runners
from goflow.engine.scheduler import Scheduler
from goflow.engine.schedules import Schedules
from goflow.engine.skips import CALLS, Skips
from goflow.engine.slots import Slots
from goflow.engine.store_check import StoreCheck, report
from goflow.engine.submissions import Submissions
from goflow.engine.threads import DaemonThreads, Threads
from goflow.engine.turns import StartingLine, short_turns
from goflow.operators import process_tag
from goflow.stores.base import Change, Outcome, Store

READERS = 4  # threads that read the store
PATTERNS = 2  # requests whose patterns are matched at once, each in its own process

P = ParamSpec("P")


class Engine:
    """A scheduler of jobs. Use it between `start` and `stop`, on one event loop.

    Before the start, `registry` accepts jobs. From the start on the engine also has

    - `submissions`, `control`, `schedules` and `backfills`, which accept requests,
    - `reader`, `ledger`, `live`, `runners`, `slots` and `health`, which answer queries, and
    - `broadcast`, which notifies listeners of every change.

    Without `keeps_time` schedules never fire. `executors` returns the executor of a task, or None
    for a local one.
    """

    def __init__(
        self,
        store: Store,
        options: Options | None = None,
        *,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        threads: Threads | None = None,
        keeps_time: bool = True,
        executors: Choose = lambda task: None,
    ) -> None:
        self.store = store
        self.options = options or Options()
        self.clock: Clock = clock or SystemClock()
        # Ids must not repeat after a restart or a fork, so the default is the system's random
        # source.
        self._rng = rng or random.SystemRandom()
        self._threads = threads or Threads()
        self._keeps_time = keeps_time
        self._choose = executors
        self._opened = ExitStack()  # closed at the end, in reverse order
        self._started = False
        self.slots = Slots(self.options.max_running, self.options.pools)
        self.registry = Registry(self.options, self.slots, keeps_time=keeps_time)
        self.abandoned = Abandoned()
        self.health = Health(self.clock, Hanging(self.slots, self.abandoned, self.clock))
        self.lifetime = Lifetime(self.clock, self.health)
        self.errands = Errands(self.health.tell_defect)

    # -- start ---------------------------------------------------------------------

    async def start(self) -> None:
        """Open the store, recover unfinished executions, and start to keep time.

        Raises `StoreError` if the store cannot be opened, and `InvalidJob` if a task waits for a
        job that is not registered, or jobs run after an unknown one or in a circle; nothing runs
        then.
        """
        if self._started:
            raise RuntimeError("the engine has been started before")
        self.registry.check_jobs_asked_for()
        self._started = True
        try:
            self._open()
            self._build()
            await self._run()
        except BaseException:
            await self._close()
            self._started = False
            raise

    def _open(self) -> None:
        """Open the store, and protect this process from tasks that run in it."""
        # First, since even a store that could not be opened may hold resources.
        self._opened.callback(self.store.close)
        self.store.open()
        self.started_at = self.clock.now()
        loop = asyncio.get_running_loop()
        self._capture = captured()
        self._opened.enter_context(self._capture)
        self._opened.enter_context(short_turns())
        self._opened.enter_context(exits.contained(loop))
        self._opened.enter_context(forked.own(loop))
        report(self.store.check(), self.health)
        for job in self.registry.jobs.values():
            job.pack()  # again, since the program is now completely loaded

    def _build(self) -> None:
        """Create the rooms, each after its dependencies."""
        store, clock, health, threads = self.store, self.clock, self.health, self._threads
        committed: list[Callable[[Change, Outcome], None]] = []
        changed: list[Callable[[LiveExecution], None]] = []
        self.journal = Journal(store, clock, _each(committed), threads, health.tell_defect)
        self.live = LiveState(_each(changed))
        self.live.version = store.version()
        self.reader = Reader(
            store, self.live, threads.readers(READERS), clock, self.options.limits.result
        )
        self._opened.callback(self.reader.close)
        self.broadcast = Broadcast(store, self.live, self.reader.read, self.clock.elapsed)
        self.bars = Bars(self._show_bars)
        self._opened.callback(self.bars.close)
        self.feed = Feed(store, self.journal, self.reader.read, clock)
        self.artifacts = self._artifacts()
        self.retention = Retention(
            self.journal, clock, self.options.keep, store.jobs(), self._forget_artifacts
        )
        self.ledger = Ledger(store, self.journal, self.reader, self.registry, self.lifetime, clock)
        self._scheduler = Scheduler(clock, self.reader.read, health.notice, health.tell_defect)
        self.schedules = Schedules(
            store,
            self.registry,
            self._scheduler,
            self.ledger,
            self.journal,
            self.reader,
            self.errands,
            self.lifetime,
            clock,
            keeps_time=self._keeps_time,
        )
        committed += [
            self.schedules.committed,
            self.ledger.committed,
            self.reader.watched.committed,
            self.reader.item_pages.committed,
            self.live.committed,
            self.feed.committed,
            self.reader.recent.committed,
        ]
        changed += [
            self.reader.recent.execution_changed,
            self.retention.changed,
            self.broadcast.publish,
        ]
        health.entries = self.live

        self.lineup = Lineup()
        self.room = Room(self.options, self._scheduler)
        self.runners = Runners(self.lifetime, self.lineup, self.room, self.slots)
        self._executions = KnownExecutions(store, self.reader, self.live, self.registry)
        changed.append(self._executions.changed)
        self._dependencies = self._for_runners()
        patterns = DaemonThreads(PATTERNS, name="goflow-patterns")
        self._opened.callback(patterns.shutdown, wait=False, cancel_futures=True)
        checks = ParamChecks(patterns)
        helpers = threads.helpers(CALLS)
        self._opened.callback(helpers.shutdown, wait=False, cancel_futures=True)
        self.skips = Skips(helpers, clock)
        self.submissions = Submissions(
            store,
            self.registry,
            self.runners,
            self.lineup,
            self.ledger,
            self.room,
            self.reader,
            checks,
            self.errands,
            self.lifetime,
            self._dependencies,
            clock,
            self._rng,
        )
        self.backfills = Backfills(
            store,
            self.registry,
            self.ledger,
            self.submissions,
            self.runners,
            self.room,
            self.reader,
            self.skips,
            checks,
            self.errands,
            clock,
        )
        self.control = Control(
            store,
            self.registry,
            self.runners,
            self.lineup,
            self.room,
            self.live,
            self.journal,
            self.reader,
            checks,
            self.errands,
            self.lifetime,
            self._dependencies,
            clock,
        )
        self._families = Families(
            store, self.runners, self.submissions, self.control, self.reader, self.errands
        )
        self._executions.connect(self._families)
        self.runners.on_end = self._families.ended
        self._due_times = DueTimes(self.registry, self.ledger, self.submissions, self.skips, health)
        self._followers = Followers(
            store,
            self.registry,
            self.schedules,
            self.submissions,
            self.feed,
            self.journal,
            self.reader,
            self.live,
            clock,
        )
        self._recovery = Recovery(
            store,
            self.journal,
            self.live,
            self.registry,
            self.runners,
            self.lineup,
            self._dependencies,
            health,
            clock,
        )

    def _show_bars(self, execution: str, bars: Mapping[Key, Bar]) -> None:
        """Show the progress that running attempts have reported."""
        if (live := self.live.progressed(execution, bars)) is not None:
            self.reader.watched.progressed(execution, map(task_of, bars))
            self.broadcast.publish_news(live)

    def _artifacts(self) -> Artifacts:
        """The place for artifacts: beside the store by default."""
        address, limit = self.options.artifacts, self.options.limits.artifact
        if address is not None:
            artifacts = opened(address, limit)
        elif (file := self.store.file) is not None:
            artifacts = FolderArtifacts(f"{file}{ARTIFACTS}", limit)
        else:
            artifacts = FolderArtifacts(temporary_address(), limit, temporary=True)
        self._opened.callback(artifacts.close)
        artifacts.clear()
        return artifacts

    async def _forget_artifacts(self) -> None:
        """Forget the artifacts of the executions that the store no longer has."""

        def forget() -> None:
            for execution in self.artifacts.executions():
                if self.store.find(execution) is None:
                    self.artifacts.forget(execution)

        await self.reader.read(forget)

    def _for_runners(self) -> Dependencies:
        """What runners need."""
        self._opened.callback(self._note_run)
        executor = self._threads.operators(self.options.max_running)
        self._opened.callback(executor.shutdown, wait=False, cancel_futures=True)
        self.health.hanging.started()
        hints = Hints(hints_file(self.store), self.store.epoch, self.health.notice)
        self._opened.callback(hints.close)
        hints.open()
        return Dependencies(
            journal=self.journal,
            history=lambda id: self.reader.read(self.store.history, id),
            on_defect=self.health.tell_defect,
            results=Results(
                self.store,
                self.clock,
                self.reader.read,
                self.artifacts,
                self.options.limits.result,
            ),
            clock=self.clock,
            starting_line=StartingLine(self.clock),
            slots=self.slots,
            abandoned=self.abandoned,
            hanging=self.health.hanging,
            executors=Executors(executor, self._executions, self._threads, self._choose),
            limits=self.options.limits,
            backlog=Backlog(self.clock),
            epoch=self.store.epoch,
            server=process_tag.this_server(),
            end_orphans=self._threads.end_orphans,
            hints=hints,
            threads=self._threads,
            alarm=Alarm(
                self.clock, lambda run: self.lifetime.keep_up(run, "the alarm of waiting tasks")
            ),
            looked=self.live.looked,
            bars=self.bars,
            end_child=lambda child, waited: self._families.end(child, waited_for=waited),
            measure_log=lambda *place: self.reader.read(measure, self.store, *place),
        )

    async def _run(self) -> None:
        """Recover, then keep time until the stop."""
        self.journal.start()
        await self._recovery.run()
        for name in self.registry.jobs:
            self.schedules.switch(name)
        self.registry.on_change = self.schedules.switch
        if self._keeps_time:
            self.registry.on_change = _each([self.schedules.switch, self._followers.switch])
            await self._followers.begin()
        self.lifetime.begin()
        await self._families.settle()
        if self._keeps_time:
            fire, record = self._due_times.fire, self.ledger.record
            self.lifetime.keep_up(lambda: self._scheduler.run(fire, record), "the scheduler")
            self.lifetime.keep_up(self.retention.run, "retention")
            self.lifetime.keep_up(self._followers.run, "jobs that run after others")

    def check_store(self) -> None:
        """Check the store from now on even without writes; for a server."""
        check = StoreCheck(self.store, self.reader, self.journal, self.health, self.clock)
        self.lifetime.spawn(check.run(), "watching the store")

    # -- stop ----------------------------------------------------------------------

    async def stop(self) -> None:
        """Start nothing more, wait for running attempts, end the rest, and close the store.

        Attempts that did not end in time are recorded as interrupted, and resumed at the next
        start.
        """
        if not self._started or self.lifetime.stopping:
            return
        self.lifetime.stop()
        await self.runners.stop(self.options.stop_timeout)
        # If the store refuses changes from now on, the next start settles them.
        self.journal.hurry()
        await self.runners.interrupt()
        await self._close()

    async def _close(self) -> None:
        """End running attempts, write queued changes, and close everything that was opened."""
        self.registry.on_change = lambda job: None
        await self.lifetime.end()
        if (feed := getattr(self, "feed", None)) is not None:
            feed.close()
        if (journal := getattr(self, "journal", None)) is not None:
            await journal.stop()
        await self.errands.end()
        forked.let_go(asyncio.get_running_loop())
        self._opened.close()
        loops.disown_given_up()

    def _note_run(self) -> None:
        leaving.note_run(abandoned=self.slots.taken > 0)


def _each(callbacks: list[Callable[P, None]]) -> Callable[P, None]:
    """A function that calls each of the callbacks, in order."""

    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        for callback in callbacks:
            callback(*args, **kwargs)

    return call
