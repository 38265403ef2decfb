"""What anybody may do in any order, with crashes between, compared with a model of a few lines."""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from goflow.errors import Conflict
from goflow.job import Job, Task
from goflow.operators.base import Context
from tests.simulation.jobs import JobSpec, Stage
from tests.simulation.world import BEGINNING, Process, World

MINUTE, SOON = timedelta(minutes=1), timedelta(seconds=3)
RETRIES = 1  # of task a


class Told:
    """An operator that ends when and as the test says."""

    def __init__(self, stage: Stage, orders: "dict[tuple[str, str], asyncio.Future[bool]]") -> None:
        self._stage = stage
        self._orders = orders

    async def run(self, context: Context) -> None:
        self._stage.begins(context, threaded=False)
        order = asyncio.get_running_loop().create_future()
        self._orders[context.execution_id, context.task] = order
        try:
            if not await order:
                raise ValueError("told to fail")
        finally:
            self._stage.ends(context)


class Quick:
    """An operator that ends at once."""

    def run(self) -> None:
        pass


@dataclass(frozen=True)
class ToldJob(JobSpec):
    """a >> b, both told how to end; and none of it by itself."""

    orders: Any = field(default_factory=dict)

    def build(self, stage: Stage) -> Job:
        first = Task("a", Told(stage, self.orders), retries=RETRIES)
        return Job(self.name, tasks=[first, Task("b", Told(stage, self.orders), after=["a"])])


class QuickJob(JobSpec):
    """One that fires every minute while it is on, and catches up with what it was down for."""

    def build(self, stage: Stage) -> Job:
        options: dict[str, Any] = {
            "catchup": "all",
            "catchup_window": 10**6,
            "catchup_limit": 10**5,
        }
        tasks = [Task("t", Quick())]
        return Job(self.name, "@every 1m", True, catchup="all", tasks=tasks, **options)


class Model:
    """An execution of the told job."""

    def __init__(self) -> None:
        self.a, self.b = "running", "notstarted"
        self.retries_left = RETRIES

    @property
    def running(self) -> str | None:
        return "a" if self.a == "running" else "b" if self.b == "running" else None

    def end(self, outcome: str) -> None:
        """What is running ends: "successful", "failed" or "cancelled"."""
        if self.a != "running":
            self.b = outcome
        elif outcome == "failed" and self.retries_left:
            self.retries_left -= 1
        else:
            self.a = outcome
            self.b = {"successful": "running", "cancelled": "cancelled"}.get(outcome, "skipped")

    def retry(self) -> bool:
        if self.a == self.b == "successful":
            return False
        if self.a != "successful":
            self.a, self.b, self.retries_left = "running", "notstarted", RETRIES
        else:
            self.b = "running"
        return True


class Machine(RuleBasedStateMachine):
    """The engine on a simulated machine, and the model."""

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.world = World(f"model {seed}")
        self.orders: dict[tuple[str, str], asyncio.Future[bool]] = {}
        self.world.jobs = {
            "told": ToldJob("told", (), orders=self.orders),
            "quick": QuickJob("quick", ()),
        }
        self.model: dict[str, Model] = {}
        self.keys: dict[str, str] = {}
        self.active = True
        self.off_since: datetime | None = None
        self.off: list[tuple[datetime, datetime]] = []
        self.process: Process | None = None
        self.recover()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.__exit__()

    @property
    def alive(self) -> Process:
        assert self.process is not None
        return self.process

    def is_up(self) -> bool:
        return self.process is not None

    def pick(self, number: int) -> str:
        return list(self.model)[-1 - number % len(self.model)]  # rather a late one

    @precondition(is_up)
    @rule(key=st.sampled_from([None, "k1", "k2"]))
    def submit(self, key: str | None) -> None:
        answer = self.alive.call(self.alive.engine.submit("told", key=key))
        assert answer.created is (key is None or key not in self.keys)
        if answer.created:
            self.model[answer.id] = Model()
        if key is not None:
            assert self.keys.setdefault(key, answer.id) == answer.id

    @precondition(lambda self: self.process is not None and self.model)
    @rule(number=st.integers(0, 3), well=st.booleans())
    def finish(self, number: int, well: bool) -> None:
        id = self.pick(number)
        if (task := self.model[id].running) is not None:
            self.orders.pop((id, task)).set_result(well)
            self.model[id].end("successful" if well else "failed")

    @precondition(lambda self: self.process is not None and self.model)
    @rule(number=st.integers(0, 3))
    def cancel(self, number: int) -> None:
        id = self.pick(number)
        running = self.model[id].running
        assert self.alive.call(self.alive.engine.cancel(id)) is (running is not None)
        if running is not None:
            self.model[id].end("cancelled")

    @precondition(lambda self: self.process is not None and self.model)
    @rule(number=st.integers(0, 3))
    def retry(self, number: int) -> None:
        id = self.pick(number)
        if self.model[id].running is None and self.model[id].retry():
            self.alive.call(self.alive.engine.retry(id))
        else:
            with pytest.raises(Conflict):
                self.alive.call(self.alive.engine.retry(id))

    @precondition(is_up)
    @rule(active=st.booleans())
    def toggle(self, active: bool) -> None:
        assert self.alive.call(self.alive.engine.toggle("quick", active)) is active
        if active and self.off_since is not None:
            self.off.append((self.off_since, self.world.now()))
            self.off_since = None
        elif not active and self.off_since is None:
            self.off_since = self.world.now()

    @precondition(is_up)
    @rule()
    def crash(self) -> None:
        self.alive.kill()
        self.world.end()
        self.process = None

    @precondition(lambda self: self.process is None)
    @rule()
    def recover(self) -> None:
        self.process = self.world.boot()
        self.process.call(self.process.engine.start())
        for execution in self.model.values():
            if execution.running is not None:
                execution.end("failed")  # interrupted

    @rule(seconds=st.integers(1, 400))
    def advance(self, seconds: int) -> None:
        if self.process is None:
            self.world.down(seconds)
        else:
            self.process.run(seconds)

    @invariant()
    def agrees(self) -> None:
        if getattr(self, "process", None) is None:
            return
        self.alive.run(1)
        if abs((self.world.now() - BEGINNING + SOON) % MINUTE - SOON) < SOON:
            self.alive.run(6)  # not while it fires
        for id, execution in self.model.items():
            detail = self.alive.call(self.alive.engine.reader.execution(id))
            assert [task.state for task in detail.tasks] == [execution.a, execution.b]
        fired = {due for job, due in self.world.disk.fired if job == "quick"}
        assert fired == set(self._due())

    def _due(self) -> Iterator[datetime]:
        """The due times at which the schedule was on."""
        now = self.world.now()
        off = [*self.off, (self.off_since, now)] if self.off_since else self.off
        due = BEGINNING + MINUTE
        while due <= now:
            if not any(since < due <= until for since, until in off):
                yield due
            due += MINUTE


class TestModel(Machine.TestCase):  # type: ignore[misc, valid-type]
    """Runs the machine."""

    settings = settings(
        max_examples=100,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        database=None,
        suppress_health_check=list(HealthCheck),
    )

    @pytest.fixture(autouse=True)
    def _quiet(self) -> Iterator[None]:
        logging.disable()
        yield
        logging.disable(logging.NOTSET)
