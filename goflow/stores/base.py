"""The contract of stores.

A store speaks of jobs, executions, ticks and logs. It is synchronous. One thread, the
journal's, calls `commit`; reads may come from other threads at the same time and see
only what was committed. The one rule: when `commit` returns, everything in the batch is
durable and visible to reads; when it raises, nothing of the batch is.

Errors: `open` raises `StoreError` saying what is wrong (a directory, not writable, not a
goflow store, damaged, from a newer version, in use by another server). `commit` and the
reads raise `StoreUnavailable` for what may pass (locked, disk full, I/O error). `commit`
raises `NotFound` for facts or a log of an execution that is not there, or not any more.
"""

import enum
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

import msgspec

from goflow.core.events import AnyFact, Submitted
from goflow.core.graph import Plan
from goflow.core.states import State
from goflow.core.summary import RecentExecution
from goflow.core.transition import Transition
from goflow.stores.logs import AppendLog, Logs

# -- what is written ---------------------------------------------------------------


class Idempotency(msgspec.Struct, frozen=True):
    """A submit's `Idempotency-Key`, unique per job, and a fingerprint of what it asked for."""

    key: str
    fingerprint: str


class TickOutcome(enum.StrEnum):
    """What became of a due time."""

    FIRED = "fired"
    SKIPPED = "skipped"
    MISSED = "missed"
    MERGED = "merged"


class Tick(msgspec.Struct, frozen=True):
    """What became of a due time, or of a run of `count` missed or merged ones from `due` to
    `until`.

    `execution` is what a fired one made, `into` the due time that merged ones became because
    of a clock change. `reason` is one sentence for people, or "".
    """

    due: datetime
    outcome: TickOutcome
    at: datetime
    reason: str = ""
    count: int = 1
    until: datetime | None = None
    execution: str | None = None
    into: datetime | None = None


class Submit(msgspec.Struct, frozen=True):
    """Create an execution, unless its tick or its key has one already.

    With `tick`, (job, fact.scheduled_at) is claimed in the same transaction: it is in the
    ledger as fired, for the `reason` given if any. A tick recorded as missed may be claimed
    still. If it `accounts`, all due times up to that one are in the ledger thereby. `merged`
    goes to the ledger with it. Outcome: `Created` or `Existing`.
    """

    fact: Submitted
    plan: Plan
    tick: bool = False
    idempotency: Idempotency | None = None
    reason: str = ""
    merged: Tick | None = None

    @property
    def accounts(self) -> bool:
        """Whether its due time follows the one accounted for last. A backfill's need not:
        before it there may be others that nobody has entered yet."""
        return self.tick and self.fact.cause != "backfill"


class Record(msgspec.Struct, frozen=True):
    """Append facts to an execution, and set how it is listed.

    `summary` is the finished execution's `Summary` as JSON, None while it is unfinished
    (also when it is sent round again). `started` and `finished` are the execution's, None
    before that. `transition` is what the facts changed, for the live state; stores ignore it.
    Outcome: the version, an int.
    """

    execution: str
    facts: list[AnyFact]
    state: State
    modified: datetime
    summary: bytes | None = None
    started: datetime | None = None
    finished: datetime | None = None
    transition: Transition | None = None


class KeepResult(msgspec.Struct, frozen=True):
    """Keep the JSON of an attempt's result by itself, for the fact `TaskSucceeded` that comes
    with it or after it. Outcome: None."""

    execution: str
    task: str
    attempt: int
    body: bytes


class SetSwitch(msgspec.Struct, frozen=True):
    """Remember that a job's schedule was switched on or off by hand, and who did.
    Outcome: None."""

    job: str
    active: bool
    at: datetime
    by: str = ""


class RecordTicks(msgspec.Struct, frozen=True):
    """Add ticks that made no execution to a job's ledger; one that is there stays as it is,
    unless it is merged and the new one is not.

    All due times up to `accounted` are in the ledger thereby. Outcome: None.
    """

    job: str
    ticks: list[Tick]
    accounted: datetime


