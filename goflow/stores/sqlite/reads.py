"""Reads of committed data.

The rule: every read uses an index, and its cost is proportional to the rows it returns.
"""

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing
from datetime import datetime
from itertools import pairwise

import msgspec

from goflow.core.events import AnyFact, Retried, Submitted, decode_facts
from goflow.core.graph import Plan, decode_plan
from goflow.core.states import State
from goflow.core.summary import RecentExecution
from goflow.stores.base import (
    Accounted,
    Activity,
    Chunk,
    Committed,
    Existing,
    FactsPage,
    History,
    Row,
    Tick,
    TickOutcome,
)
from goflow.stores.sqlite import chunks, costs, entries, results
from goflow.stores.sqlite.codec import (
    HIGHEST,
    MICROSECOND,
    QUARTER,
    in_range,
    instant_or_none,
    item_column,
    to_instant,
    to_micros,
)
from goflow.stores.sqlite.schema import KEYED, find_number, last_version

_TICKS = """SELECT due, outcome, at, reason, count, until, execution, merged_into FROM ticks
    WHERE job = ? AND due < ? ORDER BY due DESC, run DESC LIMIT ?"""
# The index is named where a wrong guess of the planner would read the whole table.
_UNFINISHED = """SELECT id FROM executions INDEXED BY executions_unfinished
    WHERE finished = 0 ORDER BY number"""
_FACTS_SINCE = """SELECT f.version, e.id, e.job, f.body FROM facts f
    LEFT JOIN executions e ON e.number = f.execution
    WHERE f.version > ? AND f.version <= ? ORDER BY f.version LIMIT ?"""
_RECENT = """SELECT id, state, submitted, modified, started, ended, version FROM executions
    WHERE job = ? ORDER BY number DESC LIMIT ?"""
_WHOLE = """SELECT e.number, e.version, e.id, e.job, e.state, e.submitted, e.modified, s.body
    FROM executions e LEFT JOIN summaries s ON s.execution = e.number AND e.finished = 1"""
_ACTIVITY = """SELECT outcome, sum(count), sum(took) FROM activity
    WHERE job = ? AND quarter >= ? AND quarter < ? GROUP BY outcome HAVING sum(count) > 0"""
_KNOWS = """SELECT EXISTS (SELECT 1 FROM tallies WHERE job = ?1)
    OR EXISTS (SELECT 1 FROM ticks WHERE job = ?1)
    OR EXISTS (SELECT 1 FROM activity WHERE job = ?1)"""
_HISTORY = """SELECT f.body, f.version FROM facts f
    WHERE f.execution = ? ORDER BY f.version"""
_STATES = {state.value: state for state in State}


