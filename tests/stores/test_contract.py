"""The contract of stores in `goflow.stores.base`, clause by clause."""

import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goflow.core.events import (
    AttemptFailed,
    CancelRequested,
    Finished,
    Retried,
    TaskCancelled,
    TaskFailed,
    TaskSkipped,
    TaskStarted,
    TaskSucceeded,
)
from goflow.core.graph import Plan, PlannedTask
from goflow.core.states import FINISHED, State, TriggerRule
from goflow.core.summary import RecentExecution
from goflow.errors import NotFound, StoreError, StoreUnavailable
from goflow.stores.base import (
    Accounted,
    Chunk,
    Created,
    Existing,
    FactsPage,
    KeepChunk,
    KeepResult,
    Purge,
    Put,
    RecordTicks,
    Tick,
    TickOutcome,
)
from goflow.stores.sqlite import SqliteStore
from tests.effort import examples

DUE = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
FAR = 2**80
few = settings(max_examples=examples(40))


def everything(store):
    """Everything a store returns about its executions."""
    rows = store.page(job=None, state=None, before=None, limit=1000)
    return rows, [store.history(row.id) for row in rows], store.version(), store.unfinished()


def missed(due, count=1, outcome=TickOutcome.MISSED):
    """A tick without an execution, recorded an hour after its last due time."""
    until = None if count == 1 else due + (count - 1) * HOUR
    return Tick(due, outcome, (until or due) + HOUR, "the server was down", count, until)


# -- batches -----------------------------------------------------------------------


def test_each_change_of_a_batch_has_its_outcome_in_order(store, changes):
    outcomes = store.commit(
        [
            changes.submit("x"),
            Put("kind", "key", b"1"),
            changes.record("x"),
            changes.log("x", 0, "line"),
            changes.submit("y"),
            RecordTicks("job", [missed(DUE)]),
            Purge(None, DUE, 0, 10),
        ]
    )
    created, put, recorded, log, other, ticks, purged = outcomes
    assert isinstance(created, Created)
    assert isinstance(other, Created)
    assert created.version < recorded < other.version == store.version()
    assert put is log is ticks is None
    assert purged == 0


def test_an_empty_batch_changes_nothing(store):
    assert store.commit([]) == []
    assert store.version() == 0


@pytest.mark.parametrize("culprit", ["record", "log", "submit"])
def test_a_batch_that_raises_changes_nothing_and_the_next_one_works(store, changes, culprit):
    store.commit([changes.submit("x")])
    before = everything(store)
    wrong = {
        "record": changes.record("unknown"),
        "log": changes.log("unknown", 0, "line"),
        "submit": changes.submit("x"),
    }[culprit]
    batch = [
        changes.submit("y", "other", due=DUE, tick=True, key="k", plan=Plan((PlannedTask("z"),))),
        changes.record("x"),
        changes.log("x", 0, "line"),
        Put("kind", "key", b"1"),
        RecordTicks("other", [missed(DUE + HOUR)], Accounted(DUE, DUE + HOUR)),
    ]
    with pytest.raises(Exception, match=r"unknown|UNIQUE"):
        store.commit([*batch, wrong])
    assert everything(store) == before
    assert (store.entries("kind"), store.accounted()) == ({}, {})
    assert store.ticks("other", None, 9) == []
    assert store.logs.read("x", "a", 1, 0, 100) == []

    assert isinstance(store.commit(batch)[0], Created)
    assert store.history("y").plan == Plan((PlannedTask("z"),))
    assert len(store.ticks("other", None, 9)) == 2


def test_a_record_for_an_unknown_execution_is_a_lookup_error(store, changes):
    with pytest.raises(NotFound, match="'unknown'"):
        store.commit([changes.record("unknown")])


def test_readers_see_whole_batches_while_another_thread_commits(store, changes):
    done = threading.Event()
    seen = []

    def read():
        while not done.is_set():
            seen.append(len(store.unfinished()))
            for row in store.page(job=None, state=None, before=None, limit=3):
                assert store.history(row.id).version == row.version

    reader = threading.Thread(target=read)
    reader.start()
    for pair in range(50):
        store.commit([changes.submit(f"x{pair}"), changes.submit(f"y{pair}")])
    done.set()
    reader.join()
    assert all(count % 2 == 0 for count in seen)
    assert len(store.unfinished()) == 100


# -- submits -----------------------------------------------------------------------


def test_a_new_execution_is_listed_as_not_started(store, changes):
    submit = changes.submit("x", "some job")
    [created] = store.commit([submit])
    row = store.find("x")
    assert (row.number, row.id, row.job, row.state) == (1, "x", "some job", State.NOTSTARTED)
    assert (row.submitted, row.modified) == (submit.fact.at, submit.fact.at)
    assert (row.version, row.summary) == (created.version, None)


def test_a_tick_fires_once(store, changes):
    first = changes.submit("x", due=DUE, tick=True)
    store.commit([first])
    before = everything(store)
    # The same instant in another zone is the same tick.
    elsewhere = DUE.astimezone(timezone(timedelta(hours=9)))
    [again] = store.commit([changes.submit("y", due=elsewhere, tick=True)])
    assert again == Existing("x", first.fact.at, None)
    assert everything(store) == before


def test_ticks_differ_by_instant_and_job(store, changes):
    outcomes = store.commit(
        [
            changes.submit("x", due=DUE, tick=True),
            changes.submit("y", due=DUE + timedelta(microseconds=1), tick=True),
            changes.submit("z", "another job", due=DUE, tick=True),
            changes.submit("w", due=DUE),
        ]
    )
    assert [type(outcome) for outcome in outcomes] == [Created] * 4


def test_a_key_returns_its_first_execution_with_the_fingerprint(store, changes):
    first = changes.submit("x", key="k", fingerprint="asked first")
    store.commit([first])
    before = everything(store)
    [again] = store.commit([changes.submit("y", key="k", fingerprint="asked later")])
    assert again == Existing("x", first.fact.at, "asked first")
    assert everything(store) == before