class Watch(msgspec.Struct, frozen=True):
    """A job's schedule as last seen: `@every` counts from `anchor`, and every due time up
    to `accounted` is in the ledger."""

    schedule: str
    anchor: datetime
    accounted: datetime


class SetWatch(msgspec.Struct, frozen=True):
    """Begin to watch a job's schedule, or another one of it; `accounted` never goes back for
    the same anchor, and begins anew with another. Outcome: None."""

    job: str
    watch: Watch


class Purge(msgspec.Struct, frozen=True):
    """Forget finished executions, with their facts, results, logs and keys: of `job`, or of any
    job if it is None, those submitted before `before`, and those but the newest `keep` (None: no
    such bound), and ticks recorded before `before`; at most `limit` executions and as many
    ticks, oldest first, and fewer where they hold much: a purge holds the writer up for a
    moment only. A tick outlives its execution, and goes on naming it. The `Activity` of all
    jobs outlives both: of it goes what was before `activity_before`.

    Outcome: how many executions, parts of long ones, ticks and counts went, and 1 more if
    space was given back; 0 means that nothing is left to do.
    """

    job: str | None
    before: datetime | None
    keep: int | None
    limit: int
    activity_before: datetime | None = None


class Put(msgspec.Struct, frozen=True):
    """Keep a small value under a kind and a key; None deletes it. `value` is JSON, of a few
    kilobytes at most: all entries of a kind are read at once. Outcome: None."""

    kind: str
    key: str
    value: bytes | None


class Touch(msgspec.Struct, frozen=True):
    """Write something, only to find out whether that is possible. Outcome: None."""

    at: datetime


Change = (
    Submit
    | Record
    | AppendLog
    | KeepResult
    | Put
    | SetSwitch
    | RecordTicks
    | SetWatch
    | Purge
    | Touch
)


class Created(msgspec.Struct, frozen=True):
    """The execution was created; `version` is as in `Row`."""

    version: int


class Existing(msgspec.Struct, frozen=True):
    """The tick or the key had led to this execution before; another one was not made.

    `fingerprint` is the one kept with the key, None for a tick.
    """

    execution: str
    submitted: datetime
    fingerprint: str | None = None


Outcome = Created | Existing | int | None

# -- what is read ------------------------------------------------------------------


class Row(msgspec.Struct, frozen=True):
    """An execution as lists need it.

    `number` counts executions from 1 in the order they were created. `version` is the
    number of its last fact that set the state, counted over all executions: it only ever
    grows, and says what a listener has not seen yet. `summary` is None while unfinished.
    """

    number: int
    version: int
    id: str
    job: str
    state: State
    submitted: datetime
    modified: datetime
    summary: bytes | None


class Activity(msgspec.Struct, frozen=True):
    """What a job did in a span of time: how many executions were submitted that ended in each
    final state, how many due times were "missed" or "skipped", those that are 0 left out; and
    how long the executions took together, from start to end."""

    counts: dict[str, int] = {}
    took: timedelta = timedelta(0)


class History(msgspec.Struct, frozen=True):
    """All facts of an execution in order, and the plan it was submitted with.

    `opened` is the version at which it was submitted or last sent round again: of two
    executions the one opened first has the lower one, whatever the clock said. `damage` says
    what of it could not be read, for people, and was left out; the first fact is `Submitted` in
    any case.
    """

    plan: Plan
    facts: list[AnyFact]
    version: int
    opened: int
    damage: str | None = None


class Committed(msgspec.Struct, frozen=True):
    """The facts that one `Submit` or `Record` has committed, and the version they have.
    `damage` says, for humans, why they cannot be read; then there are none."""

    version: int
    execution: str
    job: str
    facts: list[AnyFact]
    damage: str | None = None


class FactsPage(msgspec.Struct, frozen=True):
    """All facts above the version asked for, up to version `upto`. A version in that range that
    is missing was purged: versions are consecutive."""

    committed: list[Committed]
    upto: int


class Remark(msgspec.Struct, frozen=True):
    """Something about the store that people should know of. `lost` says that changes which were
    committed are not in it any more."""

    text: str
    lost: bool = False


