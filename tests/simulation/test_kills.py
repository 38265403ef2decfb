"""A process that is killed at any step and at any commit of what it does, also while it
recovers, keeps every promise. The kills come through the loop and the store it was handed."""

import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator

import pytest

from goflow.core.states import State
from goflow.errors import InvalidRequest
from tests.simulation.jobs import JobSpec, TaskSpec
from tests.simulation.story import Story
from tests.simulation.world import Process, World

KILLS = 20  # at least so many, of each kind, in each operation
JOB = JobSpec(
    "j",
    (
        TaskSpec("a", retries=2, mood="long"),
        TaskSpec("b", ("a",), retries=1),
        TaskSpec("c", ("a",)),
    ),
    {"schedule": "@every 1h", "active": True, "overlap": "queue", "catchup": "all"},
)
Operation = Callable[[Process], Awaitable[object]]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


async def submit(process: Process) -> object:
    return await process.engine.submit("j", key="again")


async def tick(process: Process) -> None:
    process.loop.skip(3600)
    await process.clock.sleep(1)


async def task(process: Process) -> None:
    await process.engine.finished((await process.engine.submit("j")).id)


async def cancel(process: Process) -> object:
    unfinished = [e.id for e in process.world.disk.executions.values() if not e.finished]
    return await process.engine.cancel(unfinished[-1])


async def retry(process: Process) -> None:
    finished = [e.id for e in process.world.disk.executions.values() if e.finished]
    await process.engine.retry(finished[0], task="a")


async def mark(process: Process) -> None:
    waiting = [e.id for e in process.world.disk.executions.values() if not e.finished]
    await process.engine.mark(waiting[-1], "c", State.SUCCESSFUL)


async def toggle(process: Process) -> object:
    return await process.engine.toggle("j")


async def stop(process: Process) -> None:
    await process.engine.stop()


async def recovery(process: Process) -> None:
    await process.engine.start()
    unfinished = [e.id for e in process.world.disk.executions.values() if not e.finished]
    for id in unfinished:
        await process.engine.finished(id)


def lived_through(operation: Operation, seed: str, *, step: int = -1, commit: int = -1) -> bool:
    """Do something, be killed at that step or commit of it, and recover; False if it was over
    before that."""
    with World(seed) as world:
        return _lived_through(world, operation, step, commit)


def _lived_through(world: World, operation: Operation, step: int, commit: int) -> bool:
    story = Story(world)
    world.jobs["j"] = JOB
    process = world.boot()
    assert story.start(process)
    process.call(task(process), seconds=20_000)
    process.begin(submit_and_forget(process))
    process.run(1)
    if operation is recovery:
        process.kill()
        world.end()
        process = world.boot()
    over = killed(process, lambda: operation(process), step, commit)
    world.disk.kill_in = None
    process.kill()
    world.end()
    story.settle()
    return not over


async def submit_and_forget(process: Process) -> None:
    await process.engine.submit("j")


def killed(
    process: Process, operation: Callable[[], Awaitable[object]], step: int, commit: int
) -> bool:
    """Begin an operation and let the process be killed; whether it was over before that."""

    async def whole() -> None:
        # It may come too late: then it was over.
        with contextlib.suppress(InvalidRequest):
            await operation()

    with process.loop.running():
        under_way = process.loop.create_task(whole())
    if commit > 0:
        process.world.disk.kill_in = commit
    while not process.dead and not under_way.done() and (commit > 0 or step > 0):
        process.run(20_000, steps=1)
        step -= 1
    return under_way.done() and not process.dead


OPERATIONS = [submit, tick, task, cancel, retry, mark, toggle, stop, recovery]
NAMES = [operation.__name__ for operation in OPERATIONS]


@pytest.mark.parametrize("operation", OPERATIONS, ids=NAMES)
def test_killed_at_every_step(operation: Operation) -> None:
    kills = seed = 0
    while kills < KILLS:
        step = 0
        while lived_through(operation, f"step {seed}", step=step):
            kills += 1
            step += 1 + step // 10
        seed += 1


@pytest.mark.parametrize("operation", OPERATIONS, ids=NAMES)
def test_killed_at_every_commit(operation: Operation) -> None:
    kills = seed = 0
    while kills < KILLS:
        commit = 1
        while lived_through(operation, f"commit {seed}", commit=commit):
            kills += 1
            commit += 1
        seed += 1
