"""A process that is killed at any step or commit of an operation, and again during recovery,
keeps every promise.

The simulated loop, threads and store raise the kills. A step is one callback of the loop or one
piece of work in a thread. At a commit, the kill comes just before it, or just after it and before
its notification. `tests/crash/test_migration.py` kills migrations, which need a file.

Each process is killed at every twelfth step, and the next process one step later. Each commit has
one kill: before it if its number is odd, and after it otherwise. The second seed exchanges them.
To kill at each step, before each commit and after it:
`pytest tests/simulation/test_kills.py --kill-stride 1`.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from enum import StrEnum
from functools import partial
from typing import Any

import pytest

from goflow.core.events import (
    CancelRequested,
    MarkedSuccessful,
    Retried,
    TaskCancelRequested,
    TaskStarted,
    TaskSucceeded,
)
from goflow.core.execution import Execution
from goflow.core.keys import Item, Key, described
from goflow.core.states import State, TriggerRule
from goflow.engine.control import Definition
from tests.simulation.jobs import JobSpec, TaskSpec, add
from tests.simulation.story import Story
from tests.simulation.world import BEGINNING, Process, World

KILLS = 6  # at least, of each kind in each operation
LONG = 20_000  # simulated seconds, enough for everything to end
JOB = JobSpec(
    "j",
    (
        TaskSpec("a", retries=2, mood="long"),
        TaskSpec("b", ("a",), retries=1, threaded=True, mood="talk"),
        TaskSpec("c", ("a",), mood="ok"),
        TaskSpec("d", ("a",), delay="constant", retries=1, mood="fail", on_retry="ok"),
        TaskSpec("e", mood="list"),
        TaskSpec("f", ("e",), retries=1, mood="items", map_over="e", max_parallel=2),
        TaskSpec("g", ("a",), retries=1, mood="patient"),
        TaskSpec("h", ("f",), mood="items", map_over="f"),
    ),
    {"schedule": "@every 1h", "active": True, "max_queued": 10, "catchup": "all"},
)
# The same with more, for the kills at commits, of which there are fewer than steps.
FLOW = replace(
    JOB,
    tasks=(
        *JOB.tasks,
        TaskSpec("i", ("e",), retries=1, mood="ok", branch=True),
        TaskSpec("j", ("i",), TriggerRule.NONE_FAILED, mood="skip"),
        TaskSpec("k", ("e",), runs="below", gives=1),
        TaskSpec("l", ("b",), retries=1, mood="file", result="pickle", when="params.n > 2"),
    ),
    options=JOB.options | {"state": add, "interval": True},
    hooks=(
        ("finish", TaskSpec("m", retries=1, mood="ok")),
        ("failure", TaskSpec("o", retries=1, mood="fail")),
    ),
)
BELOW = JobSpec("below", (TaskSpec("a", retries=1, mood="ok"),))
OVERLAPS = ("queue", "replace", "allow")


class Moment(StrEnum):
    STEP = "step"
    BEFORE_COMMIT = "before commit"
    AFTER_COMMIT = "after commit"


class Client:
    """A client that sends one request, and checks acknowledged promises."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._promises: list[tuple[str, Callable[[], object]]] = []

    @property
    def process(self) -> Process:
        assert self.world.process is not None
        return self.world.process

    def executions(self, *, finished: bool) -> list[Execution]:
        return [e for e in self.world.disk.executions.values() if e.finished is finished]

    def acknowledged(self, what: str, kept: Callable[[], object]) -> None:
        """Record an acknowledgement; it must hold from now on."""
        self.hold(what, kept())
        self._promises.append((what, kept))

    def check(self) -> None:
        """It still is."""
        for what, kept in self._promises:
            self.hold(what, kept())

    def hold(self, what: str, kept: object) -> None:
        if not kept:
            self.world.problems.append(f"acknowledged, but not committed: {what}")

    def has(self, id: str, kind: type, task: str | None = None) -> bool:
        """Whether a fact of this kind is committed."""
        return any(
            isinstance(fact, kind) and (task is None or getattr(fact, "task", None) == task)
            for fact in self.world.disk.facts.get(id, [])
        )

    async def end_of(self, id: str) -> None:
        await self.process.engine.runners.finished(id)
        self.acknowledged(f"the end of {id}", lambda: self.world.disk.executions[id].finished)