class Store(Protocol):
    """See the module. The methods after `commit` are reads."""

    def open(self) -> None:
        """Take the store for this process, creating or migrating it. Raises `StoreError`."""
        ...

    def close(self) -> None:
        """Give it back. Safe to call twice, and when `open` failed."""
        ...

    def commit(self, batch: Sequence[Change]) -> list[Outcome]:
        """Write a batch in one durable transaction, in order; an outcome for each change."""
        ...

    @property
    def epoch(self) -> str:
        """A random word made with the store: versions of other epochs mean nothing here."""
        ...

    @property
    def logs(self) -> Logs:
        """The logs of the executions in this store."""
        ...

    def version(self) -> int:
        """The highest version given so far, 0 at the beginning."""
        ...

    def entries(self, kind: str) -> dict[str, bytes]:
        """The values that `Put` keeps under a kind, by key."""
        ...

    def facts_since(self, version: int, limit: int, room: int) -> FactsPage:
        """The facts of all executions above a version, in the order of versions: those of
        `limit` versions at most, and of fewer where they are longer than `room` bytes (but of
        one, if there is any)."""
        ...

    def switches(self) -> dict[str, SetSwitch]:
        """The last word on each job's schedule that was switched by hand."""
        ...

    def watches(self) -> dict[str, Watch]:
        """The schedules watched, by job."""
        ...

    def ticks(self, job: str, before: datetime | None, limit: int) -> list[Tick]:
        """A job's ledger, newest first: ticks with `due` below `before`. One more than `limit`
        where a missed run and a tick at its beginning have the last `due` in common."""
        ...

    def jobs(self) -> list[str]:
        """The jobs that have executions, whether or not they are registered."""
        ...

    def knows(self, job: str) -> bool:
        """Whether there is any history of a job: an execution, a tick, or a count of them."""
        ...

    def submitted_with(self, job: str, key: str) -> Existing | None:
        """What the submit of a job with this Idempotency-Key created, if there was one."""
        ...

    def activity(self, job: str, bounds: Sequence[datetime]) -> list[Activity]:
        """What a job did between each two neighbours of `bounds`, which are whole quarter hours
        in ascending order. It is counted as it happens, and not lost with the executions.

        An execution counts when it was submitted, a tick when it was due, a run of missed
        ones when the first one was. What is unfinished does not count yet."""
        ...

    def unfinished(self) -> list[str]:
        """The ids of unfinished executions, oldest first; finished ones cost nothing."""
        ...

    def history(self, execution: str) -> History | None:
        """Everything about one execution but its logs and its large results."""
        ...

    def find(self, execution: str) -> Row | None:
        """One execution's row."""
        ...

    def page(
        self,
        *,
        job: str | None,
        state: State | None,
        before: int | None,
        limit: int,
        room: int | None = None,
    ) -> list[Row]:
        """Executions, newest first, with `number` below `before`; by index, never a scan. They
        stop before their summaries are more than `room` bytes (but there is one, if any is)."""
        ...

    def finished_since(
        self, version: int, upto: int, limit: int, job: str | None, room: int | None = None
    ) -> list[Row]:
        """Finished executions with `version` < row.version <= `upto`, lowest version first; with
        `room` as in `page`."""
        ...

    def recent(self, jobs: Sequence[str], last: int) -> dict[str, list[RecentExecution]]:
        """For each job its newest `last` executions, newest first."""
        ...

    def result(self, execution: str, task: str, attempt: int) -> bytes | None:
        """The JSON that `KeepResult` kept of this attempt, None if there is none."""
        ...

    def check(self) -> list[Remark]:
        """Look whether the store is still what it was, at little cost; what people should know
        of since the last call. Raises `StoreUnavailable` where it is not."""
        ...

    def size(self) -> int:
        """Bytes the store takes on disk, or in memory."""
        ...

    def backup(self, path: str) -> None:
        """Write a consistent copy, with an epoch of its own, to a new file while reads and commits
        go on. Raises `StoreError`."""
        ...

    def backup_unopened(self, path: str) -> None:
        """As `backup`, of a store that is not open in this process, whether or not a server has it
        open. Raises `StoreError`, also for a store that cannot do that."""
        ...
