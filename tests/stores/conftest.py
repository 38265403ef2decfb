"""Every store, opened, and changes to commit."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from goflow.core.events import AnyFact, Finished, Submitted, TaskStarted
from goflow.core.graph import Plan, PlannedTask
from goflow.core.states import State
from goflow.stores.base import Accounted, Idempotency, Record, Store, Submit
from goflow.stores.logs import AppendLog
from goflow.stores.memory import MemoryStore
from goflow.stores.sqlite import SqliteStore

Opened = Callable[[], AbstractContextManager[Store]]


KINDS: dict[str, Callable[[Path], Store]] = {
    "memory": lambda folder: MemoryStore(),
    "sqlite": lambda folder: SqliteStore(folder / "goflow.db"),
}
"""Creates a new, empty store of each kind in an empty `folder`. The conformance suite
(test_contract.py, test_activity.py and test_logs.py) runs on each of them."""


@pytest.fixture(scope="session", params=KINDS)
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """Opens a new store of each kind."""

    @contextmanager
    def opened() -> Iterator[Store]:
        store = KINDS[request.param](tmp_path_factory.mktemp("store"))
        store.open()
        try:
            yield store
        finally:
            store.close()

    return opened


@pytest.fixture
def store(opened: Opened) -> Iterator[Store]:
    with opened() as store:
        yield store


class Changes:
    """Creates changes; every instant is a second after the previous one."""

    plan = Plan((PlannedTask("a"), PlannedTask("b", after=("a",), retries=2)))

    def __init__(self) -> None:
        self._seconds = itertools.count()

    def now(self) -> datetime:
        return datetime(2026, 1, 1, microsecond=7, tzinfo=UTC) + timedelta(
            seconds=next(self._seconds)
        )

    def submit(
        self,
        execution: str,
        job: str = "job",
        *,
        due: datetime | None = None,
        tick: bool = False,
        key: str | None = None,
        fingerprint: str = "",
        plan: Plan = plan,
        cause: str = "api",
        accounted: Accounted | None = None,
    ) -> Submit:
        fact = Submitted(
            self.now(), id=execution, job=job, plan=plan.id, cause=cause, scheduled_at=due
        )
        asked = None if key is None else Idempotency(key, fingerprint)
        return Submit(fact, plan, tick=tick, idempotency=asked, accounted=accounted)

    def record(
        self,
        execution: str,
        *facts: AnyFact,
        state: State = State.RUNNING,
        started: datetime | None = None,
    ) -> Record:
        now = self.now()
        facts = facts or (TaskStarted(now, "a", 1),)
        return Record(execution, list(facts), state, now, started=started)

    def finish(
        self,
        execution: str,
        state: State = State.SUCCESSFUL,
        summary: bytes = b"{}",
        started: datetime | None = None,
    ) -> Record:
        now = self.now()
        return Record(execution, [Finished(now, state.value)], state, now, summary, started, now)

    def log(
        self,
        execution: str,
        first: int,
        *lines: str,
        task: str = "a",
        attempt: int = 1,
        forget: tuple[int, int] | None = None,
    ) -> AppendLog:
        text = "".join(f"{line}\n" for line in lines)
        return AppendLog(execution, task, attempt, first, len(lines), text, forget)


@pytest.fixture(scope="session")
def changes() -> Changes:
    return Changes()