def test_keys_are_per_job(store, changes):
    one, other = store.commit(
        [changes.submit("x", "one", key="k"), changes.submit("y", "other", key="k")]
    )
    assert isinstance(one, Created)
    assert isinstance(other, Created)


def test_repeated_submits_within_a_batch_are_detected(store, changes):
    outcomes = store.commit(
        [
            changes.submit("x", key="k"),
            changes.submit("y", key="k"),
            changes.submit("z", due=DUE, tick=True),
            changes.submit("w", due=DUE, tick=True),
        ]
    )
    assert [type(outcome) for outcome in outcomes] == [Created, Existing, Created, Existing]
    assert [outcomes[1].execution, outcomes[3].execution] == ["x", "z"]


# -- results -----------------------------------------------------------------------


def test_a_result_is_returned_unchanged_for_its_attempt_only(store, changes):
    store.commit([changes.submit("x"), changes.submit("y")])
    body = bytes(range(256)) * 40
    assert store.commit([KeepResult("x", "a\0ж", 2, body)]) == [None]
    assert store.result("x", "a\0ж", 2) == body
    for place in [
        ("x", "a\0ж", 1),
        ("x", "a", 2),
        ("y", "a\0ж", 2),
        ("z", "a", 1),
        ("x", "a", FAR),
    ]:
        assert store.result(*place) is None


def test_results_of_items_are_apart_from_each_other_and_from_that_of_their_task(store, changes):
    store.commit([changes.submit("x"), KeepResult("x", "a", 1, b"task")])
    store.commit([KeepResult("x", "a", 1, b"%d" % item, item) for item in range(3)])
    assert store.result("x", "a", 1) == b"task"
    assert [store.result("x", "a", 1, item) for item in range(3)] == [b"0", b"1", b"2"]
    for item in (3, -2, FAR):
        assert store.result("x", "a", 1, item) is None


def test_a_result_stored_again_replaces_the_first(store, changes):
    """This happens after a commit that seemed to fail."""
    store.commit([changes.submit("x"), KeepResult("x", "a", 1, b"1")])
    store.commit([KeepResult("x", "a", 1, b"2")])
    assert store.result("x", "a", 1) == b"2"


def test_a_result_of_an_unknown_execution_is_refused(store):
    with pytest.raises(NotFound, match="'x'"):
        store.commit([KeepResult("x", "a", 1, b"1")])


def test_a_backup_has_the_results(store, changes, tmp_path):
    store.commit([changes.submit("x"), KeepResult("x", "a", 1, b"r" * 9000)])
    store.backup(str(tmp_path / "copy.db"))
    copy = SqliteStore(tmp_path / "copy.db")
    copy.open()
    try:
        assert copy.result("x", "a", 1) == b"r" * 9000
    finally:
        copy.close()


# -- chunks ------------------------------------------------------------------------


def test_a_chunk_is_found_by_the_index_of_each_of_its_items(store, changes):
    body = b'[1,"\xd0\xb6",null]'
    store.commit([changes.submit("x"), changes.submit("y")])
    assert store.commit([KeepChunk("x", "a\0ж", 0, 0, 3, body)]) == [None]
    store.commit([KeepChunk("x", "a\0ж", 0, 3, 1, b"[3]")])
    found = [store.chunk("x", "a\0ж", 0, index) for index in range(5)]
    assert found == [Chunk(0, 3, body)] * 3 + [Chunk(3, 1, b"[3]"), None]
    for place in [
        ("x", "a\0ж", 1, 0),
        ("x", "a", 0, 0),
        ("y", "a\0ж", 0, 0),
        ("z", "a", 0, 0),
        ("x", "a\0ж", 0, -1),
        ("x", "a\0ж", 0, FAR),
        ("x", "a\0ж", FAR, 0),
    ]:
        assert store.chunk(*place) is None


def test_rounds_of_one_task_have_chunks_of_their_own(store, changes):
    store.commit([changes.submit("x"), KeepChunk("x", "a", 0, 0, 2, b"[1,2]")])
    store.commit([KeepChunk("x", "a", 1, 0, 1, b"[3]")])
    assert store.chunk("x", "a", 0, 0) == Chunk(0, 2, b"[1,2]")
    assert store.chunk("x", "a", 1, 0) == Chunk(0, 1, b"[3]")
    assert store.chunk("x", "a", 1, 1) is None


def test_a_chunk_stored_again_replaces_the_first(store, changes):
    """This happens after a commit that seemed to fail."""
    store.commit([changes.submit("x"), KeepChunk("x", "a", 0, 0, 1, b"[1]")])
    store.commit([KeepChunk("x", "a", 0, 0, 2, b"[1,2]")])
    assert store.chunk("x", "a", 0, 1) == Chunk(0, 2, b"[1,2]")


def test_a_chunk_of_an_unknown_execution_is_refused(store):
    with pytest.raises(NotFound, match="'x'"):
        store.commit([KeepChunk("x", "a", 0, 0, 1, b"[1]")])


def test_a_backup_has_the_chunks(store, changes, tmp_path):
    store.commit([changes.submit("x"), KeepChunk("x", "a", 0, 0, 1, b"[1]")])
    store.backup(str(tmp_path / "copy.db"))
    copy = SqliteStore(tmp_path / "copy.db")
    copy.open()
    try:
        assert copy.chunk("x", "a", 0, 0) == Chunk(0, 1, b"[1]")
    finally:
        copy.close()


# -- records and history -----------------------------------------------------------


