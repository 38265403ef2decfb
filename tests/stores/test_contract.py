"""What every store must do: `goflow.stores.base`, clause by clause."""

import threading
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
from goflow.errors import StoreUnavailable
from goflow.stores.base import Anchor, Created, Existing, SetAnchor, SetSwitch

DUE = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
FAR = 2**80
few = settings(max_examples=40, deadline=None)


def everything(store):
    """All that a store says of its executions."""
    rows = store.page(job=None, state=None, before=None, limit=1000)
    return rows, [store.history(row.id) for row in rows], store.version(), store.unfinished()


# -- batches -----------------------------------------------------------------------


def test_each_change_of_a_batch_has_its_outcome_in_order(store, changes):
    outcomes = store.commit(
        [
            changes.submit("x"),
            SetSwitch("job", True, changes.now()),
            changes.record("x"),
            changes.log("x", 0, "line"),
            changes.submit("y"),
            SetAnchor("job", 1.5, changes.now()),
        ]
    )
    created, switch, recorded, log, other, anchor = outcomes
    assert isinstance(created, Created)
    assert isinstance(other, Created)
    assert created.version < recorded < other.version == store.version()
    assert switch is log is anchor is None


def test_an_empty_batch_is_nothing(store):
    assert store.commit([]) == []
    assert store.version() == 0


@pytest.mark.parametrize("culprit", ["record", "log", "submit"])
def test_of_a_batch_that_raises_nothing_stays_and_the_next_one_works(store, changes, culprit):
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
        SetSwitch("job", True, changes.now()),
        SetAnchor("job", 1.0, changes.now()),
    ]
    with pytest.raises(Exception, match=r"unknown|UNIQUE"):
        store.commit([*batch, wrong])
    assert everything(store) == before
    assert (store.switches(), store.anchors()) == ({}, {})
    assert store.log("x", "a", 1, 0, 100) == []

    assert isinstance(store.commit(batch)[0], Created)
    assert store.history("y").plan == Plan((PlannedTask("z"),))


def test_a_record_for_an_unknown_execution_is_a_lookup_error(store, changes):
    with pytest.raises(LookupError, match="'unknown'"):
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
    # The same instant by another clock is the same tick.
    elsewhere = DUE.astimezone(timezone(timedelta(hours=9)))
    [again] = store.commit([changes.submit("y", due=elsewhere, tick=True)])
    assert again == Existing("x", first.fact.at, None)
    assert everything(store) == before


def test_ticks_of_other_instants_and_other_jobs_are_others(store, changes):
    outcomes = store.commit(
        [
            changes.submit("x", due=DUE, tick=True),
            changes.submit("y", due=DUE + timedelta(microseconds=1), tick=True),
            changes.submit("z", "another job", due=DUE, tick=True),
            changes.submit("w", due=DUE),
        ]
    )
    assert [type(outcome) for outcome in outcomes] == [Created] * 4


def test_a_key_leads_to_its_first_execution_and_keeps_its_fingerprint(store, changes):
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


def test_repeats_within_a_batch_are_repeats(store, changes):
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


# -- records and history -----------------------------------------------------------


def test_the_history_holds_every_kind_of_fact_and_the_plan(store, changes):
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


def test_histories_do_not_mix(store, changes):
    store.commit([changes.submit("x"), changes.submit("y")])
    store.commit([changes.record("y"), changes.record("x"), changes.record("y")])
    assert [len(store.history(execution).facts) for execution in "xy"] == [2, 3]


def test_what_is_not_there_is_none(store):
    assert store.find("x") is None
    assert store.history("x") is None
    assert store.log("x", "a", 1, 0, 100) == []
    assert store.logged_attempts("x", "a") == []
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


