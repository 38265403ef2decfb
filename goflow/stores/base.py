"""The contract of stores.

A store keeps jobs, executions, ticks, logs and small entries. It is synchronous. One thread, the
journal's, calls `commit`; other threads may read at the same time, and see only what was
committed. The one rule: when `commit` returns, everything in the batch is durable and visible to
reads; when it raises, nothing of the batch is.

Errors: `open` raises `StoreError` with the reason (a directory, not writable, not a goflow store,
damaged, from a newer version, in use by another server). `commit` and the reads raise
`StoreUnavailable` for trouble that may pass (locked, disk full, I/O error). `commit` raises
`NotFound` for facts or a log of an execution that does not exist, or was purged.

To add a store: implement `Store`, add its URL scheme in `registry`, and add it to `KINDS` in
tests/stores/conftest.py, so that the conformance suite runs on it.
"""

import enum
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

import msgspec

from goflow.core.cost import Cost
from goflow.core.events import AnyFact, Submitted
from goflow.core.graph import Plan
from goflow.core.states import State
from goflow.core.summary import RecentExecution
from goflow.core.transition import Transition
from goflow.stores.logs import AppendLog, Logs

# -- what is written ---------------------------------------------------------------


class Idempotency(msgspec.Struct, frozen=True):
    """A submit's `Idempotency-Key`, unique per job, and a fingerprint of the request."""

    key: str
    fingerprint: str


class TickOutcome(enum.StrEnum):
    """How a due time ended."""

    FIRED = "fired"
    SKIPPED = "skipped"
    MISSED = "missed"
    MERGED = "merged"


class Tick(msgspec.Struct, frozen=True):
    """The record of a due time, or of `count` consecutive missed or merged ones from `due` to
    `until`.

    `execution` is the id of the execution that a fired one created. `into` is the due time that
    merged ones were merged into because of a clock change. `reason` is a human-readable sentence,
    or "".
    """

    due: datetime
    outcome: TickOutcome
    at: datetime
    reason: str = ""
    count: int = 1
    until: datetime | None = None
    execution: str | None = None
    into: datetime | None = None


class Accounted(msgspec.Struct, frozen=True):
    """All due times up to `upto` of the schedule with this `anchor` are in the ledger.

    The store keeps the last one of each job. `upto` never goes back for the same anchor, and
    begins anew with another.
    """

    anchor: datetime
    upto: datetime


class Submit(msgspec.Struct, frozen=True):
    """Create an execution, unless its tick or its key has one already.

    With `tick`, the same transaction claims (job, fact.scheduled_at): the ledger has it as fired,
    with the `reason` if there is one. A tick recorded as missed can still be claimed. `merged` is
    added to the ledger too. `accounted` applies in any case; a backfill has none, since due times
    before its own may not be in the ledger yet. Outcome: `Created` or `Existing`.
    """

    fact: Submitted
    plan: Plan
    tick: bool = False
    idempotency: Idempotency | None = None
    reason: str = ""
    merged: Tick | None = None
    accounted: Accounted | None = None


class Record(msgspec.Struct, frozen=True):
    """Append facts to an execution, and update its row.

    `summary` is the finished execution's `Summary` as JSON, None while it is unfinished, also when
    a retry reopens it. `cost` is then its cost in the summary, None if there is none. `started` and
    `finished` are instants of the execution, None before them.
    `transition` is what the facts changed, for the live state; stores ignore it.
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
    cost: Cost | None = None


class KeepResult(msgspec.Struct, frozen=True):
    """Keep the JSON of an attempt's large result apart from its fact `TaskSucceeded`, which comes
    in the same batch or a later one. `item` is as in the fact. Outcome: None."""

    execution: str
    task: str
    attempt: int
    body: bytes
    item: int | None = None


class KeepChunk(msgspec.Struct, frozen=True):
    """Keep `items` consecutive items that a generator has yielded, from the one with index `first`.

    `body` is a JSON array of them. The fact `Yielded` about them comes in the same batch. `round`
    is as in `goflow.core.result.StoredItems`. Outcome: None.
    """

    execution: str
    task: str
    round: int
    first: int
    items: int
    body: bytes


class RecordTicks(msgspec.Struct, frozen=True):
    """Add ticks without an execution to a job's ledger. A tick that is there already stays as it
    is, unless it is merged and the new one is not. Outcome: None.
    """

    job: str
    ticks: list[Tick]
    accounted: Accounted | None = None


class Purge(msgspec.Struct, frozen=True):
    """Delete finished executions with their facts, results, chunks, logs and keys, and old ticks.

    Of `job`, or of all jobs if it is None, it deletes executions submitted before `before`, all
    executions but the newest `keep`, and ticks recorded before `before`; None means no such bound.
    It deletes at most `limit` executions and as many ticks, oldest first, and fewer where they are
    large, so that it holds up the writer for a moment only. A tick outlives its execution and still
    names it. The `Activity` of jobs outlives both; it is deleted before `activity_before`.

    Outcome: the number of deleted executions, parts of long ones, ticks and counts, and 1 more if
    the file was shortened; 0 means that nothing is left to do.
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
    """A no-op write that probes whether the store is writable. Outcome: None."""

    at: datetime


Change = Submit | Record | AppendLog | KeepResult | KeepChunk | Put | RecordTicks | Purge | Touch


class Created(msgspec.Struct, frozen=True):
    """The execution was created; `version` is as in `Row`."""

    version: int


class Existing(msgspec.Struct, frozen=True):
    """The tick or the key has created this execution before, so the submit created none.

    `fingerprint` is the one kept with the key, None for a tick.
    """

    execution: str
    submitted: datetime
    fingerprint: str | None = None


