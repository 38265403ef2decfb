"""The disk of a simulated machine: it outlives processes, and knows all committed changes.

It folds and checks every commit, by the rules of the core and by rules across executions.
`Killed` may be raised before or after any commit.
"""

import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from goflow.core.events import AnyFact, AttemptFailed, Dispatched, Retried, TaskStarted
from goflow.core.execution import Execution
from goflow.core.graph import Plan
from goflow.core.keys import Key, task_of
from goflow.core.result import StoredResult
from goflow.core.standing import IllegalTransition
from goflow.core.states import State
from goflow.core.timetable import Timetable
from goflow.engine.entries import FOLLOW, ScheduleState, state_in, switch_in
from goflow.errors import StoreUnavailable
from goflow.stores.base import (
    Accounted,
    Change,
    Created,
    Outcome,
    Put,
    Record,
    RecordTicks,
    Submit,
    TickOutcome,
)
from goflow.stores.sqlite.codec import item_column
from goflow.stores.sqlite.schema import migrate, read_epoch
from goflow.stores.sqlite.tables import SqliteTables


class Killed(BaseException):
    """The process dies here."""


@dataclass
class Epoch:
    """The time that a job had the same schedules: every due time later than `begun`, up to
    `accounted`, is in the ledger. An epoch with the anchor of the one before goes on from it."""

    state: ScheduleState
    begun: datetime
    accounted: datetime

    @property
    def anchor(self) -> datetime:
        return self.state.anchor

    @property
    def times(self) -> Timetable:
        return Timetable(self.state.parsed(), self.state.start)


