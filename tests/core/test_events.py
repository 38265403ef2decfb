"""The JSON of facts never changes, and facts survive a round trip through JSON."""

import json
from datetime import UTC, datetime
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from goflow.core import events
from goflow.core.cost import Cost
from goflow.core.events import (
    AnyFact,
    AttemptFailed,
    CancelRequested,
    ChildStarted,
    Dispatched,
    Finished,
    Mapped,
    MarkedSkipped,
    MarkedSuccessful,
    OnRetryEnded,
    Retried,
    Submitted,
    TaskCancelled,
    TaskCancelRequested,
    TaskFailed,
    TaskPostponed,
    TaskSkipped,
    TaskStarted,
    TaskSucceeded,
    Yielded,
    decode_facts,
    encode_facts,
)
from goflow.core.result import Chunked
from goflow.core.states import SkipReason

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
AT_JSON = "2026-01-02T03:04:05.678901Z"

# Facts as older versions have stored them.
COST_JSON = {
    "processor_seconds": 1.5,
    "peak_memory": 4096,
    "log_bytes": 12,
    "counts": {"rows": 3},
}
KEPT: list[tuple[AnyFact, dict[str, object]]] = [
    (
        Submitted(AT, id="e", job="j", plan="p", cause="api"),
        {"fact": "Submitted", "id": "e", "job": "j", "plan": "p", "cause": "api"},
    ),
    (
        Submitted(
            AT, id="e", job="j", plan="p", cause="schedule", params={"a": [1]}, scheduled_at=AT
        ),
        {
            "fact": "Submitted",
            "id": "e",
            "job": "j",
            "plan": "p",
            "cause": "schedule",
            "params": {"a": [1]},
            "scheduled_at": AT_JSON,
        },
    ),
    (
        Submitted(
            AT, id="e", job="j", plan="p", cause="api", after=("d", "c"), timeout=1.5, by="ann"
        ),
        {
            "fact": "Submitted",
            "id": "e",
            "job": "j",
            "plan": "p",
            "cause": "api",
            "after": ["d", "c"],
            "timeout": 1.5,
            "by": "ann",
        },
    ),
    (TaskStarted(AT, "t", 1), {"fact": "TaskStarted", "task": "t", "attempt": 1}),
    (TaskSucceeded(AT, "t", 1), {"fact": "TaskSucceeded", "task": "t", "attempt": 1}),
    (
        TaskSucceeded(AT, "t", 1, Raw(b'{"a":[1,2]}')),
        {"fact": "TaskSucceeded", "task": "t", "attempt": 1, "result": {"a": [1, 2]}},
    ),
    (
        TaskSucceeded(AT, "t", 1, size=9000, sha256="ab", chunked=Chunked(1, 500)),
        {
            "fact": "TaskSucceeded",
            "task": "t",
            "attempt": 1,
            "size": 9000,
            "sha256": "ab",
            "chunked": {"round": 1, "items": 500},
        },
    ),
    (
        Yielded(AT, "t", 1, 20, 3, 60),
        {"fact": "Yielded", "task": "t", "attempt": 1, "first": 20, "items": 3, "size": 60},
    ),
    (
        AttemptFailed(AT, "t", 1, "boom", AT),
        {
            "fact": "AttemptFailed",
            "task": "t",
            "attempt": 1,
            "error": "boom",
            "retry_at": AT_JSON,
        },
    ),
    (
        OnRetryEnded(AT, "t", 1, "boom"),
        {"fact": "OnRetryEnded", "task": "t", "attempt": 1, "error": "boom"},
    ),
    (
        TaskFailed(AT, "t", 2, "boom"),
        {"fact": "TaskFailed", "task": "t", "attempt": 2, "error": "boom"},
    ),
    (
        TaskPostponed(AT, "t", 1, AT, "no file"),
        {
            "fact": "TaskPostponed",
            "task": "t",
            "attempt": 1,
            "again_at": AT_JSON,
            "why": "no file",
        },
    ),
    (
        ChildStarted(AT, "t", 1, "e2", "load"),
        {"fact": "ChildStarted", "task": "t", "attempt": 1, "child": "e2", "job": "load"},
    ),
    (TaskSkipped(AT, "t"), {"fact": "TaskSkipped", "task": "t"}),
    (
        TaskSkipped(AT, "t", 3, 2, SkipReason.ITSELF, "no rows"),
        {
            "fact": "TaskSkipped",
            "task": "t",
            "item": 3,
            "attempt": 2,
            "reason": "itself",
            "why": "no rows",
        },
    ),
    (CancelRequested(AT), {"fact": "CancelRequested"}),
    (
        CancelRequested(AT, "ann", 1.5),
        {"fact": "CancelRequested", "by": "ann", "timeout": 1.5},
    ),
    (TaskCancelRequested(AT, "t"), {"fact": "TaskCancelRequested", "task": "t"}),
    (
        TaskCancelRequested(AT, "t", "ann"),
        {"fact": "TaskCancelRequested", "task": "t", "by": "ann"},
    ),
    (MarkedSuccessful(AT, "t"), {"fact": "MarkedSuccessful", "task": "t"}),
    (
        MarkedSuccessful(AT, "t", "ann", "failed"),
        {"fact": "MarkedSuccessful", "task": "t", "by": "ann", "finished": "failed"},
    ),
    (MarkedSkipped(AT, "t"), {"fact": "MarkedSkipped", "task": "t"}),
    (
        MarkedSkipped(AT, "t", "ann", "successful"),
        {"fact": "MarkedSkipped", "task": "t", "by": "ann", "finished": "successful"},
    ),
    (
        Dispatched(AT, "t", 1, 2, Raw(b'{"type":"add"}'), Raw(b'{"n":1}'), 7, 3),
        {
            "fact": "Dispatched",
            "task": "t",
            "attempt": 1,
            "number": 2,
            "content": {"type": "add"},
            "state": {"n": 1},
            "size": 7,
            "item": 3,
        },
    ),
    (TaskCancelled(AT, "t"), {"fact": "TaskCancelled", "task": "t"}),
    (TaskCancelled(AT, "t", 1), {"fact": "TaskCancelled", "task": "t", "attempt": 1}),
    (
        TaskSucceeded(AT, "t", 1, cost=Cost(1.5, 4096, 12, {"rows": 3})),
        {"fact": "TaskSucceeded", "task": "t", "attempt": 1, "cost": COST_JSON},
    ),
    (
        AttemptFailed(AT, "t", 1, "boom", AT, cost=Cost(1.5, 4096, 12, {"rows": 3})),
        {
            "fact": "AttemptFailed",
            "task": "t",
            "attempt": 1,
            "error": "boom",
            "retry_at": AT_JSON,
            "cost": COST_JSON,
        },
    ),
    (
        TaskFailed(AT, "t", 2, "boom", cost=Cost(1.5, 4096, 12, {"rows": 3})),
        {"fact": "TaskFailed", "task": "t", "attempt": 2, "error": "boom", "cost": COST_JSON},
    ),
    (
        TaskSkipped(AT, "t", attempt=1, cost=Cost(1.5, 4096, 12, {"rows": 3})),
        {"fact": "TaskSkipped", "task": "t", "attempt": 1, "cost": COST_JSON},
    ),
    (
        TaskCancelled(AT, "t", 1, cost=Cost(1.5, 4096, 12, {"rows": 3})),
        {"fact": "TaskCancelled", "task": "t", "attempt": 1, "cost": COST_JSON},
    ),
    (Finished(AT, "failed"), {"fact": "Finished", "state": "failed"}),
    (Retried(AT, ("t", "u")), {"fact": "Retried", "tasks": ["t", "u"]}),
    (
        Retried(AT, ("t",), "ann", {"a": 1}),
        {"fact": "Retried", "tasks": ["t"], "by": "ann", "params": {"a": 1}},
    ),
    (
        Retried(AT, ("t", "u"), asked="t"),
        {"fact": "Retried", "tasks": ["t", "u"], "asked": "t"},
    ),
    (
        Retried(AT, ("t",), asked="t", item=3),
        {"fact": "Retried", "tasks": ["t"], "asked": "t", "item": 3},
    ),
    (Mapped(AT, "t", 1, 3), {"fact": "Mapped", "task": "t", "attempt": 1, "items": 3}),
    (
        Mapped(AT, "t", 1, 2, keys=("a", "b")),
        {"fact": "Mapped", "task": "t", "attempt": 1, "items": 2, "keys": ["a", "b"]},
    ),
    (
        Mapped(AT, "t", 1, 0, "no list"),
        {"fact": "Mapped", "task": "t", "attempt": 1, "items": 0, "error": "no list"},
    ),
    (
        TaskStarted(AT, "t", 1, item=0),
        {"fact": "TaskStarted", "task": "t", "attempt": 1, "item": 0},
    ),
    (
        TaskSucceeded(AT, "t", 1, item=0),
        {"fact": "TaskSucceeded", "task": "t", "attempt": 1, "item": 0},
    ),
    (
        TaskCancelled(AT, "t", item=2),
        {"fact": "TaskCancelled", "task": "t", "item": 2},
    ),
    (Retried(AT, ("t",), params={}), {"fact": "Retried", "tasks": ["t"], "params": {}}),
]


