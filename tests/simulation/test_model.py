"""Random requests in any order, with crashes, compared with a model of a few lines.

The engine is the real one, on a simulated machine. The model is independent of it: a job `a >> b`
whose tasks end as the test decides, and a schedule.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from goflow.core.states import State
from goflow.errors import Conflict
from goflow.job import Job, Task
from goflow.operators.base import Context
from goflow.stores.base import TickOutcome
from tests.effort import examples
from tests.simulation.jobs import JobSpec, Stage
from tests.simulation.world import BEGINNING, Process, World

MINUTE, SOON = timedelta(minutes=1), timedelta(seconds=3)
RETRIES = 1  # of task a; b has none


# -- the model ----------------------------------------------------------------------


class Model:
    """An execution of `a >> b` in which every task that may start has started."""

    def __init__(self) -> None:
        self.tasks = {"a": "notstarted", "b": "notstarted"}
        self.redo(["a", "b"])

    def redo(self, again: list[str]) -> None:
        self.cancelled = False
        for name in again:
            self.tasks[name] = "notstarted"
        if "a" in again:
            self.tasks["a"] = "running"
            self.retries_left = RETRIES
        self._follow()

    def _follow(self) -> None:
        if self.tasks["b"] == "notstarted" and self.tasks["a"] != "running":
            self.tasks["b"] = "running" if self.tasks["a"] == "successful" else "skipped"

    @property
    def running(self) -> str | None:
        return next((name for name, state in self.tasks.items() if state == "running"), None)

    @property
    def state(self) -> str:
        if self.running:
            return "running"
        if "failed" in self.tasks.values():
            return "failed"
        return "cancelled" if self.cancelled or "cancelled" in self.tasks.values() else "successful"

    def end(self, name: str, *, well: bool) -> None:
        """The running attempt ends."""
        if name == "a" and not well and self.retries_left:
            self.retries_left -= 1
            return
        self.tasks[name] = "successful" if well else "failed"
        self._follow()

    def interrupt(self, name: str) -> None:
        """The process ends during the attempt. A task with retries is retried without using one."""
        if name != "a":
            self.end(name, well=False)

    def cancel(self) -> bool:
        if not self.running:
            return False
        self.cancelled = True
        for name, state in self.tasks.items():
            if state in ("running", "notstarted"):
                self.tasks[name] = "cancelled"
        return True

    def cancel_task(self, name: str) -> bool:
        if self.tasks[name] not in ("running", "notstarted"):
            return False
        self.tasks[name] = "cancelled"
        self._follow()
        return True

    def retry(self, name: str | None, *, following: bool) -> bool:
        if name is None:
            again = [one for one, state in self.tasks.items() if state != "successful"]
        else:
            again = ["a", "b"] if name == "a" and following else [name]
        if self.running or not again:
            return False
        self.redo(again)
        return True

    def mark(self, name: str, state: str) -> bool:
        if self.tasks[name] in ("running", "successful", state):
            return False
        self.tasks[name] = state
        return True


class Timetable:
    """A schedule that is due every minute, may be off, and can be backfilled."""

    def __init__(self) -> None:
        self._off: list[tuple[datetime, datetime]] = []
        self._off_since: datetime | None = None
        self.backfilled: set[datetime] = set()

    def switch(self, active: bool, now: datetime) -> None:
        if active and self._off_since is not None:
            self._off.append((self._off_since, now))
            self._off_since = None
        elif not active and self._off_since is None:
            self._off_since = now

    def due(self, start: datetime, end: datetime) -> list[datetime]:
        """The due times from `start` up to, not including, `end`."""
        due = (BEGINNING + n * MINUTE for n in range(1, 2 + (end - BEGINNING) // MINUTE))
        return [one for one in due if start <= one < end]

    @property
    def missed(self) -> set[datetime]:
        """The due times at which it was off, after it is on again."""
        due = {one for since, until in self._off for one in self.due(since, until)}
        return due - self.backfilled

    def fired(self, now: datetime) -> set[datetime]:
        off = self.missed | set(self.due(self._off_since or now, now))
        return set(self.due(BEGINNING, now)) - off | self.backfilled


# -- the jobs -----------------------------------------------------------------------


class Controlled:
    """An operator that ends when and as the test decides."""

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
class ControlledJob(JobSpec):
    """a >> b, both controlled by the test."""

    orders: Any = field(default_factory=dict)

    def build(self, stage: Stage) -> Job:
        first = Task("a", Controlled(stage, self.orders), retries=RETRIES)
        return Job(self.name, tasks=[first, Task("b", Controlled(stage, self.orders), after=["a"])])


class QuickJob(JobSpec):
    """A job that fires every minute while it is on, and catches up after a downtime."""

    def build(self, stage: Stage) -> Job:
        catchup: dict[str, Any] = {"catchup": "all", "catchup_window": 10**6}
        return Job(self.name, "@every 1m", True, tasks=[Task("t", Quick())], **catchup)


# -- engine and model, compared --------------------------------------------------------


class Machine(RuleBasedStateMachine):
    """Applies the same requests to the engine and to the model, and compares them."""

    seen: ClassVar[Counter[str]] = Counter()  # requests and their results, over all runs

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        """Create an execution at its task b, one at its task a, and due times that passed while
        the schedule was off."""
        self.world = World(f"model {seed}")
        self.orders: dict[tuple[str, str], asyncio.Future[bool]] = {}
        self.world.jobs = {
            "told": ControlledJob("told", (), orders=self.orders),
            "quick": QuickJob("quick", ()),
        }
        self.models: dict[str, Model] = {}
        self.keys: dict[str, str] = {}
        self.timetable = Timetable()
        self.start()
        for _ in range(2):
            self.submit(None)
            self.process.run(1)
        self.end(1, well=True)
        self.toggle(False)
        self.advance(150)
        self.toggle(True)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.__exit__()

    def start(self) -> None:
        process = self.world.boot()
        process.call(process.engine.start())

    @property
    def process(self) -> Process:
        assert self.world.process is not None
        return self.world.process

    def ask(self, question: Coroutine[Any, Any, Any]) -> Any:
        return self.process.call(question)

    def either(self, what: str, accepted: bool, question: Coroutine[Any, Any, Any]) -> None:
        """Send a request that the model accepts or refuses; the engine must agree."""
        self.seen[f"{what} {'accepted' if accepted else 'refused'}"] += 1
        if accepted:
            self.ask(question)
        else:
            with pytest.raises(Conflict):
                self.ask(question)

    def pick(self, number: int) -> tuple[str, Model]:
        return list(self.models.items())[-1 - number % len(self.models)]  # prefers recent ones

    some = st.integers(0, 3)
    task = st.sampled_from(["a", "b"])

    @rule(key=st.sampled_from([None, "k1", "k2"]))
    def submit(self, key: str | None) -> None:
        answer = self.ask(self.process.engine.submissions.submit("told", key=key))
        assert answer.created is (key is None or key not in self.keys)
        self.seen["submit new" if answer.created else "submit again"] += 1
        if answer.created:
            self.models[answer.id] = Model()
        if key is not None:
            assert self.keys.setdefault(key, answer.id) == answer.id

    @precondition(lambda self: self.running)
    @rule(number=some)
    def succeed(self, number: int) -> None:
        self.end(number, well=True)

    @precondition(lambda self: self.running)
    @rule(number=some)
    def fail(self, number: int) -> None:
        self.end(number, well=False)

    @property
    def running(self) -> list[tuple[str, Model, str]]:
        """The running attempts, in the order of executions."""
        found = [(id, model, model.running) for id, model in self.models.items()]
        return [(id, model, task) for id, model, task in found if task is not None]

    def end(self, number: int, *, well: bool) -> None:
        id, model, task = self.running[-1 - number % len(self.running)]
        self.seen[f"{task} {'succeeded' if well else 'failed'}"] += 1
        self.orders.pop((id, task)).set_result(well)
        model.end(task, well=well)

    @precondition(lambda self: self.models)
    @rule(number=some)
    def cancel(self, number: int) -> None:
        id, model = self.pick(number)
        wanted = model.cancel()
        self.seen[f"cancel {wanted}"] += 1
        assert self.ask(self.process.engine.control.cancel(id)) is wanted

    @precondition(lambda self: self.models)
    @rule(number=some, task=task)
    def cancel_task(self, number: int, task: str) -> None:
        id, model = self.pick(number)
        wanted = model.cancel_task(task)
        self.seen[f"cancel task {wanted}"] += 1
        assert self.ask(self.process.engine.control.cancel_task(id, task)) is wanted

    @precondition(lambda self: self.models)
    @rule(number=some, task=st.sampled_from([None, "a", "b"]), following=st.booleans())
    def retry(self, number: int, task: str | None, following: bool) -> None:
        id, model = self.pick(number)
        accepted = model.retry(task, following=following)
        question = self.process.engine.control.retry(id, task=task, following=following)
        self.either("retry", accepted, question)

    @precondition(lambda self: self.models)
    @rule(number=some, task=task, state=st.sampled_from([State.SUCCESSFUL, State.SKIPPED]))
    def mark(self, number: int, task: str, state: State) -> None:
        id, model = self.pick(number)
        accepted = model.mark(task, state.value)
        self.either("mark", accepted, self.process.engine.control.mark(id, task, state))

    @rule(active=st.booleans())
    def toggle(self, active: bool) -> None:
        assert self.ask(self.process.engine.schedules.toggle("quick", active)) is active
        self.seen[f"toggle {active}"] += 1
        self.timetable.switch(active, self.world.now())

    @rule(minutes=st.integers(1, 30))
    def backfill(self, minutes: int) -> None:
        now = self.world.now()
        start = max(now - minutes * MINUTE, BEGINNING + SOON)
        fired, due = self.timetable.fired(now), self.timetable.due(start, now)
        done = self.ask(self.process.engine.backfills.run("quick", start, now, parallel=2))
        assert [(one.due, one.created) for one in done] == [(one, one not in fired) for one in due]
        self.seen["backfill"] += any(one.created for one in done)
        self.timetable.backfilled.update(due)

    @rule(down=st.integers(0, 400), again=st.sampled_from([None, True, False]))
    def crash_and_recover(self, down: int, again: bool | None) -> None:
        """Crash, recover after `down` seconds, and crash again before or after the first commit if
        `again` is set."""
        self.process.kill()
        self.world.end()
        self.world.down(down)
        if again is not None:
            self.world.disk.kill_in, self.world.disk.kill_before = 1, again
        self.start()
        self.world.disk.kill_in = None
        if self.process.dead:
            self.seen["crash while recovering"] += 1
            self.world.end()
            self.start()
        for model in self.models.values():
            if (task := model.running) is not None:
                self.seen["interrupted"] += 1
                model.interrupt(task)

    @rule(seconds=st.integers(1, 400))
    def advance(self, seconds: int) -> None:
        self.process.run(seconds)

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "models"):
            return
        self.process.run(1)
        if abs((self.world.now() - BEGINNING + SOON) % MINUTE - SOON) < SOON:
            self.process.run(6)  # until it has fired
        reader, now = self.process.engine.reader, self.world.now()
        for id, model in self.models.items():
            detail = self.ask(reader.execution(id))
            assert {task.name: task.state for task in detail.tasks} == model.tasks
            assert detail.state == model.state
        listed = [
            msgspec.json.decode(e) for e in self.ask(reader.page("told", None, 1000, None))[0]
        ]
        assert {e["id"]: e["state"] for e in listed} == {
            id: model.state for id, model in self.models.items()
        }
        ledger: dict[str, set[datetime]] = {TickOutcome.FIRED: set(), TickOutcome.MISSED: set()}
        for tick in self.ask(reader.ticks("quick", None, 10_000)):
            ledger[tick.outcome].update(tick.due + n * MINUTE for n in range(tick.count))
        assert ledger[TickOutcome.FIRED] == self.timetable.fired(now)
        assert ledger[TickOutcome.MISSED] - self.timetable.backfilled == self.timetable.missed


SETTINGS = settings(
    max_examples=examples(100),
    stateful_step_count=60,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate, Phase.shrink],
    database=None,
    print_blob=True,
)

# The minimum number of each event over all runs.
OFTEN = examples(10)
EXPLORED = [
    "submit new", "submit again", "a succeeded", "a failed", "b succeeded", "b failed",
    "cancel True", "cancel False", "cancel task True", "cancel task False",
    "retry accepted", "retry refused", "mark accepted", "mark refused",
    "toggle True", "toggle False", "backfill", "interrupted", "crash while recovering",
]  # fmt: skip


def test_the_engine_agrees_with_the_model() -> None:
    Machine.seen.clear()
    logging.disable()
    try:
        run_state_machine_as_test(Machine, settings=SETTINGS)
    finally:
        logging.disable(logging.NOTSET)
    assert {what: Machine.seen[what] for what in EXPLORED if Machine.seen[what] < OFTEN} == {}