def test_the_history_has_every_kind_of_fact_and_the_plan(store, changes):
    plan = Plan(
        (
            PlannedTask("первая"),
            PlannedTask("b", ("первая",), TriggerRule.ALL_DONE, retries=3),
        )
    )
    submit = changes.submit("x", plan=plan, due=DUE)
    at = changes.now()
    facts = [
        TaskStarted(at, "первая", 1),
        AttemptFailed(at, "первая", 1, "no\0thing", at + timedelta(seconds=1)),
        TaskSucceeded(at, "первая", 2, msgspec.Raw(b'{"rows":3}')),
        TaskFailed(at, "b", 1, "why"),
        TaskSkipped(at, "b"),
        CancelRequested(at),
        TaskCancelled(at, "b", 1),
        Finished(at, "failed"),
        Retried(at, ("b",)),
    ]
    store.commit([submit, changes.record("x", *facts[:4])])
    [version] = store.commit([changes.record("x", *facts[4:])])
    history = store.history("x")
    assert history.plan == plan
    assert history.facts == [submit.fact, *facts]
    assert history.version == version == store.find("x").version


def test_a_history_has_the_version_at_which_it_was_last_opened(store, changes):
    [created] = store.commit([changes.submit("x")])
    at = changes.now()
    store.commit([changes.record("x"), changes.record("x", CancelRequested(at))])
    assert store.history("x").opened == created.version
    [_, retried] = store.commit([changes.submit("y"), changes.record("x", Retried(at, ("a",)))])
    store.commit([changes.record("x", TaskStarted(at, "a", 2)), changes.record("y")])
    assert store.history("x").opened == retried > store.history("y").opened


def test_histories_do_not_mix(store, changes):
    store.commit([changes.submit("x"), changes.submit("y")])
    store.commit([changes.record("y"), changes.record("x"), changes.record("y")])
    assert [len(store.history(execution).facts) for execution in "xy"] == [2, 3]


def test_a_missing_execution_is_none(store):
    assert store.find("x") is None
    assert store.history("x") is None
    assert store.logs.read("x", "a", 1, 0, 100) == []
    assert store.page(job="x", state=None, before=None, limit=5) == []


def test_versions_grow_over_all_executions(store, changes):
    versions = []
    for execution in "xyz":
        [created, recorded] = store.commit([changes.submit(execution), changes.record(execution)])
        versions += [created.version, recorded]
    versions += store.commit([changes.record("x"), changes.finish("y")])
    assert versions == sorted(set(versions))
    assert versions[0] > 0
    assert store.version() == versions[-1]


def test_the_last_record_of_a_batch_determines_the_listed_state(store, changes):
    submit, started = changes.submit("x"), changes.record("x")
    finish = changes.finish("x", State.FAILED, b'{"brief":1}')
    *_, version = store.commit([submit, started, finish])
    row = store.find("x")
    assert (row.state, row.modified, row.version) == (State.FAILED, finish.modified, version)
    assert row.summary == b'{"brief":1}'
    assert row.submitted == submit.fact.at


def test_a_retried_execution_is_unfinished_until_it_finishes(store, changes):
    store.commit([changes.submit("x"), changes.finish("x", State.FAILED, b"first")])
    assert store.unfinished() == []
    store.commit([changes.record("x", Retried(changes.now(), ("a",)), state=State.NOTSTARTED)])
    assert store.unfinished() == ["x"]
    assert store.find("x").summary is None
    assert store.finished_since(0, store.version(), 10, None) == []
    assert store.page(job=None, state=State.FAILED, before=None, limit=9) == []
    [version] = store.commit([changes.finish("x", State.SUCCESSFUL, b"second")])
    assert store.unfinished() == []
    assert store.find("x").summary == b"second"
    assert store.finished_since(0, version, 10, None) == [store.find("x")]


def test_unfinished_executions_are_ordered_by_age(store, changes):
    store.commit([changes.submit(execution) for execution in "dacb"])
    store.commit([changes.record("d"), changes.finish("a")])
    assert store.unfinished() == ["d", "c", "b"]


# -- lists -------------------------------------------------------------------------

jobs = st.sampled_from(["one", "two", "日本語 'quoted\""])
histories = st.lists(st.tuples(jobs, st.sampled_from(State)), max_size=25)


def fill(store, changes, executions):
    """Create executions of these jobs in these states; returns their rows, oldest first."""
    ids = [f"id-{number}" for number in range(len(executions))]
    store.commit([changes.submit(i, job) for i, (job, _) in zip(ids, executions, strict=True)])
    # They finish in another order than they were created.
    for execution, (_, state) in reversed(list(zip(ids, executions, strict=True))):
        if state in FINISHED:
            store.commit([changes.finish(execution, state, execution.encode())])
        else:
            store.commit([changes.record(execution, state=state)])
    return [store.find(execution) for execution in ids]


@few
@given(
    executions=histories,
    job=st.none() | jobs,
    state=st.none() | st.sampled_from(State),
    limit=st.integers(1, 7),
)
def test_pages_contain_each_execution_once_newest_first(
    opened, changes, executions, job, state, limit
):
    with opened() as store:
        rows = fill(store, changes, executions)
        walked, before = [], None
        while page := store.page(job=job, state=state, before=before, limit=limit):
            assert len(page) <= limit
            walked += page
            before = page[-1].number
    assert [(row.job, row.state) for row in rows] == executions
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    assert walked == [
        row for row in reversed(rows) if job in (None, row.job) and state in (None, row.state)
    ]


@few
@given(executions=histories, job=st.none() | jobs, limit=st.integers(1, 7), data=st.data())
def test_pages_of_finished_executions_contain_each_once_by_version(
    opened, changes, executions, job, limit, data
):
    with opened() as store:
        rows = fill(store, changes, executions)
        since = data.draw(st.integers(0, store.version()))
        upto = data.draw(st.integers(0, store.version()))
        walked, version = [], since
        room = data.draw(st.none() | st.integers(0, 500))
        while some := store.finished_since(version, upto, limit, job, room):
            assert len(some) <= limit
            sizes = [len(row.summary) for row in some]
            assert room is None or len(some) == 1 or sum(sizes) <= room
            walked += some
            version = some[-1].version
    expected = [
        row
        for row in rows
        if row.summary is not None and since < row.version <= upto and job in (None, row.job)
    ]
    assert walked == sorted(expected, key=lambda row: row.version)