Outcome = Created | Existing | int | None

# -- what is read ------------------------------------------------------------------


class Row(msgspec.Struct, frozen=True):
    """An execution in a list.

    `number` counts executions from 1 in the order of their creation. `version` is that of its
    latest facts. Versions count the `Submit` and `Record` changes of all executions, so they only
    grow, and a listener sees from them what is new. `summary` is None while unfinished.
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
    """The activity of a job in a span of time.

    `counts` has the number of executions submitted in it, by final state, and the number of due
    times that were "missed" or "skipped"; zeros are left out. `took` is the sum of the durations
    of these executions, from start to end. `cost` is the sum of their costs, None without any; it
    has at most `COUNTS_SUMMED` counts.
    """

    counts: dict[str, int] = {}
    took: timedelta = timedelta(0)
    cost: Cost | None = None


class History(msgspec.Struct, frozen=True):
    """All facts of an execution in order, and the plan it was submitted with.

    `opened` is the version of its submit or latest retry; it orders executions even if the clock
    was set back. `damage` describes facts that could not be read and are left out, in a
    human-readable sentence. The first fact is `Submitted` in any case.
    """

    plan: Plan
    facts: list[AnyFact]
    version: int
    opened: int
    damage: str | None = None


class Chunk(msgspec.Struct, frozen=True):
    """Items that `KeepChunk` has kept; the fields are as there."""

    first: int
    items: int
    body: bytes


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
    """A human-readable warning about the store. With `lost`, committed changes are no longer in
    it."""

    text: str
    lost: bool = False


class Store(Protocol):
    """Keeps everything; see the module for its promises. The methods after `commit` are reads."""

    def open(self) -> None:
        """Lock the store for this process; create or migrate it. Raises `StoreError`."""
        ...

    def close(self) -> None:
        """Release it. Safe to call twice, and after an `open` that failed."""
        ...

    def commit(self, batch: Sequence[Change]) -> list[Outcome]:
        """Write a batch in one durable transaction, in order; an outcome for each change."""
        ...

    @property
    def file(self) -> Path | None:
        """The file that the store is in, once open; None for a store without a file. The engine
        keeps a file of its own beside it, see `goflow.engine.hints`."""
        ...

    @property
    def epoch(self) -> str:
        """A random word created with the store. Versions of another epoch mean nothing here."""
        ...

    @property
    def logs(self) -> Logs:
        """The logs of the executions in this store."""
        ...

    def version(self) -> int:
        """The highest version so far, 0 at the beginning."""
        ...

    def entries(self, kind: str) -> dict[str, bytes]:
        """The values that `Put` keeps under a kind, by key."""
        ...

    def facts_since(self, version: int, limit: int, room: int) -> FactsPage:
        """The facts of all executions above a version, in the order of versions. The page ends
        after `limit` versions, or before its facts exceed `room` bytes, but has one version if
        there is any."""
        ...

    def accounted(self) -> dict[str, Accounted]:
        """Up to when the due times of each job are in its ledger, by job."""
        ...

    def ticks(self, job: str, before: datetime | None, limit: int) -> list[Tick]:
        """A job's ledger, newest first: ticks with `due` below `before`. There is one more than
        `limit` where the last two have the same `due`: a tick, and a run of missed ones that
        begins with it."""
        ...

    def jobs(self) -> list[str]:
        """The jobs with executions, registered or not."""
        ...

    def knows(self, job: str) -> bool:
        """Whether a job has any history: an execution, a tick, or counts of them."""
        ...

    def submitted_with(self, job: str, key: str) -> Existing | None:
        """The execution that a submit of a job with this Idempotency-Key created, if any."""
        ...

    def activity(self, job: str, bounds: Sequence[datetime]) -> list[Activity]:
        """A job's activity between each two neighbours of `bounds`, which are whole quarter hours
        in ascending order. It is counted in the transactions that write it, and survives purges.

        An execution counts at its submit, a tick at its due time, a run of missed ones at the
        first due time. Unfinished executions do not count yet; the costs of one that was retried
        count as at its last end until it ends again."""
        ...

    def unfinished(self) -> list[str]:
        """The ids of unfinished executions, oldest first. It takes time for these alone."""
        ...

    def history(self, execution: str) -> History | None:
        """Everything about one execution except its logs, its large results and its chunks."""
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
        """Executions, newest first, with `number` below `before`; by index, never a scan. The page
        ends before its summaries exceed `room` bytes, but has one execution if there is any."""
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

    def result(
        self, execution: str, task: str, attempt: int, item: int | None = None
    ) -> bytes | None:
        """The JSON that `KeepResult` kept of this attempt, None if there is none."""
        ...

    def chunk(self, execution: str, task: str, round: int, index: int) -> Chunk | None:
        """The chunk with the item of this index, None if there is none."""
        ...

    def check(self) -> list[Remark]:
        """Check at little cost that the store is still the one that was opened; the warnings since
        the last call. Raises `StoreUnavailable` if it is not."""
        ...

    def size(self) -> int:
        """The bytes that the store uses on disk, or in memory."""
        ...

    def backup(self, path: str) -> None:
        """Write a consistent copy, with an epoch of its own, to a new file while reads and commits
        go on. Raises `StoreError`."""
        ...

    def backup_unopened(self, path: str) -> None:
        """As `backup`, of a store that is not open in this process, whether or not a server has it
        open. Raises `StoreError`, also for a store that cannot do that."""
        ...