def test_the_last_record_of_a_batch_says_how_an_execution_is_listed(store, changes):
    submit, started = changes.submit("x"), changes.record("x")
    finish = changes.finish("x", State.FAILED, b'{"brief":1}')
    *_, version = store.commit([submit, started, finish])
    row = store.find("x")
    assert (row.state, row.modified, row.version) == (State.FAILED, finish.modified, version)
    assert row.summary == b'{"brief":1}'
    assert row.submitted == submit.fact.at


def test_a_finished_execution_sent_round_again_is_unfinished_until_it_finishes(store, changes):
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


def test_unfinished_executions_come_oldest_first(store, changes):
    store.commit([changes.submit(execution) for execution in "dacb"])
    store.commit([changes.record("d"), changes.finish("a")])
    assert store.unfinished() == ["d", "c", "b"]


# -- lists -------------------------------------------------------------------------

jobs = st.sampled_from(["one", "two", "日本語 'quoted\""])
histories = st.lists(st.tuples(jobs, st.sampled_from(State)), max_size=25)


def fill(store, changes, executions):
    """Bring about executions of these jobs, in these states; their rows, oldest first."""
    ids = [f"id-{number}" for number in range(len(executions))]
    store.commit([changes.submit(i, job) for i, (job, _) in zip(ids, executions, strict=True)])
    # Finished in another order than created.
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
def test_walking_the_pages_meets_each_execution_once_newest_first(
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
def test_walking_the_finished_ones_meets_each_once_by_version(
    opened, changes, executions, job, limit, data
):
    with opened() as store:
        rows = fill(store, changes, executions)
        since = data.draw(st.integers(0, store.version()))
        upto = data.draw(st.integers(0, store.version()))
        walked, version = [], since
        while some := store.finished_since(version, upto, limit, job):
            assert len(some) <= limit
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
def test_recent_gives_each_job_its_newest_without_summaries(opened, changes, executions, last):
    asked = ["one", "two", "never run"]
    with opened() as store:
        rows = fill(store, changes, executions)
        recent = store.recent(asked, last)
    assert list(recent) == asked
    for job in asked:
        newest = [row for row in reversed(rows) if row.job == job][:last]
        assert recent[job] == [msgspec.structs.replace(row, summary=None) for row in newest]


def test_numbers_beyond_all_rows_are_just_that(store, changes):
    store.commit([changes.submit("x"), changes.finish("x"), changes.log("x", 0, "line")])
    row = store.find("x")
    assert store.page(job=None, state=None, before=FAR, limit=9) == [row]
    assert store.page(job=None, state=None, before=-FAR, limit=9) == []
    assert store.finished_since(-FAR, FAR, 9, None) == [row]
    assert store.finished_since(FAR, FAR, 9, None) == []
    assert store.log("x", "a", 1, FAR, 100) == []
    assert len(store.log("x", "a", 1, -FAR, 100)) == 1
    assert store.log("x", "a", FAR, 0, 100) == []


# -- logs --------------------------------------------------------------------------


def test_logs_come_back_letter_by_letter(store, changes):
    lines = ["", "nul \0 here", "\r", "日本語 \U0001f600", "\x1b[31mred", "'; DROP TABLE logs; --"]
    store.commit([changes.submit("x")])
    store.commit([changes.log("x", 0, *lines)])
    [chunk] = store.log("x", "a", 1, 0, 10_000)
    assert chunk.text == "".join(f"{line}\n" for line in lines)
    assert (chunk.first, chunk.lines) == (0, len(lines))


def test_logs_are_per_execution_task_and_attempt(store, changes):
    store.commit(
        [
            changes.submit("x"),
            changes.submit("y"),
            changes.log("x", 0, "of x a 1"),
            changes.log("x", 0, "of x a 10", attempt=10),
            changes.log("x", 0, "of x a 2", attempt=2),
            changes.log("x", 0, "of x b 1", task="b"),
            changes.log("y", 0, "of y a 1"),
        ]
    )
    assert [chunk.text for chunk in store.log("x", "a", 2, 0, 100)] == ["of x a 2\n"]
    assert [chunk.text for chunk in store.log("y", "a", 1, 0, 100)] == ["of y a 1\n"]
    assert store.logged_attempts("x", "a") == [1, 2, 10]
    assert store.logged_attempts("x", "b") == [1]
    assert store.logged_attempts("x", "c") == []


def test_the_end_of_a_log_is_told_though_lines_were_forgotten(store, changes):
    assert store.log_end("x", "a", 1) == 0
    store.commit([changes.submit("x")])
    assert store.log_end("x", "a", 1) == 0
    store.commit(
        [changes.log("x", 0, "0", "1"), changes.log("x", 2, "2"), changes.log("x", 3, "3")]
    )
    store.commit([changes.log("x", 4, "4", forget=(2, 4)), changes.log("x", 0, "0", attempt=10)])
    assert store.log_end("x", "a", 1) == 5
    assert store.log_end("x", "a", 10) == 1
    assert store.log_end("x", "b", 1) == store.log_end("x", "a", 2**70) == 0


def test_a_finished_execution_still_takes_log_lines(store, changes):
    store.commit([changes.submit("x"), changes.finish("x")])
    store.commit([changes.log("x", 0, "late")])
    assert [chunk.text for chunk in store.log("x", "a", 1, 0, 100)] == ["late\n"]


@few
@given(
    sizes=st.lists(st.integers(1, 4), max_size=12),
    forgets=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=12),
    after=st.integers(0, 40),
    limit=st.integers(1, 30),
)
def test_a_log_is_its_chunks_less_the_forgotten_ones(opened, changes, sizes, forgets, after, limit):
    chunks, first = [], 0
    with opened() as store:
        store.commit([changes.submit("x")])
        batch = []
        for place, size in enumerate(sizes):
            forget = forgets[place] if place < len(forgets) else None
            lines = [f"{first + line}" for line in range(size)]
            batch.append(changes.log("x", first, *lines, forget=forget))
            chunks.append((first, size, batch[-1].text))
            if forget is not None:
                chunks = [c for c in chunks if not (forget[0] <= c[0] and c[0] + c[1] <= forget[1])]
            first += size
        store.commit(batch)
        read = [(c.first, c.lines, c.text) for c in store.log("x", "a", 1, after, limit)]
    expected, length = [], 0
    for chunk in chunks:
        if chunk[0] + chunk[1] > after and length < limit:
            expected.append(chunk)
            length += len(chunk[2])
    assert read == expected