@few
@given(executions=histories, last=st.integers(1, 5))
def test_recent_returns_the_newest_executions_of_each_job(opened, changes, executions, last):
    asked = ["one", "two", "never run"]
    with opened() as store:
        rows = fill(store, changes, executions)
        recent = store.recent(asked, last)
    assert list(recent) == asked
    for job in asked:
        newest = [row for row in reversed(rows) if row.job == job][:last]
        assert recent[job] == [
            RecentExecution(row.id, row.state, row.submitted, row.modified, None,
                 row.modified if row.state in FINISHED else None, row.version)
            for row in newest
        ]  # fmt: skip


def test_a_recent_execution_has_the_times_of_the_last_record(store, changes):
    def times():
        [mark] = store.recent(["job"], 1)["job"]
        return mark.started, mark.finished

    begun, again = changes.now(), changes.now()
    store.commit([changes.submit("x")])
    assert times() == (None, None)
    store.commit([changes.record("x", started=begun)])
    assert times() == (begun, None)
    store.commit([finish := changes.finish("x", started=begun)])
    assert times() == (begun, finish.modified)
    retried = Retried(changes.now(), ("a",))
    store.commit([changes.record("x", retried, state=State.NOTSTARTED)])
    assert times() == (None, None)
    store.commit([changes.record("x", started=again), changes.record("x", started=again)])
    assert times() == (again, None)


@few
@given(at=st.datetimes(timezones=st.just(UTC)))
def test_an_instant_survives_a_round_trip(opened, changes, at):
    with opened() as store:
        store.commit([changes.submit("x"), changes.record("x", started=at)])
        assert store.recent(["job"], 1)["job"][0].started == at


def test_numbers_beyond_all_rows_return_empty_pages(store, changes):
    store.commit([changes.submit("x"), changes.finish("x"), changes.log("x", 0, "line")])
    row = store.find("x")
    assert store.page(job=None, state=None, before=FAR, limit=9) == [row]
    assert store.page(job=None, state=None, before=-FAR, limit=9) == []
    assert store.finished_since(-FAR, FAR, 9, None) == [row]
    assert store.finished_since(FAR, FAR, 9, None) == []
    assert store.logs.read("x", "a", 1, FAR, 100) == []
    assert len(store.logs.read("x", "a", 1, -FAR, 100)) == 1
    assert store.logs.read("x", "a", FAR, 0, 100) == []


# -- the ledger --------------------------------------------------------------------


def test_a_fired_tick_is_in_the_ledger_with_its_execution(store, changes):
    submit = changes.submit("x", due=DUE, tick=True)
    store.commit([submit, changes.submit("y", due=DUE + HOUR)])
    assert store.ticks("job", None, 9) == [
        Tick(DUE, TickOutcome.FIRED, submit.fact.at, execution="x")
    ]


def test_ticks_are_returned_as_recorded(store):
    ticks = [missed(DUE), missed(DUE + HOUR, 1, TickOutcome.SKIPPED), missed(DUE + 2 * HOUR, 5)]
    store.commit([RecordTicks("job", ticks), RecordTicks("other", [missed(DUE)])])
    assert store.ticks("job", None, 9) == ticks[::-1]
    assert store.ticks("other", None, 9) == [missed(DUE)]
    assert store.ticks("no such job", None, 9) == []


def test_a_recorded_tick_is_not_replaced(store, changes):
    submit = changes.submit("x", due=DUE, tick=True)
    store.commit([submit, RecordTicks("job", [missed(DUE + HOUR), missed(DUE + 2 * HOUR, 3)])])
    before = store.ticks("job", None, 9)
    skipped = [missed(DUE + hours * HOUR, 1, TickOutcome.SKIPPED) for hours in range(2)]
    store.commit([RecordTicks("job", [*skipped, missed(DUE + 2 * HOUR, 4)])])
    assert store.ticks("job", None, 9) == before


def merged(due, count=1):
    """Ticks merged by a clock change into the due time an hour before the first one."""
    return msgspec.structs.replace(missed(due, count, TickOutcome.MERGED), into=due - HOUR)


def test_a_tick_and_its_merged_ticks_are_recorded_together_or_not_at_all(store, changes):
    submit = changes.submit("x", due=DUE, tick=True)
    submit = msgspec.structs.replace(submit, reason="clock change", merged=merged(DUE + HOUR, 3))
    store.commit([submit])
    kept = Tick(DUE, TickOutcome.FIRED, submit.fact.at, "clock change", execution="x")
    assert store.ticks("job", None, 9) == [merged(DUE + HOUR, 3), kept]
    again = changes.submit("y", due=DUE, tick=True)
    again = msgspec.structs.replace(again, merged=merged(DUE + 2 * HOUR))
    assert isinstance(store.commit([again])[0], Existing)
    assert store.ticks("job", None, 9) == [merged(DUE + HOUR, 3), kept]


def test_a_merged_tick_is_replaced_by_a_due_time_at_that_instant(store, changes):
    ticks = [merged(DUE), merged(DUE + HOUR), merged(DUE + 2 * HOUR)]
    store.commit([RecordTicks("job", ticks)])
    again = [msgspec.structs.replace(tick, reason="other") for tick in ticks]
    store.commit([RecordTicks("job", again)])
    assert store.ticks("job", None, 9) == ticks[::-1]
    submit = changes.submit("x", due=DUE, tick=True)
    store.commit([submit, RecordTicks("job", [missed(DUE + HOUR)])])
    assert store.ticks("job", None, 9) == [
        ticks[2],
        missed(DUE + HOUR),
        Tick(DUE, TickOutcome.FIRED, submit.fact.at, execution="x"),
    ]