class Disk:
    """The committed state, and the faults to inject.

    `now` reads the wall clock, `tell` receives every commit, `broken` every broken promise.
    """

    def __init__(
        self,
        rng: random.Random,
        now: Callable[[], datetime],
        tell: Callable[[str], None],
        broken: Callable[[str], None],
    ) -> None:
        self._rng = rng
        self._now = now
        self._tell = tell
        self._broken = broken
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        migrate(self.connection)
        self.epoch = read_epoch(self.connection)
        self.executions: dict[str, Execution] = {}  # in the order they were created
        self.unfinished: dict[str, None] = {}  # in the order they were last opened
        self.facts: dict[str, list[AnyFact]] = {}
        self.plans: dict[str, Plan] = {}  # at the submit
        self.keys: dict[tuple[str, str], str] = {}
        self.fired: dict[tuple[str, datetime], str] = {}
        self.passed: dict[tuple[str, datetime], TickOutcome] = {}  # the first outcome of others
        self.switches: dict[str, bool] = {}
        self.epochs: dict[str, list[Epoch]] = {}
        self.latest = datetime.min.replace(tzinfo=UTC)  # the latest time the clock has shown
        self.refusing = 0.0  # the probability that a commit is refused
        self.unreadable = 0.0  # the probability that a read fails
        self.kill_in: int | None = None  # commits until the process dies
        self.kill_before: bool | None = None  # whether before that commit; None: random
        self.progress = 0  # facts committed
        self.refused = 0  # commits that were refused
        # When, in facts, a job began to follow others, and when an execution was first successful.
        self.follows: dict[str, int] = {}
        self.succeeded: dict[str, int] = {}
        self.states: dict[str, list[Any]] = {}  # the shared states after each committed action
        # Called with each committed fact, after it was applied.
        self.heard: Callable[[Execution, AnyFact], object] = lambda execution, fact: None
        self._rounds: Counter[tuple[str, Key]] = Counter()

    def committing(self) -> None:
        """Called before a commit; may fail or kill."""
        if self.kill_in is not None:
            self.kill_in -= 1
            before = self.kill_before
            if self.kill_in == 0 and (self._rng.random() < 0.5 if before is None else before):
                raise Killed
        if self._rng.random() < self.refusing:
            self.refused += 1
            raise StoreUnavailable("the simulated disk is full")

    def reading(self) -> None:
        if self._rng.random() < self.unreadable:
            raise StoreUnavailable("the simulated disk cannot be read")

    def result(self, execution: str, result: msgspec.Raw | StoredResult) -> bytes:
        """The JSON of a result, inline or stored."""
        if isinstance(result, msgspec.Raw):
            return bytes(result)
        if result.chunked is not None:
            body = self.items(execution, result.task, result.chunked.round)
            if not result.is_intact(body):
                self._broken(f"{execution}: {result} is committed, and its items are {body!r}")
            return body
        found = self.connection.execute(
            """SELECT body FROM results JOIN executions ON number = execution
            WHERE id = ? AND task = ? AND item = ? AND attempt = ?""",
            (execution, result.task, item_column(result.item), result.attempt),
        ).fetchone()
        kept: bytes | None = None if found is None else found[0]
        if kept is None or not result.is_intact(kept):
            self._broken(f"{execution}: {result} is committed, and not in the store")
        return kept or b"null"

    def items(self, execution: str, task: str, round: int) -> bytes:
        """The JSON of the list of the committed items of a generator."""
        found = self.connection.execute(
            """SELECT body FROM chunks JOIN executions ON number = execution
            WHERE id = ? AND task = ? AND round = ? ORDER BY first""",
            (execution, task, round),
        )
        return b"[%b]" % b",".join(body[1:-1] for (body,) in found)

    def committed(self, batch: Sequence[Change], outcomes: Sequence[Outcome]) -> None:
        """Record durable changes; the process may die before it learns of them."""
        for change, outcome in zip(batch, outcomes, strict=True):
            try:
                self._note(change, outcome)
            except (IllegalTransition, LookupError) as error:
                self._broken(f"{change} was committed: {error!r}")
        if self.kill_in == 0:
            raise Killed

    def _note(self, change: Change, outcome: Outcome) -> None:
        if isinstance(change, Submit):
            self._account(change.fact.job, change.accounted)
        match change, outcome:
            case Submit(), Created():
                self._tell(f"{change.fact.cause} {change.fact.job} {change.fact.id}")
                self._created(change)
            case Record(), _:
                told = ", ".join(_brief(fact) for fact in change.facts)
                self._tell(f"{change.execution[:8]}: {told}")
                self._recorded(change)
            case Put(kind, job, bytes() as value), _:
                self._tell(f"{kind} {job} {value.decode()}")
                if (switch := switch_in(change)) is not None:
                    self.switches[job] = switch.active
                elif (state := state_in(change)) is not None:
                    self._begin_epoch(job, state)
                elif kind == FOLLOW:
                    self.follows[job] = self.progress
            case Put(kind, job, None), _ if kind == FOLLOW:
                self.follows.pop(job, None)
            case RecordTicks(), _:
                self._tell(f"ticks {change}")
                self._account(change.job, change.accounted)
                for one in change.ticks:
                    if one.count == 1:
                        self.passed.setdefault((change.job, one.due), one.outcome)
            case _:
                self._tell(f"{type(change).__name__} {outcome}")

    def _begin_epoch(self, job: str, state: ScheduleState) -> None:
        """Begin a new epoch, unless the same schedule is only switched on or off."""
        epochs = self.epochs.setdefault(job, [])
        last = epochs[-1] if epochs else None
        if last is None or last.anchor != state.anchor:
            epochs.append(Epoch(state, state.anchor, state.anchor))
        elif last.state.timing != state.timing:
            epochs.append(Epoch(state, last.accounted, last.accounted))

    def _created(self, change: Submit) -> None:
        fact = change.fact
        if fact.id in self.executions:
            self._broken(f"execution {fact.id} was made twice")
        self.executions[fact.id] = Execution(change.plan, fact)
        self.facts[fact.id] = [fact]
        self.plans[fact.id] = change.plan
        self.unfinished[fact.id] = None
        if change.idempotency is not None:
            key = fact.job, change.idempotency.key
            if key in self.keys:
                self._broken(f"key {key} made two executions")
            self.keys[key] = fact.id
        if change.tick:
            assert fact.scheduled_at is not None
            tick = fact.job, fact.scheduled_at
            if tick in self.fired:
                self._broken(f"{tick} fired twice")
            if fact.cause == "schedule" and self.passed.get(tick) is TickOutcome.SKIPPED:
                self._broken(f"{tick} fired though it had been skipped")
            self.fired[tick] = fact.id
            self.latest = max(self.latest, self._now())
            if fact.scheduled_at > self.latest:
                self._broken(f"{tick} fired early, at {self.latest}")

    def _account(self, job: str, accounted: Accounted | None) -> None:
        if accounted is None:
            return
        epochs = self.epochs[job]
        found = [epoch for epoch in epochs if epoch.anchor == accounted.anchor]
        if not found:
            self._broken(f"{job}: {accounted} is of none of {epochs}")
        else:
            found[-1].accounted = max(found[-1].accounted, accounted.upto)

    def _recorded(self, change: Record) -> None:
        execution = self.executions[change.execution]
        self.progress += len(change.facts)
        for fact in change.facts:
            execution.apply(fact)
            self.facts[change.execution].append(fact)
            self.heard(execution, fact)
            if isinstance(fact, Dispatched):
                states = self.states.setdefault(change.execution, [])
                states.append(msgspec.json.decode(fact.state))
            if isinstance(fact, TaskStarted):
                task = change.execution, fact.key
                self._rounds[task] += 1
                retries = execution.named[fact.task].planned.retries
                if self._rounds[task] > retries + 1:
                    self._broken(f"attempt {fact.attempt} of {task}, which has {retries} retries")
            elif isinstance(fact, AttemptFailed) and fact.interrupted:
                self._rounds[change.execution, fact.key] -= 1  # interruptions do not count
            elif isinstance(fact, Retried):
                again = [key for key in self._rounds if key[0] == change.execution]
                for one in again:
                    if task_of(one[1]) in fact.tasks or one[1] in execution.hooks:
                        del self._rounds[one]
                self.unfinished[change.execution] = None
        if execution.finished:
            self.unfinished.pop(change.execution, None)
            if execution.state is State.SUCCESSFUL:
                self.succeeded.setdefault(change.execution, self.progress)
        if change.state is not execution.state or (
            (change.summary is not None) is not execution.finished
        ):
            self._broken(f"{change} is listed wrongly; it is {execution.state}")


def _brief(fact: AnyFact) -> str:
    told = [type(fact).__name__]
    names = ("task", "item", "items", "attempt", "state", "tasks", "by")
    found = [getattr(fact, name) for name in names if hasattr(fact, name)]
    # The text of encoded JSON would have an address.
    told += [str(bytes(one) if isinstance(one, msgspec.Raw) else one) for one in found]
    return " ".join(told)


class Handle(SqliteTables):
    """A process's connection to the disk, without memory of earlier processes."""

    def __init__(self, disk: Disk) -> None:
        super().__init__()
        self._disk = disk
        self.dead = False  # the process has died

    def open(self) -> None:
        self._epoch = self._disk.epoch

    def close(self) -> None:
        pass

    def commit(self, batch: Sequence[Change]) -> list[Outcome]:
        try:
            if self.dead:
                raise Killed
            self._disk.committing()
            outcomes = super().commit(batch)
            self._disk.committed(batch, outcomes)
        except Killed:
            self.dead = True
            raise
        return outcomes

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        if self.dead:
            raise Killed
        self._disk.reading()
        yield self._disk.connection

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        yield self._disk.connection

    def size(self) -> int:
        return 0
