"""The contract of logs, for a store's own tables and for an external implementation."""

from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goflow import MemoryStore
from goflow.errors import NotFound, StoreUnavailable
from goflow.stores.base import Purge
from goflow.stores.logs import AppendLog, LogChunk
from tests.effort import examples
from tests.stores.conftest import KINDS
from tests.stores.listed_logs import ListedLogs

few = settings(max_examples=examples(40))


@pytest.fixture(scope="session", params=[*KINDS, "logs elsewhere"])
def opened(request, tmp_path_factory):
    """Opens a new store of each kind, and one with external logs."""

    @contextmanager
    def opened():
        make = KINDS.get(request.param, lambda folder: MemoryStore(logs=ListedLogs()))
        store = make(tmp_path_factory.mktemp("store"))
        store.open()
        try:
            yield store
        finally:
            store.close()

    return opened


@pytest.fixture
def elsewhere():
    """An open store, and its external logs."""
    logs = ListedLogs()
    store = MemoryStore(logs=logs)
    store.open()
    yield store, logs
    store.close()


def test_logs_are_returned_unchanged(store, changes):
    lines = ["", "nul \0 here", "\r", "日本語 \U0001f600", "\x1b[31mred", "'; DROP TABLE logs; --"]
    store.commit([changes.submit("x")])
    store.commit([changes.log("x", 0, *lines)])
    [chunk] = store.logs.read("x", "a", 1, 0, 10_000)
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
    assert [chunk.text for chunk in store.logs.read("x", "a", 2, 0, 100)] == ["of x a 2\n"]
    assert [chunk.text for chunk in store.logs.read("y", "a", 1, 0, 100)] == ["of y a 1\n"]
    assert store.logs.read("x", "c", 1, 0, 100) == []


def test_logs_of_items_are_apart_from_each_other_and_from_that_of_their_task(store, changes):
    items = [AppendLog("x", "a", 1, 0, 1, f"item {item}\n", item=item) for item in range(3)]
    store.commit([changes.submit("x"), changes.log("x", 0, "task"), *items])
    store.commit([AppendLog("x", "a", 1, 1, 0, "begun", item=1)])
    assert [chunk.text for chunk in store.logs.read("x", "a", 1, 0, 100)] == ["task\n"]
    for item in (0, 2):
        read = store.logs.read("x", "a", 1, 0, 100, item)
        assert [chunk.text for chunk in read] == [f"item {item}\n"]
        assert store.logs.unfinished("x", "a", 1, item) is None
    assert store.logs.unfinished("x", "a", 1, 1) == LogChunk(1, 0, "begun")
    store.commit([AppendLog("x", "a", 1, 1, 1, "begun\n", (0, 1), b"", 1, 1)])
    assert [chunk.first for chunk in store.logs.read("x", "a", 1, 0, 100, 1)] == [1]
    assert [store.logs.end("x", "a", 1, item) for item in (0, 1, 2, 3)] == [1, 2, 1, 0]


def test_the_end_of_a_log_includes_deleted_lines(store, changes):
    assert store.logs.end("x", "a", 1) == 0
    store.commit([changes.submit("x")])
    assert store.logs.end("x", "a", 1) == 0
    store.commit(
        [changes.log("x", 0, "0", "1"), changes.log("x", 2, "2"), changes.log("x", 3, "3")]
    )
    store.commit([changes.log("x", 4, "4", forget=(2, 4)), changes.log("x", 0, "0", attempt=10)])
    assert store.logs.end("x", "a", 1) == 5
    assert store.logs.end("x", "a", 10) == 1
    assert store.logs.end("x", "b", 1) == store.logs.end("x", "a", 2**70) == 0


def test_a_finished_execution_accepts_log_lines(store, changes):
    store.commit([changes.submit("x"), changes.finish("x")])
    store.commit([changes.log("x", 0, "late")])
    assert [chunk.text for chunk in store.logs.read("x", "a", 1, 0, 100)] == ["late\n"]


@few
@given(
    sizes=st.lists(st.integers(1, 4), max_size=12),
    forgets=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=12),
    after=st.integers(0, 40),
    limit=st.integers(1, 30),
)
def test_a_log_is_its_chunks_without_deleted_ones(opened, changes, sizes, forgets, after, limit):
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
        read = [(c.first, c.lines, c.text) for c in store.logs.read("x", "a", 1, after, limit)]
    expected, length = [], 0
    for chunk in chunks:
        if chunk[0] + chunk[1] > after and length < limit:
            expected.append(chunk)
            length += len(chunk[2])
    assert read == expected


def test_an_unfinished_line_is_the_last_chunk_until_it_is_replaced(store, changes):
    store.commit([changes.submit("x"), changes.log("x", 0, "whole")])
    assert store.logs.unfinished("x", "a", 1) is None
    store.commit([AppendLog("x", "a", 1, 1, 0, "beg")])
    assert store.logs.unfinished("x", "a", 1) == LogChunk(1, 0, "beg")
    assert store.logs.end("x", "a", 1) == 1
    store.commit([AppendLog("x", "a", 1, 1, 1, "begun, ended\n", replaces=1)])
    assert store.logs.unfinished("x", "a", 1) is None
    assert [chunk.text for chunk in store.logs.read("x", "a", 1, 1, 99)] == ["begun, ended\n"]


def test_a_log_of_an_unknown_execution_is_refused(store, changes):
    with pytest.raises(NotFound):
        store.commit([changes.submit("x"), changes.log("x", 0, "1"), changes.log("y", 0, "2")])
    assert store.find("x") is None
    assert store.logs.read("x", "a", 1, 0, 9) == []


def test_logs_are_purged_with_their_executions(store, changes):
    store.commit([changes.submit("x"), changes.log("x", 0, "of x"), changes.finish("x")])
    store.commit([changes.submit("y"), changes.log("y", 0, "of y")])
    while store.commit([Purge(None, None, 0, 9)]) != [0]:
        pass
    assert store.logs.read("x", "a", 1, 0, 9) == []
    assert [chunk.text for chunk in store.logs.read("y", "a", 1, 0, 9)] == ["of y\n"]


def test_a_batch_is_refused_if_its_log_cannot_be_written(elsewhere, changes):
    store, logs = elsewhere
    batch = [changes.submit("x"), changes.log("x", 0, "line")]
    logs.trouble = "the place for logs is away"
    with pytest.raises(StoreUnavailable, match="away"):
        store.commit(batch)
    assert store.find("x") is None
    logs.trouble = None
    store.commit(batch)
    assert [chunk.text for chunk in store.logs.read("x", "a", 1, 0, 9)] == ["line\n"]


def test_a_chunk_of_a_failed_batch_is_not_duplicated(elsewhere, changes):
    store, logs = elsewhere
    store.commit([changes.submit("x"), changes.log("x", 0, "0")])
    chunk = changes.log("x", 1, "1")
    logs.append([chunk])  # the server died before the batch was committed
    store.commit([chunk])
    assert [chunk.text for chunk in store.logs.read("x", "a", 1, 0, 9)] == ["0\n", "1\n"]


def test_a_purge_fails_if_logs_cannot_be_deleted_and_works_later(elsewhere, changes):
    store, logs = elsewhere
    store.commit([changes.submit("x"), changes.log("x", 0, "line"), changes.finish("x")])
    logs.trouble = "the place for logs is away"
    with pytest.raises(StoreUnavailable, match="away"):
        store.commit([Purge(None, None, 0, 9)])
    assert store.find("x") is not None
    logs.trouble = None
    store.commit([Purge(None, None, 0, 9)])
    assert store.find("x") is None
    assert logs.chunks == {}
