"""The counts of each quarter hour agree with a recount of the whole history."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goflow.core.cost import COUNTS_SUMMED, Cost, added
from goflow.core.events import AnyFact, Finished, MarkedSkipped, Retried, Submitted, TaskStarted
from goflow.core.graph import Plan, PlannedTask
from goflow.core.states import State
from goflow.stores.base import (
    Activity,
    Change,
    Created,
    Purge,
    Record,
    RecordTicks,
    Store,
    Submit,
    Tick,
    TickOutcome,
)
from tests.effort import examples
from tests.stores.conftest import Opened

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
QUARTERS = 6
BOUNDS = [BEGIN + number * QUARTER for number in range(QUARTERS + 1)]
PLAN = Plan((PlannedTask("a"),))

jobs = st.sampled_from(["one", "two"])
places = st.integers(0, 11)  # the position of an execution
instants = st.integers(0, QUARTERS * 900 - 1).map(lambda second: BEGIN + timedelta(seconds=second))
final = st.sampled_from([State.SUCCESSFUL, State.FAILED, State.CANCELLED])
took = st.none() | st.integers(-5, 10_000_000).map(lambda micros: timedelta(microseconds=micros))
dues = st.integers(0, 3).map(lambda number: BEGIN + number * QUARTER)
missed = st.tuples(
    dues, st.sampled_from([TickOutcome.MISSED, TickOutcome.SKIPPED]), st.integers(1, 3)
)
costs = st.none() | st.builds(
    Cost,
    st.sampled_from([0.0, 0.5, 2.25]),
    st.integers(0, 3),
    st.integers(0, 3),
    st.dictionaries(st.sampled_from(["rows", "files"]), st.integers(-2, 3)),
)
steps = st.one_of(
    st.tuples(st.just("submit"), jobs, instants),
    st.tuples(st.just("claim"), jobs, dues),
    st.tuples(st.just("begin"), places),
    st.tuples(st.just("finish"), places, final, took, costs),
    st.tuples(st.just("retry"), places),
    st.tuples(st.just("mark"), places, final),
    st.tuples(st.just("miss"), jobs, missed),
    st.tuples(st.just("purge"), st.integers(0, 3)),
    st.tuples(st.just("commit")),
)


class History:
    """Commits steps in batches, and keeps a plain record of each execution."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._batch: list[Change] = []
        self._executions: list[dict[str, Any]] = []
        self._ticks: dict[tuple[str, datetime, bool], tuple[str, int]] = {}

    def take(self, step: str, *details: Any) -> None:
        getattr(self, f"_{step}")(*details)

    def _submit(self, job: str, at: datetime, due: datetime | None = None) -> None:
        id = f"x{len(self._executions)}"
        fact = Submitted(at, id=id, job=job, plan=PLAN.id, cause="api", scheduled_at=due)
        self._batch.append(Submit(fact, PLAN, tick=due is not None))
        self._executions.append({"id": id, "job": job, "at": at, "state": None, "gone": False})

    def _claim(self, job: str, due: datetime) -> None:
        if self._ticks.get((job, due, False), ("", 0))[0] != "fired":
            self._ticks[job, due, False] = "fired", 1
            self._submit(job, due, due)

    def _find(self, place: int, *, finished: bool) -> dict[str, Any] | None:
        if place >= len(self._executions) or self._executions[place]["gone"]:
            return None
        found = self._executions[place]
        return found if finished is (found["state"] is not None) else None

    def _begin(self, place: int) -> None:
        if (found := self._find(place, finished=False)) is not None:
            now = found["at"]
            begun = TaskStarted(now, "a", 1)
            self._batch.append(Record(found["id"], [begun], State.RUNNING, now, started=now))

    def _finish(self, place: int, state: State, took: timedelta | None, cost: Cost | None) -> None:
        if (found := self._find(place, finished=False)) is not None:
            started = None if took is None else found["at"]
            ended = found["at"] + (QUARTER if took is None else took)
            found |= {"state": state, "took": took, "times": (started, ended)}
            # As an execution has it: of all rounds so far, but for the counts.
            if (before := found.get("cost")) is not None:
                last = Cost() if cost is None else cost
                cost = msgspec.structs.replace(
                    added(before, last, counts=False), counts=last.counts
                )
            found["cost"] = cost
            facts: list[AnyFact] = [Finished(ended, state)]
            text = summary(cost)
            self._batch.append(
                Record(found["id"], facts, state, ended, text, started, ended, cost=cost)
            )
            self._commit()  # before a retry

    def _retry(self, place: int) -> None:
        if (found := self._find(place, finished=True)) is not None:
            found["state"] = None
            again = Retried(found["at"], ("a",))
            self._batch.append(Record(found["id"], [again], State.NOTSTARTED, found["at"]))

    def _mark(self, place: int, state: State) -> None:
        if (found := self._find(place, finished=True)) is not None:
            found["state"] = state
            marked = MarkedSkipped(found["at"], "a", finished=state)
            cost, times = found["cost"], found["times"]
            text = summary(cost)
            self._batch.append(
                Record(found["id"], [marked], state, found["at"], text, *times, cost=cost)
            )

    def _miss(self, job: str, missed: tuple[datetime, TickOutcome, int]) -> None:
        due, outcome, count = missed
        until = due + QUARTER if count > 1 else None
        tick = Tick(due, outcome, due, "", count, until)
        self._batch.append(RecordTicks(job, [tick]))
        self._ticks.setdefault((job, due, count > 1), (outcome, count))

    def _purge(self, keep: int) -> None:
        self._commit()
        self._store.commit([Purge(None, None, keep, 100)])
        for execution in self._executions:
            execution["gone"] = self._store.find(execution["id"]) is None

    def _commit(self) -> None:
        outcomes = self._store.commit(self._batch)
        for change, outcome in zip(self._batch, outcomes, strict=True):
            assert isinstance(outcome, Created) or not isinstance(change, Submit)
        self._batch = []

    def recounted(self, job: str) -> list[Activity]:
        self._commit()
        counts: list[Counter[str]] = [Counter() for _ in range(QUARTERS)]
        took = [timedelta(0)] * QUARTERS
        for execution in self._executions:
            if execution["job"] == job and execution["state"] is not None:
                quarter = (execution["at"] - BEGIN) // QUARTER
                counts[quarter][str(execution["state"])] += 1
                took[quarter] += max(execution["took"] or timedelta(0), timedelta(0))
        for (ticked, due, _), (outcome, count) in self._ticks.items():
            if ticked == job and outcome != "fired":
                counts[(due - BEGIN) // QUARTER][str(outcome)] += count
        costs = self._costs(job)
        return [Activity(dict(counts[n]), took[n], costs[n]) for n in range(QUARTERS)]

    def _costs(self, job: str) -> list[Cost | None]:
        """The sums of the costs that executions had when they ended last."""
        sums: list[Cost | None] = [None] * QUARTERS
        for execution in self._executions:
            cost = execution.get("cost")
            if execution["job"] == job and cost is not None:
                quarter = (execution["at"] - BEGIN) // QUARTER
                sums[quarter] = added(sums[quarter], cost, counts=True)
        return sums


def summary(cost: Cost | None) -> bytes:
    return b"{}" if cost is None else msgspec.json.encode({"cost": cost})


def shown(cost: Cost | None) -> Cost:
    """A cost without the counts that are zero, which are not shown."""
    cost = cost or Cost()
    counts = {name: number for name, number in cost.counts.items() if number}
    return msgspec.structs.replace(cost, counts=counts)


@settings(max_examples=examples(60), deadline=None)
@given(history=st.lists(steps, max_size=60))
def test_counts_agree_with_a_recount_of_any_history(
    opened: Opened, history: list[tuple[Any, ...]]
) -> None:
    with opened() as store:
        told = History(store)
        for step in history:
            told.take(*step)
        for job in ("one", "two"):
            for one, other in zip(told.recounted(job), store.activity(job, BOUNDS), strict=True):
                assert (one.counts, one.took) == (other.counts, other.took)
                assert shown(one.cost) == shown(other.cost)


def finished(store: Store, *executions: tuple[str, str, datetime]) -> None:
    for id, job, at in executions:
        fact = Submitted(at, id=id, job=job, plan=PLAN.id, cause="api")
        ended = at + timedelta(seconds=2)
        record = Record(id, [Finished(ended, "failed")], State.FAILED, ended, b"{}", at, ended)
        store.commit([Submit(fact, PLAN), record])


def test_spans_match_the_request_on_quarter_hours(store: Store) -> None:
    late = BEGIN + 2 * QUARTER - timedelta(microseconds=1)
    finished(store, ("a", "one", BEGIN), ("b", "one", late), ("c", "one", late + QUARTER))
    bounds = [BEGIN, BEGIN + 2 * QUARTER, BEGIN + 3 * QUARTER, BEGIN + 9 * QUARTER]
    two, one = timedelta(seconds=4), timedelta(seconds=2)
    assert store.activity("one", bounds) == [
        Activity({"failed": 2}, two),
        Activity({"failed": 1}, one),
        Activity(),
    ]
    assert store.activity("one", bounds[:1]) == store.activity("one", []) == []
    assert store.activity("other", bounds[:2]) == [Activity()]


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_a_purge_deletes_the_old_counts_of_every_job_and_no_others(
    store: Store, limit: int
) -> None:
    old = [(f"{job}{n}", job, BEGIN + n * QUARTER) for job in ("a", "b", "c") for n in range(2)]
    new = ("d", "b", BEGIN + 2 * QUARTER)
    finished(store, *old, new)
    purge = Purge(None, None, None, limit, BEGIN + 2 * QUARTER)
    gone = 0
    while some := store.commit([purge])[0]:
        assert isinstance(some, int)
        assert some <= limit
        gone += some
    assert gone == len(old)
    for job in ("a", "c"):
        assert store.activity(job, BOUNDS) == [Activity()] * QUARTERS
    kept = store.activity("b", BOUNDS)
    assert [did.counts for did in kept] == [{}, {}, {"failed": 1}, {}, {}, {}]
    assert len(store.page(job=None, state=None, before=None, limit=100)) == 7


def spend(store: Store, id: str, at: datetime, cost: Cost) -> None:
    """An execution of job "one" that ends with that cost."""
    fact = Submitted(at, id=id, job="one", plan=PLAN.id, cause="api")
    facts: list[AnyFact] = [Finished(at, "failed")]
    record = Record(id, facts, State.FAILED, at, summary(cost), cost=cost)
    store.commit([Submit(fact, PLAN), record])


def test_the_costs_of_a_span_are_summed_with_the_highest_peak(store: Store) -> None:
    spend(store, "a", BEGIN, Cost(1.5, 400, 10, {"rows": 3}))
    spend(store, "b", BEGIN + QUARTER, Cost(0.25, 100, 5, {"rows": 1, "files": 2.5}))
    (activity,) = store.activity("one", [BEGIN, BEGIN + 2 * QUARTER])
    assert activity.cost == Cost(1.75, 400, 15, {"files": 2.5, "rows": 4})
    assert store.activity("other", [BEGIN, BEGIN + QUARTER])[0].cost is None


def test_the_names_of_counts_in_a_span_are_bounded(store: Store) -> None:
    for number in range(COUNTS_SUMMED + 20):
        spend(store, f"x{number}", BEGIN, Cost(counts={"rows": 1, f"n{number}": 1}))
    (activity,) = store.activity("one", BOUNDS[:2])
    assert activity.cost is not None
    assert len(activity.cost.counts) == COUNTS_SUMMED
    assert activity.cost.counts["rows"] == COUNTS_SUMMED + 20


def test_a_purge_deletes_old_costs(store: Store) -> None:
    cost = Cost(1.0, 1, 1, {"rows": 1})
    for number in range(4):
        spend(store, f"x{number}", BEGIN + number * QUARTER, cost)
    while store.commit([Purge(None, None, None, 3, BEGIN + 2 * QUARTER)])[0]:
        pass
    costs = [activity.cost for activity in store.activity("one", BOUNDS)]
    assert costs == [None, None, cost, cost, None, None]