@pytest.mark.parametrize("outcome", [TickOutcome.MISSED, TickOutcome.SKIPPED])
def test_a_tick_without_an_execution_may_fire_once_later(store, changes, outcome):
    store.commit([RecordTicks("job", [missed(DUE, 1, outcome)])])
    submit = changes.submit("x", due=DUE, tick=True)
    [created] = store.commit([submit])
    [again] = store.commit([changes.submit("y", due=DUE, tick=True)])
    assert isinstance(created, Created)
    assert again == Existing("x", submit.fact.at, None)
    [tick] = store.ticks("job", None, 9)
    assert tick == Tick(DUE, TickOutcome.FIRED, submit.fact.at, execution="x")


@pytest.mark.parametrize("hours", [0, 1, 4])
def test_a_due_time_within_a_run_of_missed_ones_may_fire_once(store, changes, hours):
    run = missed(DUE, 5)
    store.commit([RecordTicks("job", [run])])
    due = DUE + hours * HOUR
    submit = changes.submit("x", due=due, tick=True)
    created, again = store.commit([submit, changes.submit("y", due=due, tick=True)])
    assert isinstance(created, Created)
    assert again.execution == "x"
    assert sorted(store.ticks("job", None, 9), key=lambda tick: tick.count) == [
        Tick(due, TickOutcome.FIRED, submit.fact.at, execution="x"),
        run,
    ]


ledgers = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 3)), max_size=12)