class Reads(ABC):
    """The reads of a store, on connections that its subclass provides."""

    @abstractmethod
    def _reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """A connection that nobody else uses meanwhile. Turns errors that may pass into
        `StoreUnavailable`."""

    def version(self) -> int:
        with self._reading() as connection:
            return last_version(connection)

    def entries(self, kind: str) -> dict[str, bytes]:
        with self._reading() as connection:
            return dict(connection.execute(entries.READ, (kind,)).fetchall())

    def facts_since(self, version: int, limit: int, room: int) -> FactsPage:
        found: list[Committed] = []
        with self._reading() as connection:
            upto = last_version(connection)  # first: what is committed meanwhile is above it
            place = in_range((version, upto, limit))
            seen = 0
            with closing(connection.execute(_FACTS_SINCE, place)) as rows:
                for number, execution, job, body in rows:
                    room -= len(body)
                    if room < 0 and seen:
                        break
                    seen += 1
                    version = number
                    if execution is not None:  # else a purge has begun to delete it
                        found.append(_committed(number, execution, job, body))
                else:
                    if seen < limit:
                        version = max(version, upto)
        return FactsPage(found, version)

    def accounted(self) -> dict[str, Accounted]:
        with self._reading() as connection:
            rows = connection.execute("SELECT job, anchor, upto FROM accounted").fetchall()
        return {job: Accounted(to_instant(anchor), to_instant(upto)) for job, anchor, upto in rows}

    def ticks(self, job: str, before: datetime | None, limit: int) -> list[Tick]:
        below = HIGHEST if before is None else to_micros(before)
        with self._reading() as connection:
            rows = connection.execute(_TICKS, (job, below, limit + 1)).fetchall()
        # A summary and the tick at its beginning are not parted: pages go on by `due`.
        if len(rows) > limit and rows[limit][0] != rows[limit - 1][0]:
            del rows[limit]
        return [
            Tick(to_instant(due), TickOutcome(outcome), to_instant(at), reason, count,
                 instant_or_none(until), execution, instant_or_none(into))
            for due, outcome, at, reason, count, until, execution, into in rows
        ]  # fmt: skip

    def activity(self, job: str, bounds: Sequence[datetime]) -> list[Activity]:
        quarters = [to_micros(bound) // QUARTER for bound in bounds]
        with self._reading() as connection:
            spans = [
                connection.execute(_ACTIVITY, (job, *span)).fetchall()
                for span in pairwise(quarters)
            ]
            sums = [costs.read(connection, job, *span) for span in pairwise(quarters)]
        return [
            Activity(
                {outcome: count for outcome, count, _ in span},
                sum((took for _, _, took in span)) * MICROSECOND,
                cost,
            )
            for span, cost in zip(spans, sums, strict=True)
        ]

    def unfinished(self) -> list[str]:
        with self._reading() as connection:
            rows = connection.execute(_UNFINISHED)
            return [execution for (execution,) in rows.fetchall()]

    def history(self, execution: str) -> History | None:
        with self._reading() as connection:
            found = connection.execute(
                """SELECT e.number, e.version, e.job, e.submitted, e.plan, p.body
                FROM executions e LEFT JOIN plans p ON p.id = e.plan WHERE e.id = ?""",
                (execution,),
            ).fetchone()
            if found is None:
                return None
            number, last, job, submitted, plan_id, plan = found
            facts: list[AnyFact] = []
            opened, damage = 0, None
            with closing(connection.execute(_HISTORY, (number,))) as rows:
                for body, version in rows:
                    try:
                        batch = decode_facts(body)
                    except msgspec.MsgspecError as error:
                        damage = damage or f"the facts of version {version} cannot be read: {error}"
                        continue
                    facts += batch
                    if any(isinstance(fact, Submitted | Retried) for fact in batch):
                        opened = version
        if not facts or not isinstance(facts[0], Submitted):
            damage = damage or "its first fact is missing"
            at = to_instant(submitted)
            facts.insert(0, Submitted(at, id=execution, job=job, plan=plan_id, cause="api"))
        try:
            shape = decode_plan(plan)
        except (TypeError, msgspec.MsgspecError) as error:  # TypeError if there is none
            damage, shape = f"its plan cannot be read: {error}", Plan(())
        return History(shape, facts, last, opened, damage)

    def jobs(self) -> list[str]:
        with self._reading() as connection:
            return [job for (job,) in connection.execute("SELECT DISTINCT job FROM tallies")]

    def knows(self, job: str) -> bool:
        with self._reading() as connection:
            (known,) = connection.execute(_KNOWS, (job,)).fetchone()
        return bool(known)

    def submitted_with(self, job: str, key: str) -> Existing | None:
        with self._reading() as connection:
            found = connection.execute(KEYED, (job, key)).fetchone()
        return None if found is None else Existing(found[0], to_instant(found[1]), found[2])

    def find(self, execution: str) -> Row | None:
        found = self._rows(f"{_WHOLE} WHERE e.id = ?", (execution,))
        return found[0] if found else None

    def page(
        self,
        *,
        job: str | None,
        state: State | None,
        before: int | None,
        limit: int,
        room: int | None = None,
    ) -> list[Row]:
        below = HIGHEST if before is None else before
        where, values = _where(("e.job =", job), ("e.state =", state and state.value))
        return self._rows(
            f"{_WHOLE} WHERE {where} e.number < ? ORDER BY e.number DESC LIMIT ?",
            (*values, below, limit),
            room,
        )

    def finished_since(
        self, version: int, upto: int, limit: int, job: str | None, room: int | None = None
    ) -> list[Row]:
        where, values = _where(("e.job =", job))
        return self._rows(
            f"""{_WHOLE} WHERE {where} e.finished = 1 AND e.version > ? AND e.version <= ?
            ORDER BY e.version LIMIT ?""",
            (*values, version, upto, limit),
            room,
        )

    def recent(self, jobs: Sequence[str], last: int) -> dict[str, list[RecentExecution]]:
        return {job: self._marks(job, last) for job in jobs}

    def _marks(self, job: str, last: int) -> list[RecentExecution]:
        with self._reading() as connection:
            rows = connection.execute(_RECENT, (job, last)).fetchall()
        return [
            RecentExecution(execution, _STATES[state], to_instant(submitted), to_instant(modified),
                 instant_or_none(started), instant_or_none(ended), version)
            for execution, state, submitted, modified, started, ended, version in rows
        ]  # fmt: skip

    def _rows(
        self, statement: str, values: Sequence[str | int], room: int | None = None
    ) -> list[Row]:
        found: list[Row] = []
        with (
            self._reading() as connection,
            closing(connection.execute(statement, in_range(values))) as rows,
        ):
            for number, version, id, job, state, submitted, modified, summary in rows:
                if room is not None:
                    room -= len(summary or b"")
                    if room < 0 and found:
                        break
                found.append(
                    Row(number, version, id, job, _STATES[state], to_instant(submitted),
                        to_instant(modified), summary)
                )  # fmt: skip
        return found

    def result(
        self, execution: str, task: str, attempt: int, item: int | None = None
    ) -> bytes | None:
        with self._reading() as connection:
            number = find_number(connection, execution)
            if number is None:
                return None
            place = in_range((number, task, item_column(item), attempt))
            row = connection.execute(results.READ, place).fetchone()
        return None if row is None else bytes(row[0])

    def chunk(self, execution: str, task: str, round: int, index: int) -> Chunk | None:
        with self._reading() as connection:
            number = find_number(connection, execution)
            if number is None:
                return None
            place = in_range((number, task, round, index))
            row = connection.execute(chunks.READ, place).fetchone()
        if row is None or index >= row[0] + row[1]:
            return None
        return Chunk(row[0], row[1], bytes(row[2]))


def _committed(version: int, execution: str, job: str, body: bytes) -> Committed:
    try:
        return Committed(version, execution, job, decode_facts(body))
    except msgspec.MsgspecError as error:
        return Committed(version, execution, job, [], str(error))


def _where(*conditions: tuple[str, str | None]) -> tuple[str, list[str]]:
    """The conditions with a value, as the beginning of a WHERE; their values."""
    asked = [(condition, value) for condition, value in conditions if value is not None]
    return "".join(f"{condition} ? AND " for condition, _ in asked), [value for _, value in asked]
