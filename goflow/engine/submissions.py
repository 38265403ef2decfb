"""Submissions: from a request for an execution to the committed execution.

The rule that must not be broken: `submit` returns after the commit, never before.
"""

import random
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from goflow.core.events import Parent, Submitted
from goflow.core.execution import Execution
from goflow.core.timetable import Times
from goflow.engine.attempts.dependencies import Dependencies
from goflow.engine.clock import Clock
from goflow.engine.errands import Errands
from goflow.engine.idempotency import Keys, Submission, agrees, fingerprint, key_reused
from goflow.engine.ledger import Ledger
from goflow.engine.lifetime import Lifetime
from goflow.engine.lineup import Lineup, NoRoom
from goflow.engine.param_checks import ParamChecks
from goflow.engine.principal import NOBODY, Principal
from goflow.engine.reader import Reader
from goflow.engine.registry import Registry
from goflow.engine.room import Room
from goflow.engine.runner import Runner
from goflow.engine.runners import Runners
from goflow.engine.scheduler import merged_into
from goflow.errors import Conflict
from goflow.job import Job
from goflow.stores.base import Accounted, Existing, Idempotency, Outcome, Store, Submit


class Request(msgspec.Struct, frozen=True):
    """A request for an execution, with complete params.

    A `due` time comes with the `times` that it is one of, unless the job runs after others. With
    `accounted`, all due times up to that one are in the ledger. A request `for_schedule` may use
    the room reserved for schedules. A task of another execution may make it, the `parent`.
    """

    job: Job
    params: dict[str, Any]
    cause: str
    by: Principal = NOBODY
    key: Idempotency | None = None
    due: datetime | None = None
    times: Times | None = None
    accounted: Accounted | None = None
    for_schedule: bool = False
    parent: Parent | None = None


class Submissions:
    """Creates executions."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        runners: Runners,
        lineup: Lineup,
        ledger: Ledger,
        room: Room,
        reader: Reader,
        checks: ParamChecks,
        errands: Errands,
        lifetime: Lifetime,
        dependencies: Dependencies,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._store = store
        self._registry = registry
        self._runners = runners
        self._lineup = lineup
        self._ledger = ledger
        self._room = room
        self._reader = reader
        self._checks = checks
        self._errands = errands
        self._lifetime = lifetime
        self._dependencies = dependencies
        self._clock = clock
        self._rng = rng
        self.keys = Keys(errands)

    async def submit(
        self,
        job: str,
        params: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        cause: str = "api",
        by: Principal = NOBODY,
        parent: Parent | None = None,
    ) -> Submission:
        """Create an execution of a job; it is durable when this returns.

        With the `key` of an earlier submit of the job, return the answer to that one.
        Raises `NotFound`, `InvalidRequest` for bad params, `Conflict` for a key used with
        other params, or if the job's overlap policy allows no new execution, and `Unavailable`.
        """
        known = self._registry.job(job)
        if key is None:
            accept = self._accept(known, params, None, cause, by, parent)
            return await self._errands.run(accept, "submit")
        asked = Idempotency(key, fingerprint(known.given_params(params)))
        return await self._keys_submit(known, params, asked, cause, by, parent)

    async def _keys_submit(
        self,
        job: Job,
        params: Mapping[str, Any] | None,
        asked: Idempotency,
        cause: str,
        by: Principal,
        parent: Parent | None,
    ) -> Submission:
        async def submit() -> Submission:
            self._lifetime.check()
            # First, since a repeated submit is answered even if the job is full or has changed.
            kept = await self._reader.read(self._store.submitted_with, job.name, asked.key)
            if kept is None:
                return await self._accept(job, params, asked, cause, by, parent)
            await self._checks.check(job, params)
            if not agrees(kept.fingerprint, asked.fingerprint, lambda: job.fill_params(params)):
                raise key_reused(asked.key, job.name)
            return Submission(kept.execution, kept.submitted, created=False)

        return await self.keys.submit_once(job.name, asked.key, asked.fingerprint, submit)

    async def _accept(
        self,
        job: Job,
        params: Mapping[str, Any] | None,
        key: Idempotency | None,
        cause: str,
        by: Principal,
        parent: Parent | None,
    ) -> Submission:
        filled = await self._checks.fill(job, params)
        self._registry.job(job.name)  # it may have been removed meanwhile, with its limit
        try:
            return await self.create_next(Request(job, filled, cause, by, key, parent=parent))
        except NoRoom as no_room:
            raise Conflict(f"job {job.name!r}: {no_room}", code="overlap") from None

    async def create_next(self, request: Request) -> Submission:
        """Create an execution by the job's overlap policy. Raises `NoRoom` if the policy refuses
        it, and `Unavailable`."""
        runner, outcome = await self.create(request, self._lineup.before(request.job))
        if isinstance(outcome, Existing):  # by its due time; keys were looked up before
            return Submission(outcome.execution, outcome.submitted, created=False)
        self._lineup.replace(request.job, runner)
        execution = runner.execution
        return Submission(execution.id, execution.submitted_at, created=True)

    async def create(self, request: Request, before: Sequence[Runner]) -> tuple[Runner, Outcome]:
        """Create an execution that waits for those `before`; returns its runner and the outcome.

        The outcome is `Existing` if the due time has an execution. Raises `Unavailable`.
        """
        self._lifetime.check()
        self._room.check(for_schedule=request.for_schedule)
        if not request.for_schedule:
            self._room.check_params(request.params)
        job = request.job
        now = self._clock.now()
        interval: tuple[datetime | None, datetime | None] = None, None
        if job.interval:
            interval = self._ledger.interval(job.name, request.due, request.times, now)
        fact = Submitted(
            now,
            id=str(uuid.UUID(int=self._rng.getrandbits(128), version=4)),
            job=job.name,
            plan=job.plan.id,
            cause=request.cause,
            params=request.params,
            scheduled_at=request.due,
            after=tuple(runner.execution.id for runner in before),
            timeout=job.timeout,
            by=request.by.name,
            interval_start=interval[0],
            interval_end=interval[1],
            parent=request.parent,
        )
        opening = _opening(request, fact)
        places = self._lineup.places(job, request.cause)
        execution = Execution(job.plan, fact)
        runner = Runner(execution, job, opening, self._dependencies, before, places=places)
        return runner, await self._runners.drive(runner, for_schedule=request.for_schedule)


def _opening(request: Request, fact: Submitted) -> Submit:
    """The change that creates the execution, and records its due time in the ledger."""
    plan, key = request.job.plan, request.key
    if request.due is None:
        return Submit(fact, plan, idempotency=key)
    change = None if request.times is None else request.times.clock_change(request.due)
    if change is None:
        return Submit(fact, plan, tick=True, idempotency=key, accounted=request.accounted)
    merged = merged_into(request.due, change, fact.at)
    return Submit(fact, plan, True, key, change.reason, merged, request.accounted)
