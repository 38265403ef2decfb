"""The recent executions of each job are cached as JSON until the job changes."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from goflow.core.summary import RecentExecution
from goflow.engine import recent as module
from goflow.engine.recent import RecentExecutions
from goflow.stores.base import Purge
from goflow.stores.memory import MemoryStore
from tests.stores.conftest import Changes

LAST = 5


class Asked:
    """Reads a store, records the jobs, and lets a test act during the read."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.store.open()
        self.changes = Changes()
        self.jobs: list[str] = []
        self.meanwhile: Callable[[], object] = lambda: None
        self.recent = RecentExecutions(self.store, self._read)

    async def _read(self, question: Callable[..., Any], jobs: list[str], last: int) -> Any:
        self.jobs += jobs
        answer = question(jobs, last)
        await asyncio.sleep(0)
        self.meanwhile()
        return answer

    def add(self, id: str, job: str = "job") -> None:
        self.store.commit([self.changes.submit(id, job)])
        self.recent.changed(job)

    def shown(self, *jobs: str, last: int = LAST) -> list[list[str]]:
        """The ids of each job's recent executions."""
        found = asyncio.run(self.recent.newest(jobs, last))
        assert found.keys() == set(jobs)
        decoded = [msgspec.json.decode(found[job], type=list[RecentExecution]) for job in jobs]
        return [[one.id for one in executions] for executions in decoded]


@pytest.fixture
def asked() -> Iterator[Asked]:
    asked = Asked()
    yield asked
    asked.store.close()


def test_a_job_is_read_again_only_after_a_change(asked: Asked) -> None:
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


def test_a_job_that_changed_during_the_read_is_not_cached(asked: Asked) -> None:
    asked.meanwhile = lambda: asked.add("a")
    assert asked.shown("job") == [[]]
    asked.meanwhile = lambda: None
    assert asked.shown("job") == [["a"]]


def test_purged_executions_are_not_shown(asked: Asked) -> None:
    asked.add("a")
    asked.store.commit([asked.changes.finish("a")])
    asked.recent.changed("job")
    assert asked.shown("job") == [["a"]]
    asked.store.commit([Purge(None, None, 0, 10)])
    asked.recent.clear()
    assert asked.shown("job") == [[]]


def test_jobs_beyond_the_cache_are_read_each_time(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked.add("a", "small")
    for id in "bcd":
        asked.add(id, "large")
    asked.shown("small")
    monkeypatch.setattr(module, "CACHED", asked.recent._size + 1)
    for _ in range(2):
        assert asked.shown("small", "large") == [["a"], ["d", "c", "b"]]
    assert asked.jobs == ["small", "large", "large"]
    asked.recent.changed("small")
    asked.recent.changed("large")
    assert asked.recent._size == 0