Operation = Callable[[Client], Coroutine[Any, Any, None]]


async def submit(client: Client) -> None:
    answer = await client.process.engine.submissions.submit("j", key="again")
    client.acknowledged(
        f"submit of {answer.id}",
        lambda: (
            client.world.disk.keys.get(("j", "again")) == answer.id
            and answer.id in client.world.disk.executions
        ),
    )


async def tick(client: Client) -> None:
    process, disk = client.process, client.world.disk
    due = BEGINNING + timedelta(hours=1)
    process.loop.skip((due - process.clock.now()).total_seconds() + 1)
    async with asyncio.timeout(60):
        while ("j", due) not in disk.fired:
            await process.clock.sleep(0.1)
    await process.clock.sleep(1)


async def task(client: Client) -> None:
    await client.end_of((await client.process.engine.submissions.submit("j")).id)


async def cancel(client: Client) -> None:
    running = client.executions(finished=False)[0].id
    if await client.process.engine.control.cancel(running):
        client.acknowledged(f"cancel of {running}", lambda: client.has(running, CancelRequested))
    await client.end_of(running)


async def cancel_task(client: Client) -> None:
    running = client.executions(finished=False)[0].id
    if await client.process.engine.control.cancel_task(running, "a"):
        client.acknowledged(
            f"cancel of a of {running}", lambda: client.has(running, TaskCancelRequested, "a")
        )
    await client.end_of(running)


async def retry(client: Client) -> None:
    finished = client.executions(finished=True)[0].id
    await client.process.engine.control.retry(finished, task="a")
    client.acknowledged(f"retry of {finished}", lambda: client.has(finished, Retried))
    await client.process.clock.sleep(1)


async def retry_by_newest(client: Client) -> None:
    """Replace the job, and retry by that definition. The next process has it too."""
    old = client.world.jobs["j"]
    new = TaskSpec("n", ("a",), retries=1, mood="ok")
    kept = tuple(task for task in old.tasks if task.name != "c")
    client.world.jobs["j"] = replace(old, tasks=(*kept, new))
    client.process.register("j", replace=True)
    finished = client.executions(finished=True)[0].id
    await client.process.engine.control.retry(finished, definition=Definition.NEWEST)

    def kept_promise() -> bool:
        execution = client.world.disk.executions[finished]
        return "n" in execution.tasks and "c" in execution.dropped

    client.acknowledged(f"retry of {finished} by the newest definition", kept_promise)
    await client.end_of(finished)


async def mark(client: Client) -> None:
    running = client.executions(finished=False)[0].id
    await client.process.engine.control.mark(running, "c", State.SUCCESSFUL)
    client.acknowledged(
        f"mark of c of {running}", lambda: client.has(running, MarkedSuccessful, "c")
    )


async def toggle(client: Client) -> None:
    active = await client.process.engine.schedules.toggle("j")
    client.acknowledged("toggle", lambda: client.world.disk.switches.get("j") is active)


async def backfill(client: Client) -> None:
    now = client.process.clock.now()
    for one in await client.process.engine.backfills.run("j", now - timedelta(hours=4), now):
        client.acknowledged(f"{one}", partial(client.world.disk.executions.get, one.execution))


async def stop(client: Client) -> None:
    await client.process.engine.stop()
    found = client.world.disk.executions.values()
    client.hold("a stop", not any(set(e.running) - set(e.waits) for e in found))


async def recovery(client: Client) -> None:
    """Start after a crash, catch up with missed due times, and let everything end."""
    await client.process.engine.start()
    for id in [execution.id for execution in client.executions(finished=False)]:
        await client.end_of(id)


OPERATIONS = [
    submit, tick, task, cancel, cancel_task, retry, retry_by_newest, mark, toggle, backfill, stop,
    recovery,
]  # fmt: skip