def test_every_fact_is_pinned_here() -> None:
    assert {type(fact) for fact, _ in KEPT} == set(get_args(AnyFact))
    written = {*events.Fact.__subclasses__(), *events.RunFact.__subclasses__()}
    assert set(get_args(AnyFact)) == written - {events.RunFact}


@pytest.mark.parametrize(("fact", "kept"), KEPT)
def test_the_json_of_a_fact_never_changes(fact: AnyFact, kept: dict[str, object]) -> None:
    assert json.loads(encode_facts([fact])) == [{"at": AT_JSON} | kept]


@pytest.mark.parametrize(("fact", "kept"), KEPT)
def test_facts_of_older_versions_can_be_read(fact: AnyFact, kept: dict[str, object]) -> None:
    (read,) = decode_facts(json.dumps([{"at": AT_JSON} | kept], separators=(",", ":")).encode())
    assert read == fact


def test_fields_of_newer_versions_are_ignored() -> None:
    kept = {"fact": "TaskSkipped", "at": AT_JSON, "task": "t", "mood": "later"}
    assert decode_facts(json.dumps([kept]).encode()) == [TaskSkipped(AT, "t")]


def test_facts_are_immutable() -> None:
    for fact, _ in KEPT:
        with pytest.raises(AttributeError):
            setattr(fact, "at", AT)  # noqa: B010 - type checkers refuse it too


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"{}",
        b"[{}]",
        b'[{"fact":"Nothing","at":"2026-01-02T03:04:05Z"}]',
        b'[{"fact":"CancelRequested"}]',
        b'[{"fact":"CancelRequested","at":"yesterday"}]',
        b'[{"fact":"TaskStarted","at":"2026-01-02T03:04:05Z","task":"t"}]',
        b'[{"fact":"TaskStarted","at":"2026-01-02T03:04:05Z","task":"t","attempt":"1"}]',
        b'[{"fact":"CancelRequested","at":"2026-01-02T03:04:05Z"}',
    ],
)
def test_damaged_facts_are_refused(damaged: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_facts(damaged)


moments = st.datetimes(timezones=st.just(UTC))
texts = st.text(st.characters(codec="utf-8"))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
results = values.map(lambda value: Raw(msgspec.json.encode(value)))
counts = st.integers(0, 10)
seconds = st.floats(0.001, 1e9)

any_fact = st.one_of(
    st.builds(
        Submitted,
        moments,
        id=texts,
        job=texts,
        plan=texts,
        cause=texts,
        params=st.dictionaries(texts, values, max_size=3),
        scheduled_at=st.none() | moments,
        after=st.lists(texts, max_size=3).map(tuple),
        timeout=st.none() | seconds,
        by=texts,
    ),
    st.builds(TaskStarted, moments, texts, counts, st.none() | counts),
    st.builds(Mapped, moments, texts, counts, counts, texts, st.lists(texts).map(tuple)),
    st.builds(TaskSucceeded, moments, texts, counts, results),
    st.builds(AttemptFailed, moments, texts, counts, texts, moments),
    st.builds(TaskFailed, moments, texts, counts, texts),
    st.builds(TaskPostponed, moments, texts, counts, moments, texts, st.none() | counts),
    st.builds(
        TaskSkipped,
        moments,
        texts,
        reason=st.none() | st.sampled_from(SkipReason),
        why=texts,
    ),
    st.builds(ChildStarted, moments, texts, counts, texts, texts, st.none() | counts),
    st.builds(Dispatched, moments, texts, counts, counts, results, results, counts),
    st.builds(CancelRequested, moments, texts, st.none() | seconds),
    st.builds(TaskCancelRequested, moments, texts, texts),
    st.builds(MarkedSuccessful, moments, texts, texts, st.none() | texts),
    st.builds(MarkedSkipped, moments, texts, texts, st.none() | texts),
    st.builds(TaskCancelled, moments, texts, counts),
    st.builds(Finished, moments, texts),
    st.builds(
        Retried,
        moments,
        st.lists(texts).map(tuple),
        texts,
        st.none() | st.dictionaries(texts, values, max_size=3),
    ),
)


@given(st.lists(any_fact, max_size=5))
def test_facts_survive_a_round_trip_through_json(facts: list[AnyFact]) -> None:
    assert decode_facts(encode_facts(facts)) == facts
