"""Followers: jobs that run after other jobs, as `Job(after=)` says.

The rule that must not be broken: each success creates one execution of a follower, whatever
crashes. The successes come from the feed of committed facts, whose cursor is durable. A success
that comes twice creates nothing the second time: its due time is in the follower's ledger, or, for
an execution without a due time, its id is the idempotency key.

Whether all of several jobs have succeeded for a due time is read from their ledgers each time, so
due times that are never complete take no memory.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial

import msgspec

from goflow.core.events import AnyFact, Finished, MarkedSkipped, MarkedSuccessful, Submitted
from goflow.core.states import State
from goflow.engine.clock import Clock
from goflow.engine.entries import Follow, put_follow, read_follows
from goflow.engine.feed import Feed, Purged, Subscription
from goflow.engine.idempotency import fingerprint
from goflow.engine.journal import Journal
from goflow.engine.lineup import NoRoom
from goflow.engine.live import LiveState
from goflow.engine.reader import Reader
from goflow.engine.registry import Registry
from goflow.engine.schedules import Schedules
from goflow.engine.submissions import Request, Submissions
from goflow.errors import InvalidRequest, Stopping, Unavailable
from goflow.job import Job
from goflow.stores.base import (
    Committed,
    Idempotency,
    RecordTicks,
    Store,
    Tick,
    TickOutcome,
)

logger = logging.getLogger(__name__)

NAME = "followers"  # of the subscription
CAUSE = "after"
AGAIN = 1.0  # seconds until a refused change is tried again
STRIDE = 1000  # versions after which the place in the feed is kept, if no success was among them
SWITCHED_OFF = "the job was switched off"


class _Scheduled(msgspec.Struct):
    """The due time in a summary."""

    scheduled_at: datetime | None = None


class Followers:
    """Creates the executions of followers while `run` runs."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        schedules: Schedules,
        submissions: Submissions,
        feed: Feed,
        journal: Journal,
        reader: Reader,
        live: LiveState,
        clock: Clock,
    ) -> None:
        self._store = store
        self._registry = registry
        self._schedules = schedules
        self._submissions = submissions
        self._feed = feed
        self._journal = journal
        self._reader = reader
        self._live = live
        self._clock = clock
        self._follows = read_follows(store)
        self._unwritten: dict[str, Follow | None] = {}
        self._changed = asyncio.Event()
        self._subscription: Subscription | None = None
        self.handled = 0  # the version up to which everything is handled, if there are followers

    async def begin(self) -> None:
        """Look at all jobs, since definitions may have changed while the server was down. Durable
        when this returns, unless the store refuses it now."""
        for name in {**self._follows, **self._registry.jobs}:
            self.switch(name)
        with suppress(Unavailable):
            await self._write()

    def switch(self, name: str) -> None:
        """Follow the jobs that a job runs after from now on, as its definition says; a definition
        that has not changed goes on where it was."""
        job = self._registry.jobs.get(name)
        after = () if job is None else job.after
        known = self._follows.get(name)
        if after == (() if known is None else known.after):
            return
        if after:
            follow = Follow(after, self._live.version)
            self._follows[name] = self._unwritten[name] = follow
        else:
            del self._follows[name]
            self._unwritten[name] = None
        self._changed.set()
        if not self._follows and self._subscription is not None:
            self._subscription.close()

    async def run(self) -> None:
        """Follow the feed while there are followers."""
        while True:
            self._changed.clear()
            await self._persist(self._write)
            if self._follows:
                await self._follow()
                continue
            await self._persist(lambda: self._feed.unsubscribe(NAME))
            await self._changed.wait()

    async def _write(self) -> None:
        """Keep since when each job follows others."""
        while self._unwritten:
            name, follow = next(iter(self._unwritten.items()))
            await self._journal.commit(put_follow(name, follow))
            if self._unwritten[name] is follow:
                del self._unwritten[name]

    async def _follow(self) -> None:
        """Handle committed facts until there are no followers."""
        since = min(follow.since for follow in self._follows.values())
        try:
            subscription = await self._feed.subscribe(NAME, since)
        except Unavailable as error:
            await self._pause(error)
            return
        self._subscription = subscription
        kept = since
        try:
            async for item in subscription:
                self.handled = item.version - 1
                await self._persist(self._write)
                if isinstance(item, Purged):
                    logger.info("%d changes were deleted before followers saw them", item.count)
                elif self._is_success(item):
                    await self._persist(partial(self._succeeded, item))
                elif item.version < kept + STRIDE:
                    self.handled = item.version
                    continue
                kept = item.version
                await self._persist(partial(subscription.remember, kept))
                self.handled = kept
        finally:
            self._subscription = None
            subscription.close()

    async def _persist(self, change: Callable[[], Awaitable[None]]) -> None:
        """Make a change, again and again while the store refuses it or there is no room."""
        while True:
            try:
                return await change()
            except Stopping:
                raise
            except Unavailable as error:
                await self._pause(error)

    async def _pause(self, error: Unavailable) -> None:
        logger.warning("jobs that run after others wait: %s", error)
        await self._clock.sleep(AGAIN)

    def _is_success(self, item: Committed) -> bool:
        return item.job in self._registry.followers and any(map(_succeeds, item.facts))

    async def _succeeded(self, item: Committed) -> None:
        """Let the followers of a job run, since an execution of it has succeeded."""
        due: datetime | None = None
        found = False
        for name in list(self._registry.followers.get(item.job, ())):
            job, follow = self._registry.jobs.get(name), self._follows.get(name)
            if job is None or follow is None or item.version <= follow.since:
                continue
            if not found:
                found, due = await self._due(item.execution)
            if not found:
                return  # it was deleted meanwhile
            if due is not None:
                await self._run_for(job, item.job, due)
            elif len(job.after) == 1:
                await self._run_once(job, item)

    async def _due(self, execution: str) -> tuple[bool, datetime | None]:
        """Whether an execution is in the store, and its due time."""
        row = await self._reader.read(self._store.find, execution)
        if row is None:
            return False, None
        if row.summary is not None:
            return True, msgspec.json.decode(row.summary, type=_Scheduled).scheduled_at
        history = await self._reader.read(self._store.history, execution)  # retried meanwhile
        if history is None:
            return False, None
        return True, next(one.scheduled_at for one in history.facts if isinstance(one, Submitted))

    async def _run_for(self, job: Job, succeeded: str, due: datetime) -> None:
        """Run a job for a due time, if all jobs that it runs after have succeeded for it."""
        others = (other for other in job.after if other != succeeded)
        if not all([await self._has_succeeded(other, due) for other in others]):
            return
        tick = await self._tick(job.name, due)
        if tick is not None and tick.outcome in (TickOutcome.FIRED, TickOutcome.SKIPPED):
            return
        if not self._schedules.active(job.name):
            await self._record(job, due, TickOutcome.MISSED, SWITCHED_OFF)
        elif (reason := await self._create(job, due, None)) is not None:
            await self._record(job, due, TickOutcome.SKIPPED, reason)

    async def _run_once(self, job: Job, item: Committed) -> None:
        """Run a job after an execution that has no due time."""
        if not self._schedules.active(job.name):
            return
        key = Idempotency(f"after:{item.execution}", fingerprint({}))
        if await self._reader.read(self._store.submitted_with, job.name, key.key) is not None:
            return
        if (reason := await self._create(job, None, key)) is not None:
            at = next(fact.at for fact in item.facts if _succeeds(fact))
            told = f"it does not run after execution {item.execution} of job {item.job!r}: {reason}"
            await self._record(job, at, TickOutcome.SKIPPED, told)

    async def _create(self, job: Job, due: datetime | None, key: Idempotency | None) -> str | None:
        """Create an execution, or return the reason why there is none."""
        try:
            params = job.fill_params(None)
            request = Request(job, params, CAUSE, key=key, due=due, for_schedule=True)
            await self._submissions.create_next(request)
        except (InvalidRequest, NoRoom) as refused:
            return str(refused)
        return None

    async def _record(self, job: Job, due: datetime, outcome: TickOutcome, reason: str) -> None:
        tick = Tick(due, outcome, self._clock.now(), reason)
        await self._journal.commit(RecordTicks(job.name, [tick]))

    async def _has_succeeded(self, job: str, due: datetime) -> bool:
        tick = await self._tick(job, due)
        if tick is None or tick.execution is None:
            return False
        row = await self._reader.read(self._store.find, tick.execution)
        return row is not None and row.state is State.SUCCESSFUL

    async def _tick(self, job: str, due: datetime) -> Tick | None:
        """The record of a due time in a job's ledger, if it has one."""
        ticks = await self._reader.read(self._store.ticks, job, due + timedelta(microseconds=1), 1)
        return next((tick for tick in ticks if tick.due == due and tick.count == 1), None)


def _succeeds(fact: AnyFact) -> bool:
    """Whether an execution succeeds by this fact."""
    match fact:
        case Finished(state=state):
            return state == State.SUCCESSFUL
        case MarkedSuccessful(finished=state) | MarkedSkipped(finished=state):
            return state == State.SUCCESSFUL
    return False
