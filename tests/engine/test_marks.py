"""The newest executions of each job are kept as JSON until they change, and no longer."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from goflow.core.summary import Mark
from goflow.engine import marks as module
from goflow.engine.marks import Marks
from goflow.stores.base import Purge
from goflow.stores.memory import MemoryStore
from tests.stores.conftest import Changes

LAST = 5


class Asked:
    """Asks a store, notes for which jobs, and lets a test do something while that is read."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.store.open()
        self.changes = Changes()
        self.jobs: list[str] = []
        self.meanwhile: Callable[[], object] = lambda: None
        self.marks = Marks(self.store, self._read)

    async def _read(self, question: Callable[..., Any], jobs: list[str], last: int) -> Any:
        self.jobs += jobs
        answer = question(jobs, last)
        await asyncio.sleep(0)
        self.meanwhile()
        return answer

    def add(self, id: str, job: str = "job") -> None:
        self.store.commit([self.changes.submit(id, job)])
        self.marks.changed(job)

    def shown(self, *jobs: str, last: int = LAST) -> list[list[str]]:
        """The ids of each job's marks."""
        found = asyncio.run(self.marks.newest(jobs, last))
        assert found.keys() == set(jobs)
        decoded = [msgspec.json.decode(found[job], type=list[Mark]) for job in jobs]
        return [[mark.id for mark in marks] for marks in decoded]


@pytest.fixture
def asked() -> Iterator[Asked]:
    asked = Asked()
    yield asked
    asked.store.close()


def test_a_job_is_read_again_only_after_it_has_changed(asked: Asked) -> None:
    asked.add("a")
    asked.add("b", "other")
    assert asked.shown("job", "other") == [["a"], ["b"]]
    assert asked.shown("job", "other") == [["a"], ["b"]]
    assert asked.jobs == ["job", "other"]
    asked.add("c")
    assert asked.shown("job", "other") == [["c", "a"], ["b"]]
    assert asked.jobs == ["job", "other", "job"]


def test_another_length_is_read_again(asked: Asked) -> None:
    for id in "abc":
        asked.add(id)
    assert asked.shown("job") == [["c", "b", "a"]]
    assert asked.shown("job", last=2) == [["c", "b"]]
    assert asked.shown("job") == [["c", "b", "a"]]


def test_what_changed_while_it_was_read_is_not_kept(asked: Asked) -> None:
    asked.meanwhile = lambda: asked.add("a")
    assert asked.shown("job") == [[]]
    asked.meanwhile = lambda: None
    assert asked.shown("job") == [["a"]]


def test_what_a_purge_took_is_not_shown(asked: Asked) -> None:
    asked.add("a")
    asked.store.commit([asked.changes.finish("a")])
    asked.marks.changed("job")
    assert asked.shown("job") == [["a"]]
    asked.store.commit([Purge(None, None, 0, 10)])
    asked.marks.forget()
    assert asked.shown("job") == [[]]


def test_what_has_no_room_is_read_each_time(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    asked.add("a", "small")
    for id in "bcd":
        asked.add(id, "large")
    asked.shown("small")
    monkeypatch.setattr(module, "KEPT", asked.marks._size + 1)
    for _ in range(2):
        assert asked.shown("small", "large") == [["a"], ["d", "c", "b"]]
    assert asked.jobs == ["small", "large", "large"]
    asked.marks.changed("small")
    asked.marks.changed("large")
    assert asked.marks._size == 0