# -- switches, anchors, epoch ------------------------------------------------------


def test_the_last_word_on_a_switch_or_an_anchor_stays(store, changes):
    at = changes.now()
    store.commit([SetSwitch("a", True, at), SetSwitch("b", True, at), SetSwitch("a", False, at)])
    store.commit([SetAnchor("a", 5.0, at), SetAnchor("a", 0.25, at), SetAnchor("b", 1e9, DUE)])
    assert store.switches() == {"a": False, "b": True}
    assert store.anchors() == {"a": Anchor(0.25, at), "b": Anchor(1e9, DUE)}


def test_each_store_has_its_epoch(opened):
    with opened() as one, opened() as other:
        assert one.epoch
        assert one.epoch != other.epoch
        assert one.epoch == one.epoch


def test_instants_come_back_aware_and_exact(store, changes):
    at = datetime(2026, 10, 25, 2, 30, 0, 123456, timezone(timedelta(hours=5, minutes=45)))
    store.commit([SetAnchor("a", 1.0, at)])
    kept = store.anchors()["a"].at
    assert kept == at
    assert kept.utcoffset() == timedelta(0)


def test_a_closed_store_says_so_and_closes_again(store, changes):
    store.close()
    store.close()
    with pytest.raises(StoreUnavailable, match="not open"):
        store.unfinished()
    with pytest.raises(StoreUnavailable, match="not open"):
        store.commit([changes.submit("x")])
