"""Nothing that a task starts on the event loop can end the loop."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable

import pytest

from goflow import Job, Task
from goflow.engine.process import loops
from tests.engine.scripted import Scripted, job_of, running, states, until

EXITS = [SystemExit(3), KeyboardInterrupt("boom")]
exits = pytest.mark.parametrize("error", EXITS, ids=lambda error: type(error).__name__)


async def leave(error: BaseException) -> None:
    await asyncio.sleep(0)
    raise error


async def by_gather(error: BaseException) -> None:
    await asyncio.gather(asyncio.sleep(0), leave(error))


async def by_group(error: BaseException) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(leave(error))


async def by_wait_for(error: BaseException) -> None:
    await asyncio.wait_for(leave(error), 60)


async def by_task_of_a_task(error: BaseException) -> None:
    async def inner() -> None:
        await asyncio.create_task(leave(error))

    await asyncio.create_task(inner())


async def when_cancelled(error: BaseException) -> None:
    async def stubborn() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise error from None

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    task.cancel()
    await task


@exits
@pytest.mark.parametrize(
    "way", [leave, by_gather, by_group, by_wait_for, by_task_of_a_task, when_cancelled]
)
@pytest.mark.anyio
async def test_an_exit_in_an_awaited_task_fails_only_its_attempt(
    way: Callable[[BaseException], Awaitable[None]], error: BaseException
) -> None:
    class Leaves:
        async def run(self) -> None:
            await way(error)

    async with running(
        job_of("bad", Task("t", Leaves())), job_of("good", Task("t", Scripted()))
    ) as engine:
        bad, good = [(await engine.submissions.submit(name)).id for name in ("bad", "good")]
        for id in (bad, good):
            await engine.runners.finished(id)
        assert (await states(engine, bad))["t"] == "failed"
        assert (await states(engine, good))["t"] == "successful"
        (task,) = (await engine.reader.execution(bad)).tasks
        assert type(error).__name__ in str(task.error)
        assert engine.health.defect is None


@pytest.mark.anyio
async def test_a_task_cancelled_before_it_begins_logs_no_warning() -> None:
    class Cancels:
        async def run(self) -> str:
            task = asyncio.create_task(leave(SystemExit(3)))
            task.cancel()
            await asyncio.wait([task])
            return repr(task)

    async with running(job_of("j", Task("t", Cancels()))) as engine:
        id = (await engine.submissions.submit("j")).id
        await engine.runners.finished(id)
        (task,) = (await engine.reader.execution(id)).tasks
        assert b"leave" in bytes(task.result)


@pytest.mark.anyio
async def test_tasks_outside_attempts_are_not_wrapped_and_none_are_after_a_stop() -> None:
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()
    async with running(job_of("j", Task("t", Scripted()))):
        coroutine = asyncio.sleep(0)
        task = asyncio.create_task(coroutine)
        assert task.get_coro() is coroutine
        await task
    assert loop.get_task_factory() is before


def test_a_loop_survives_the_callbacks_of_tasks() -> None:
    told: list[str] = []

    async def main() -> str:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(repr(context["exception"])))
        loop.call_soon(sys.exit, 1)
        loop.call_later(0.001, sys.exit, 2)
        task = asyncio.create_task(asyncio.sleep(0))
        task.add_done_callback(lambda _: sys.exit(3))
        await until(lambda: len(told) == 3)
        return "done"

    assert loops.run(main()) == "done"
    assert sorted(told) == ["SystemExit(1)", "SystemExit(2)", "SystemExit(3)"]


def test_exceptions_of_the_main_coroutine_are_raised() -> None:
    async def main(error: BaseException) -> None:
        raise error

    for error in (SystemExit(4), ValueError("no"), asyncio.CancelledError()):
        with pytest.raises(type(error)):
            loops.run(main(error))


SERVED = """\
import asyncio, json, os, sys, urllib.request
from goflow import Goflow, Job, MemoryStore, Task

class Leaves:
    async def run(self):
        loop = asyncio.get_running_loop()
        loop.call_soon(sys.exit, 1)
        asyncio.ensure_future(asyncio.sleep(0)).add_done_callback(lambda _: sys.exit(2))
        def interrupt():
            raise KeyboardInterrupt
        loop.call_soon(interrupt)
        await asyncio.sleep(0.05)

class Looks:
    def run(self, context):
        with urllib.request.urlopen(f"http://127.0.0.1:{port()}/api/health") as answer:
            os.write(1, answer.read() + b"\\n")
        import signal
        os.kill(os.getpid(), signal.SIGTERM)

def port():
    return served[0].getsockname()[1]

import goflow.web.server
listen = goflow.web.server.listen
served = []
def listening(*where):
    served.append(listen(*where))
    return served[-1]
goflow.web.server.listen = listening

gf = Goflow(MemoryStore(), ui_path=None, with_seconds=True)
job = gf.add_job(Job("j", "* * * * * *", True, overlap="skip",
                     tasks=[Task("leave", Leaves()), Task("look", Looks(), after=["leave"])]))
gf.serve("127.0.0.1:0")
print("stopped in order", flush=True)
"""


def test_a_server_survives_the_callbacks_of_tasks_and_stops_cleanly() -> None:
    child = subprocess.run(
        [sys.executable, "-c", SERVED], capture_output=True, text=True, timeout=120, check=False
    )
    assert child.returncode == 0, child.stderr
    health, stopped = child.stdout.splitlines()[0], child.stdout.splitlines()[-1]
    assert json.loads(health)["health"] == "OK"
    assert stopped == "stopped in order"


def test_a_task_that_cancels_all_tasks_or_stops_the_loop_affects_only_its_own() -> None:
    job = Job("j")

    @job.task
    async def cancels() -> bool:
        own = asyncio.ensure_future(asyncio.sleep(3600))
        await asyncio.sleep(0)
        for task in asyncio.all_tasks():
            task.cancel()
        await asyncio.sleep(0)
        return own.cancelled()

    @job.task
    async def stops(cancels: bool) -> bool:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        return cancels

    @job.task
    def has_a_loop_of_its_own(stops: bool) -> int:
        async def count() -> int:
            own = asyncio.ensure_future(asyncio.sleep(3600))
            return len(asyncio.all_tasks() - {own})

        return asyncio.run(count())

    done = job.run()
    assert {name: task.result for name, task in done.tasks.items()} == {
        "cancels": True,
        "stops": True,
        "has_a_loop_of_its_own": 1,
    }