@few
@given(ledger=ledgers, claims=st.sets(st.integers(0, 9)), limit=st.integers(1, 4))
def test_pages_of_the_ledger_contain_each_tick_once_newest_first(
    opened, changes, ledger, claims, limit
):
    with opened() as store:
        store.commit([RecordTicks("job", [missed(DUE + h * HOUR, n) for h, n in ledger])])
        store.commit(
            [changes.submit(f"x{h}", due=DUE + h * HOUR, tick=True) for h in sorted(claims)]
        )
        walked, before = [], None
        while page := store.ticks("job", before, limit):
            assert len(page) <= limit + 1
            walked += page
            before = page[-1].due
    assert [tick.due for tick in walked] == sorted((t.due for t in walked), reverse=True)
    seen = sorted(((tick.due - DUE) // HOUR, tick.count > 1) for tick in walked)
    assert seen == sorted({(h, n > 1) for h, n in ledger} | {(h, False) for h in claims})
    assert {(t.due - DUE) // HOUR for t in walked if t.outcome is TickOutcome.FIRED} == claims


# -- accounts ----------------------------------------------------------------------


def test_accounts_grow_for_an_anchor_and_begin_anew_with_another(store):
    def account(job, upto, anchor=DUE):
        accounted = Accounted(anchor, upto)
        store.commit([RecordTicks(job, [], accounted)])
        return store.accounted()[job]

    assert store.accounted() == {}
    assert account("a", DUE + HOUR) == Accounted(DUE, DUE + HOUR)
    assert account("a", DUE) == Accounted(DUE, DUE + HOUR)
    assert account("a", DUE + 9 * HOUR) == Accounted(DUE, DUE + 9 * HOUR)
    assert account("b", DUE) == Accounted(DUE, DUE)
    for anchor in (DUE - HOUR, DUE + HOUR):
        assert account("a", anchor, anchor) == Accounted(anchor, anchor)
    assert account("b", DUE) == Accounted(DUE, DUE)


def test_firing_advances_accounted_and_never_lowers_it(store, changes):
    for id, hours in (("x", 1), ("y", -1)):
        due = DUE + hours * HOUR
        store.commit([changes.submit(id, due=due, tick=True, accounted=Accounted(DUE, due))])
    store.commit([changes.submit("z", due=DUE + 9 * HOUR)])
    assert store.accounted() == {"job": Accounted(DUE, DUE + HOUR)}


def test_a_tick_fired_before_still_advances_accounted(store, changes):
    due = DUE + 2 * HOUR
    store.commit([changes.submit("y", due=due, tick=True)])
    accounted = Accounted(DUE, due)
    [outcome] = store.commit([changes.submit("z", due=due, tick=True, accounted=accounted)])
    assert outcome.execution == "y"
    assert store.accounted() == {"job": accounted}


def test_a_tick_without_an_account_is_claimed_and_accounts_for_none(store, changes):
    store.commit([RecordTicks("job", [], Accounted(DUE, DUE))])
    store.commit([changes.submit("x", due=DUE + 2 * HOUR, tick=True)])
    store.commit([RecordTicks("job", [missed(DUE + HOUR)])])
    assert store.accounted() == {"job": Accounted(DUE, DUE)}
    assert len(store.ticks("job", None, 9)) == 2


def test_recording_ticks_accounts_for_them_in_the_same_transaction(store, changes):
    accounted = Accounted(DUE, DUE + 2 * HOUR)
    record = RecordTicks("job", [missed(DUE + HOUR)], accounted)
    with pytest.raises(NotFound):
        store.commit([record, changes.record("unknown")])
    assert (store.accounted(), store.ticks("job", None, 9)) == ({}, [])
    store.commit([record])
    assert (store.accounted(), len(store.ticks("job", None, 9))) == ({"job": accounted}, 1)


# -- purges ------------------------------------------------------------------------


def finished(store, changes, *executions, job="job", **asked):
    """Create finished executions with a log; returns their submit times."""
    at = {}
    for execution in executions:
        submit = changes.submit(execution, job, **asked)
        at[execution] = submit.fact.at
        store.commit([submit, changes.log(execution, 0, "line"), changes.finish(execution)])
    return at


def listed(store):
    return [row.id for row in store.page(job=None, state=None, before=None, limit=1000)][::-1]


def test_a_purge_by_age_deletes_finished_executions_submitted_before(store, changes):
    at = finished(store, changes, "a", "b", "c")
    store.commit([changes.submit("d")])
    assert store.commit([Purge(None, at["c"], None, 10)]) == [2]
    assert listed(store) == ["c", "d"]
    assert store.commit([Purge(None, at["c"], None, 10)]) == [0]


def test_a_purge_by_number_keeps_the_newest_finished_executions(store, changes):
    finished(store, changes, "a", "b", "c", "d")
    assert store.commit([Purge(None, None, 3, 10)]) == [1]
    assert listed(store) == ["b", "c", "d"]
    assert store.commit([Purge(None, None, 0, 10)]) == [3]
    assert listed(store) == []


def test_a_purge_of_a_job_keeps_other_jobs(store, changes):
    at = finished(store, changes, "a", "b", "c") | finished(store, changes, "x", "y", job="other")
    assert store.commit([Purge("job", None, 2, 10)]) == [1]
    assert store.commit([Purge("other", at["y"], None, 10)]) == [1]
    assert store.commit([Purge("no such job", at["y"], 0, 10)]) == [0]
    assert listed(store) == ["b", "c", "y"]


def test_unfinished_executions_are_neither_purged_nor_counted(store, changes):
    store.commit([changes.submit("old"), changes.submit("older", "other")])
    finished(store, changes, "a", "b")
    store.commit([changes.submit(f"waiting{n}") for n in range(5)])
    store.commit([Purge(None, None, 1, 10)])
    assert listed(store)[:3] == ["old", "older", "b"]
    store.commit([Purge("job", changes.now(), 0, 10), Purge(None, changes.now(), 0, 10)])
    assert listed(store) == store.unfinished()
    assert len(store.unfinished()) == 7


def test_an_execution_retried_in_the_same_batch_is_not_purged(store, changes):
    finished(store, changes, "a", "b")
    again = changes.record("a", Retried(changes.now(), ("a",)), state=State.NOTSTARTED)
    store.commit([again, changes.submit("c"), changes.finish("c"), Purge(None, None, 0, 10)])
    assert listed(store) == ["a"]
    assert len(store.history("a").facts) == 3


def test_a_purge_deletes_at_most_its_limit_oldest_first(store, changes):
    finished(store, changes, *"abcdef")
    assert store.commit([Purge(None, None, 1, 2)]) == [2]
    assert listed(store) == ["c", "d", "e", "f"]
    assert store.commit([Purge(None, changes.now(), None, 3)]) == [3]
    assert listed(store) == ["f"]


def test_a_purge_applies_both_age_and_number(store, changes):
    at = finished(store, changes, *"abcdef")
    assert store.commit([Purge(None, at["b"], 3, 10)]) == [3]
    assert listed(store) == ["d", "e", "f"]
    assert store.commit([Purge(None, at["f"], 3, 10)]) == [2]
    assert listed(store) == ["f"]


def test_a_purge_by_age_is_correct_after_the_clock_was_set_back(store, changes):
    """Age is the time since the submit, not the position in the list."""
    future = msgspec.structs.replace(changes.submit("future").fact, at=DUE + 1000 * HOUR)
    store.commit([msgspec.structs.replace(changes.submit("future"), fact=future)])
    store.commit([changes.finish("future")])
    finished(store, changes, "a")
    assert store.commit([Purge(None, changes.now(), None, 10)]) == [1]
    assert listed(store) == ["future"]


def test_a_purge_leaves_nothing_of_an_execution(store, changes):
    finished(store, changes, "a", "b", key=None)
    plan = Plan((PlannedTask("only in x"),))
    finished(store, changes, "x", job="other", key="k", plan=plan)
    store.commit([KeepResult("x", "a", 1, b"1"), KeepChunk("x", "a", 0, 0, 1, b"[1]")])
    version = store.version()
    store.commit([Purge("other", None, 0, 10)])
    assert store.result("x", "a", 1) is store.chunk("x", "a", 0, 0) is None
    assert store.find("x") is store.history("x") is None
    assert store.logs.read("x", "a", 1, 0, 100) == []
    assert store.recent(["other"], 5) == {"other": []}
    assert store.finished_since(0, version, 10, "other") == []
    assert store.version() == version
    assert len(store.history("a").facts) == 2
    with pytest.raises(NotFound, match="'x'"):
        store.commit([changes.record("x")])
    # Its key, its plan and its id can be used again.
    [created] = store.commit([changes.submit("x", "other", key="k", plan=plan)])
    assert isinstance(created, Created)
    assert store.history("x").plan == plan
    assert store.find("x").number == 4
    assert store.result("x", "a", 1) is store.chunk("x", "a", 0, 0) is None


def test_a_plan_stays_while_an_execution_uses_it(store, changes):
    plan = Plan((PlannedTask("of two jobs"),))
    finished(store, changes, "a", "b", plan=plan)
    finished(store, changes, "c", job="other", plan=plan)
    store.commit([Purge("job", None, 0, 10)])
    assert store.history("c").plan == plan


def test_a_tick_outlives_its_execution_and_does_not_fire_again(store, changes):
    at = finished(store, changes, "x", due=DUE, tick=True)
    store.commit([Purge(None, None, 0, 10)])
    [again] = store.commit([changes.submit("y", due=DUE, tick=True)])
    assert again == Existing("x", at["x"], None)
    assert store.ticks("job", None, 9) == [Tick(DUE, TickOutcome.FIRED, at["x"], execution="x")]


def test_ticks_are_purged_by_their_record_time(store, changes):
    """So a backfilled tick stays as long as a regular one of the same day."""
    ticks = [missed(DUE + hours * HOUR) for hours in range(5)]
    store.commit([RecordTicks("job", ticks), RecordTicks("other", ticks)])
    backfilled = msgspec.structs.replace(missed(DUE - 9000 * HOUR), at=DUE + 9 * HOUR)
    store.commit([RecordTicks("job", [backfilled])])
    assert store.commit([Purge("job", DUE + 3 * HOUR, None, 9)]) == [2]
    assert store.ticks("job", None, 9) == [*ticks[:1:-1], backfilled]
    assert store.commit([Purge(None, DUE + 9 * HOUR, None, 6)]) == [6]
    assert store.ticks("job", None, 9) == [ticks[4], backfilled]
    assert store.ticks("other", None, 9) == [ticks[4]]
    assert store.commit([Purge(None, None, 0, 9)]) == [0]


def test_a_purge_forgets_no_account_and_no_entry(store):
    accounted = Accounted(DUE, DUE + HOUR)
    store.commit([Put("kind", "key", b"1"), RecordTicks("job", [missed(DUE)], accounted)])
    assert store.commit([Purge(None, DUE + 9 * HOUR, 0, 9)]) == [1]
    assert (store.accounted(), store.entries("kind")) == ({"job": accounted}, {"key": b"1"})


def test_long_logs_are_purged_in_several_steps(store, changes):
    """A purge does not block the writer for long, even with much to delete."""
    store.commit([changes.submit("x"), changes.submit("y"), changes.submit("z")])
    for execution in "xy":
        store.commit([changes.log(execution, line, "line") for line in range(12_000)])
    store.commit([changes.finish(execution) for execution in "xyz"])
    steps = 0
    while store.commit([Purge(None, None, 0, 10)]) != [0]:
        steps += 1
    assert steps > 2
    assert listed(store) == []


def test_many_large_results_are_purged_in_several_steps(store, changes):
    store.commit([changes.submit("x")])
    for attempt in range(1, 9):
        store.commit([KeepResult("x", "a", attempt, b"r" * 1_000_000)])
    store.commit([changes.finish("x")])
    steps = 0
    while store.commit([Purge(None, None, 0, 10)]) != [0]:
        steps += 1
    assert steps > 2
    assert listed(store) == []


def test_many_chunks_are_purged_in_several_steps(store, changes):
    store.commit([changes.submit("x")])
    for first in range(4000):
        store.commit([KeepChunk("x", "a", 0, first, 1, b"[1]")])
    for first in range(4000, 4004):
        store.commit([KeepChunk("x", "a", 0, first, 1, b"r" * 1_000_000)])
    store.commit([changes.finish("x")])
    steps = 0
    while store.commit([Purge(None, None, 0, 10)]) != [0]:
        steps += 1
    assert steps > 2
    assert listed(store) == []


def test_a_purge_frees_disk_space(store, changes, tmp_path):
    line = "x" * 60_000
    for execution in range(10):
        store.commit([changes.submit(f"x{execution}")])
        store.commit([changes.log(f"x{execution}", number, line) for number in range(50)])
        store.commit([changes.finish(f"x{execution}")])
    full = store.size()
    while store.commit([Purge(None, None, 1, 5)]) != [0]:
        pass
    assert listed(store) == ["x9"]
    store.backup(str(tmp_path / "copy.db"))
    assert (tmp_path / "copy.db").stat().st_size < full / 2


@few
@given(
    executions=histories,
    job=st.none() | jobs,
    age=st.none() | st.integers(0, 25),
    keep=st.none() | st.integers(0, 8),
    limit=st.integers(1, 9),
)
def test_repeated_purges_keep_exactly_the_specified_executions(
    opened, changes, executions, job, age, keep, limit
):
    with opened() as store:
        rows = fill(store, changes, executions)
        before = None if age is None or age >= len(rows) else rows[age].submitted
        while store.commit([Purge(job, before, keep, limit)]) != [0]:
            pass
        left = store.page(job=None, state=None, before=None, limit=1000)
        assert [store.history(row.id) is not None for row in left] == [True] * len(left)
    concerned = [row for row in rows if job in (None, row.job) and row.summary is not None]
    newest = concerned if keep is None else concerned[len(concerned) - keep :]
    if keep is not None and keep >= len(concerned):
        newest = concerned
    gone = [
        row
        for row in concerned
        if row not in newest or (before is not None and row.submitted < before)
    ]
    assert left[::-1] == [row for row in rows if row not in gone]


# -- size and backup ---------------------------------------------------------------


def test_the_size_grows_with_the_content(store, changes):
    before = store.size()
    store.commit([changes.submit("x"), changes.log("x", 0, "x" * 1_000_000)])
    assert store.size() > before + 900_000


@contextmanager
def opened_copy(path):
    store = SqliteStore(path)
    store.open()
    try:
        yield store
    finally:
        store.close()


def test_a_backup_opens_as_a_store_with_everything_in_it(store, changes, tmp_path):
    finished(store, changes, "a", "b", due=DUE)
    store.commit([changes.submit("c", due=DUE, tick=True), Put("kind", "key", b"1")])
    store.commit([RecordTicks("job", [missed(DUE + HOUR)], Accounted(DUE, DUE + HOUR))])
    store.backup(str(tmp_path / "copy.db"))
    assert [file.name for file in tmp_path.iterdir()] == ["copy.db"]
    with opened_copy(tmp_path / "copy.db") as copy:
        assert everything(copy) == everything(store)
        assert copy.ticks("job", None, 9) == store.ticks("job", None, 9)
        assert copy.accounted() == store.accounted() != {}
        assert copy.entries("kind") == store.entries("kind") != {}
        assert [chunk.text for chunk in copy.logs.read("a", "a", 1, 0, 100)] == ["line\n"]


def test_a_backup_has_its_own_epoch(store, tmp_path):
    """From now on its versions differ, so they need another epoch."""
    for name in "ab":
        store.backup(str(tmp_path / name))
    with opened_copy(tmp_path / "a") as a, opened_copy(tmp_path / "b") as b:
        assert len({a.epoch, b.epoch, store.epoch}) == 3


def test_a_backup_during_writes_is_consistent(store, changes, tmp_path):
    filling = [changes.log("x0", line, "x" * 50_000) for line in range(300)]
    store.commit([changes.submit("x0"), changes.submit("y0"), *filling])
    done = threading.Event()
    written = []

    def write():
        while not done.is_set() and len(written) < 400:  # within one page
            pair = f"x{len(written) + 1}", f"y{len(written) + 1}"
            store.commit([changes.submit(execution) for execution in pair])
            written.append(pair)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(3):
            store.backup(str(tmp_path / f"{number}"))
    finally:
        done.set()
        writer.join()
    for number in range(3):
        with opened_copy(tmp_path / f"{number}") as copy:
            found = listed(copy)
            assert len(found) % 2 == 0
            assert found == listed(store)[: len(found)]
            assert len(copy.history(found[-1]).facts) == 1


@pytest.mark.parametrize("place", ["there", "folder", "no such folder/file", "nul\0", ""])
def test_an_invalid_backup_path_is_refused(store, tmp_path, place):
    (tmp_path / "there").write_text("precious")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError):
        store.backup(f"{tmp_path}/{place}")
    assert (tmp_path / "there").read_text() == "precious"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["folder", "there"]


def test_an_unfinished_backup_is_not_a_store(store, tmp_path):
    (tmp_path / "copy.db.part").write_text("of another one")
    with pytest.raises(StoreError, match="another backup"):
        store.backup(str(tmp_path / "copy.db"))
    assert (tmp_path / "copy.db.part").read_text() == "of another one"


# -- entries -----------------------------------------------------------------------


def test_an_entry_has_its_last_value_until_it_is_deleted(store):
    store.commit([Put("cursor", "a", b"1"), Put("cursor", "b", b"{}"), Put("cursor", "a", b"2")])
    store.commit([Put("other", "a", b"[]"), Put("cursor", "\0 日本", b'"x"')])
    assert store.entries("cursor") == {"a": b"2", "b": b"{}", "\0 日本": b'"x"'}
    store.commit([Put("cursor", "a", None), Put("cursor", "never", None)])
    assert store.entries("cursor") == {"b": b"{}", "\0 日本": b'"x"'}
    assert store.entries("other") == {"a": b"[]"}
    assert store.entries("unknown") == {}


# -- facts of all executions -------------------------------------------------------


def everything_since(store, version, limit, room):
    """All facts above a version, page by page, and the purged versions."""
    found, purged = [], []
    while version < store.version():
        page = store.facts_since(version, limit, room)
        assert len(page.committed) <= limit
        assert page.upto > version
        there = [one.version for one in page.committed]
        assert there == sorted(there)
        purged += sorted(set(range(version + 1, page.upto + 1)) - set(there))
        found += page.committed
        version = page.upto
    assert store.facts_since(version, limit, room) == FactsPage([], version)
    return found, purged


@pytest.mark.parametrize(("limit", "room"), [(1, 10**6), (2, 10**6), (100, 1), (100, 300)])
def test_facts_of_all_executions_are_ordered_by_version(store, changes, limit, room):
    store.commit([changes.submit("x"), changes.submit("y", "other"), changes.record("x")])
    store.commit([Put("kind", "key", b"1"), changes.record("y"), changes.finish("x")])
    found, purged = everything_since(store, 0, limit, room)
    assert [one.version for one in found] == [1, 2, 3, 4, 5]
    assert [(one.execution, one.job) for one in found] == [
        ("x", "job"), ("y", "other"), ("x", "job"), ("y", "other"), ("x", "job")
    ]  # fmt: skip
    of_x = [fact for one in found if one.execution == "x" for fact in one.facts]
    assert of_x == store.history("x").facts
    assert purged == []
    assert everything_since(store, 3, limit, room)[0] == found[3:]


def test_a_page_of_facts_is_bounded_by_their_length_but_never_empty(store, changes):
    store.commit([changes.submit(f"x{n}", "j" * 200) for n in range(9)])
    page = store.facts_since(0, 100, 700)
    assert 1 < len(page.committed) < 5
    assert page.upto == page.committed[-1].version
    assert len(store.facts_since(0, 100, 0).committed) == 1


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_purged_facts_are_reported_as_missing(store, changes, limit):
    for execution in "abc":
        store.commit([changes.submit(execution), changes.record(execution)])
    store.commit([changes.finish("a"), changes.finish("c")])
    while store.commit([Purge(None, None, 0, 9)]) != [0]:
        pass
    found, purged = everything_since(store, 0, limit, 10**6)
    assert [(one.version, one.execution) for one in found] == [(3, "b"), (4, "b")]
    assert purged == [1, 2, 5, 6, 7, 8]


def test_facts_of_a_partly_purged_execution_are_missing(store, changes):
    store.commit([changes.submit("x")])
    for _ in range(300):
        store.commit([changes.record("x") for _ in range(40)])
    store.commit([changes.finish("x")])
    assert store.commit([Purge(None, None, 0, 9)]) != [0]
    assert store.history("x") is None
    page = store.facts_since(0, 50, 10**6)
    assert page.committed == []
    assert 0 < page.upto <= store.version()


# -- epoch ------------------------------------------------------------------------


def test_each_store_has_its_own_epoch(opened):
    with opened() as one, opened() as other:
        assert one.epoch
        assert one.epoch != other.epoch
        assert one.epoch == one.epoch


def test_instants_are_returned_aware_and_exact(store, changes):
    at = datetime(2026, 10, 25, 2, 30, 0, 123456, timezone(timedelta(hours=5, minutes=45)))
    store.commit([RecordTicks("a", [], Accounted(at, at))])
    kept = store.accounted()["a"].anchor
    assert kept == at
    assert kept.utcoffset() == timedelta(0)


def test_a_closed_store_refuses_use_and_can_be_closed_again(store, changes):
    store.close()
    store.close()
    with pytest.raises(StoreUnavailable, match="not open"):
        store.unfinished()
    with pytest.raises(StoreUnavailable, match="not open"):
        store.commit([changes.submit("x")])
    with pytest.raises(StoreUnavailable, match="not open"):
        store.size()