def lived_through(operation: Operation, moment: Moment, number: int, seed: int) -> bool:
    """Run an operation, kill it at that step or commit, kill it again during recovery, and
    recover. Returns False if the operation ended before that."""
    with World(f"{operation.__name__}, {moment} {seed}") as world:
        job = JOB if moment is Moment.STEP else FLOW
        world.jobs["j"] = replace(job, options=job.options | {"overlap": OVERLAPS[seed % 3]})
        world.jobs["below"] = BELOW
        story, client = Story(world), Client(world)
        assert story.start(world.boot())
        begin_with(Client(world))
        if operation is recovery:
            die(client)
            world.down(5000)
            world.boot()
        if not killed(client, operation, moment, number):
            return False
        world.down(world.rng.choice((0, 5000)))
        world.boot()
        late = 40 if moment is Moment.STEP else 4
        killed(client, recovery, moment, world.rng.randint(1, late))
        if operation is submit:  # a client without an answer repeats its request
            assert story.start(world.boot())
            client.process.call(submit(client))
            die(client)
        client.check()
        story.settle()
        check_that_nothing_that_succeeded_ran_again(world)
    return True


def begin_with(client: Client) -> None:
    """Create a finished execution and a running one."""
    client.process.call(task(client), seconds=LONG)
    client.process.call(client.process.engine.submissions.submit("j"))
    client.process.run(1)


def killed(client: Client, operation: Operation, moment: Moment, number: int) -> bool:
    """Run an operation and kill the process, at the latest after it. Returns whether before."""
    process, disk = client.process, client.world.disk
    with process.loop.running():
        under_way = process.loop.create_task(operation(client))
    if moment is not Moment.STEP:
        disk.kill_in, disk.kill_before = number, moment is Moment.BEFORE_COMMIT
    until = process.loop.time() + LONG
    while not (process.dead or under_way.done()):
        assert process.loop.time() < until, f"{operation.__name__} does not end"
        if moment is Moment.STEP:
            if number == 0:
                process.kill()
                break
            number -= 1
        process.run(LONG, steps=1)
    disk.kill_in = disk.kill_before = None
    before = process.dead
    if not before:
        under_way.result()
    die(client)
    return before


def die(client: Client) -> None:
    client.process.kill()
    client.world.end()


def check_that_nothing_that_succeeded_ran_again(world: World) -> None:
    """Unless a client requested it."""
    hooks = {hook.name for _, hook in FLOW.hooks}
    for id, facts in world.disk.facts.items():
        succeeded: set[Key] = set()
        for fact in facts:
            match fact:
                case TaskSucceeded():
                    succeeded.add(fact.key)
                case Retried():
                    succeeded -= hooks
                    succeeded -= {key for key in succeeded if runs_again(key, fact, succeeded)}
                case TaskStarted():
                    assert fact.key not in succeeded, f"{described(fact.key)} of {id} ran again"


def runs_again(key: Key, retried: Retried, succeeded: set[Key]) -> bool:
    """Whether a retry may run a task or item that had succeeded."""
    if not isinstance(key, Item):
        return key in retried.tasks
    if retried.item is not None and key.task == retried.asked:
        return key.number == retried.item
    if key.task not in retried.tasks:
        return False
    over = next(task.map_over for task in FLOW.tasks if task.name == key.task)
    assert isinstance(over, str)
    before = Item(over, key.number)
    if key.task not in succeeded and over == "f" and over in retried.tasks and before in succeeded:
        return runs_again(before, retried, succeeded)  # item by item
    return key.task in succeeded or over in retried.tasks


@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_a_killed_process_keeps_every_promise(
    operation: Operation, moment: Moment, kill_stride: int
) -> None:
    """Kills from the first step or commit to the last, repeated in new processes until there were
    enough kills."""
    logging.disable()
    try:
        kills = 0
        for seed in range(2 * KILLS):
            if moment is Moment.STEP:
                number, stride = seed % kill_stride, kill_stride
            else:
                stride = 1 if kill_stride == 1 else 2
                number = 1 + (seed + (moment is Moment.AFTER_COMMIT)) % stride
            while lived_through(operation, moment, number, seed):
                kills += 1
                number += stride
            if kills >= KILLS:
                break
    finally:
        logging.disable(logging.NOTSET)
    assert kills >= KILLS
