"""Large results are stored apart from facts, loaded on demand, and bounded in total."""

import asyncio
from typing import Any

import msgspec
import pytest

from goflow import Context, Job, Task
from goflow.core.detail import ASKED_SHOWN, ERRORS_SHOWN, RESULTS_SHOWN
from goflow.core.events import AttemptFailed, TaskFailed, TaskSucceeded
from goflow.core.execution import ERRORS_KEPT
from goflow.core.result import SMALL
from goflow.engine.attempts.dependencies import Limits
from goflow.engine.attempts.results import FRESH
from goflow.engine.attempts.under_way import LOAD
from goflow.engine.journal import BATCH_BYTES
from goflow.engine.reader import PAGE_BYTES
from goflow.errors import NotFound, ResultLost
from goflow.stores.base import Change, KeepResult, Outcome
from goflow.stores.memory import MemoryStore
from tests.engine.scripted import Scripted, job_of, running, states, until

pytestmark = pytest.mark.anyio

LARGE = "x" * 100_000
ODD = {"q": 'a"\n', "s": ["ж", None, True, 1.5, -(2**53)], "pad": "y" * SMALL}


class Watched(MemoryStore):
    """Remembers the committed batches."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[Change]] = []

    def commit(self, batch: Any) -> list[Outcome]:
        self.batches.append(list(batch))
        return super().commit(batch)


def many(count: int, result: Any = LARGE) -> Job:
    return job_of("many", *(Task(f"t{n}", Scripted(result=result)) for n in range(count)))


async def done(engine: Any, job: str, **options: Any) -> Any:
    id = (await engine.submissions.submit(job, **options)).id
    await engine.runners.finished(id)
    return await engine.reader.execution(id)


@pytest.mark.parametrize("result", [LARGE, ODD, list(range(3000)), "ж" * SMALL])
async def test_a_large_result_reaches_downstream_tasks_unchanged(result: Any) -> None:
    seen: dict[str, Any] = {}

    class See:
        def run(self, context: Context) -> None:
            seen.update(context.results)

    job = job_of("j", Task("big", Scripted(result=result)), Task("see", See(), after=["big"]))
    async with running(job) as engine:
        detail = await done(engine, "j")
        assert detail.state == "successful"
        assert seen == {"big": result}
        assert bytes(detail.tasks[0].result) == b"null"
        kept = await engine.reader.result(detail.id, "big")
        assert msgspec.json.decode(kept.body) == result
        assert detail.tasks[0].result_bytes == len(kept.body)
        facts = engine.store.history(detail.id).facts
        [fact] = [f for f in facts if isinstance(f, TaskSucceeded) and f.task == "big"]
        assert (fact.size, fact.sha256) == (len(kept.body), kept.sha256)


@pytest.mark.parametrize(
    ("length", "shown"), [(SMALL - 2, True), (SMALL - 1, False)], ids=["at", "above"]
)
async def test_results_of_up_to_4_kib_are_in_the_fact_and_the_detail(
    length: int, shown: bool
) -> None:
    store = Watched()
    async with running(many(1, "x" * length), store=store) as engine:
        detail = await done(engine, "many")
        assert (bytes(detail.tasks[0].result) != b"null") is shown
        assert detail.tasks[0].result_bytes == length + 2
        kept = [c for batch in store.batches for c in batch if isinstance(c, KeepResult)]
        assert bool(kept) is not shown


async def test_small_results_of_many_tasks_are_bounded_in_total_in_the_detail() -> None:
    count = RESULTS_SHOWN // SMALL + 100
    async with running(many(count, "x" * (SMALL - 2))) as engine:
        detail = await done(engine, "many")
        assert len(msgspec.json.encode(detail)) < RESULTS_SHOWN + count * 1000
        assert all(task.result_bytes == SMALL for task in detail.tasks)
        kept = await engine.reader.result(detail.id, detail.tasks[-1].name)
        assert len(kept.body) == SMALL


async def test_errors_of_many_attempts_are_bounded_in_total_in_the_detail() -> None:
    class Fail:
        def run(self) -> None:
            raise ValueError("why " * 10_000)

    tasks = [Task(f"t{n}", Fail(), retries=10) for n in range(60)]
    async with running(job_of("j", *tasks)) as engine:
        detail = await done(engine, "j")
        assert len(msgspec.json.encode(detail)) < ERRORS_SHOWN + 60 * 12 * 1000
        assert all(task.error and "ValueError: why" in task.error for task in detail.tasks)
        assert all(one.error for task in detail.tasks for one in task.attempts)
        assert "the rest is in the log" in detail.tasks[-1].attempts[0].error


async def test_errors_of_many_attempts_are_bounded_in_total_in_the_facts() -> None:
    """A replay of an execution reads them all."""

    class Fail:
        def run(self) -> None:
            raise ValueError("why " * 10_000)

    tasks = [Task(f"t{n}", Fail(), retries=19) for n in range(70)]
    async with running(job_of("j", *tasks)) as engine:
        detail = await done(engine, "j")
        facts = engine.store.history(detail.id).facts
    errors = [fact.error for fact in facts if isinstance(fact, AttemptFailed | TaskFailed)]
    assert len(errors) == 70 * 20
    assert sum(map(len, errors)) < ERRORS_KEPT + 140 * 17_000 + 1400 * 1000
    assert all(error.startswith("ValueError: why") for error in errors)
    assert sum(map(len, errors[-100:])) < 100 * 1000


async def test_params_of_many_retries_are_bounded_in_total_in_the_detail() -> None:
    job = job_of("j", Task("t", Scripted(["fail"] * 20)), params={"text": ""})
    async with running(job) as engine:
        detail = await done(engine, "j", params={"text": "x" * 200_000})
        for _ in range(15):
            await engine.control.retry(detail.id, params={"text": "y" * 200_000})
            await engine.runners.finished(detail.id)
        detail = await engine.reader.execution(detail.id)
        assert detail.params == {"text": "y" * 200_000}
        assert [one.params is not None for one in detail.actions] == [True] * 5 + [False] * 11
        assert len(msgspec.json.encode(detail)) < ASKED_SHOWN + 300_000


async def test_results_beyond_the_limit_of_an_execution_fail_with_the_reason() -> None:
    async with running(many(6), limits=Limits(results=350_000)) as engine:
        detail = await done(engine, "many")
        assert [task.state.value for task in detail.tasks].count("successful") == 3
        errors = [task.error for task in detail.tasks if task.error]
        assert len(errors) == 3
        assert all("max_results" in error and "350,000" in error for error in errors)
        failed = next(task.name for task in detail.tasks if task.error)
        log = await engine.reader.log_of(detail.id, failed, 1)
        assert "max_results" in "".join([text async for text in log.texts])
        # A retry frees the size of the previous results.
        await engine.control.retry(detail.id, task="t0", following=False)
        await engine.runners.finished(detail.id)
        assert (await engine.reader.execution(detail.id)).tasks[0].state == "successful"


async def test_the_limit_counts_small_results_too() -> None:
    async with running(many(20, "x" * 1000), limits=Limits(results=10_000)) as engine:
        detail = await done(engine, "many")
        assert [task.state.value for task in detail.tasks].count("successful") == 9


async def test_a_batch_accepts_no_further_change_beyond_8_mib() -> None:
    store = Watched()
    result = "x" * (1024 * 1024 - 2)
    async with running(many(40, result), store=store) as engine:
        assert (await done(engine, "many")).state == "successful"
    sizes = [
        sum(len(change.body) for change in batch if isinstance(change, KeepResult))
        for batch in store.batches
    ]
    assert sum(sizes) == 40 * 1024 * 1024
    assert max(sizes) < BATCH_BYTES + 1024 * 1024


async def test_a_result_is_stored_once_in_the_transaction_of_its_fact() -> None:
    store = Watched()
    items = Task("items", Scripted(result=LARGE), after=["list"], map_over="list")
    tasks = [Task(f"t{n}", Scripted(result=LARGE)) for n in range(5)]
    tasks += [Task("list", Scripted(result=[1, 2])), items]
    async with running(job_of("many", *tasks), store=store) as engine:
        await done(engine, "many")
    count = 0
    for batch in store.batches:
        kept: set[tuple[str, int | None]] = set()
        for change in batch:
            if isinstance(change, KeepResult):
                kept.add((change.task, change.item))
                count += 1
            for fact in getattr(change, "facts", ()):
                if isinstance(fact, TaskSucceeded) and fact.size:
                    kept.remove((fact.task, fact.item))
        assert not kept, "a result without its fact"
    assert count == 5 + 2 + 1  # of tasks, of items, and the list of these


async def test_results_that_end_at_once_share_transactions_of_a_bounded_size() -> None:
    store = Watched()
    async with running(many(40, LARGE), store=store) as engine:
        assert (await done(engine, "many")).state == "successful"
    sizes = [
        sum(len(change.body) for change in batch if isinstance(change, KeepResult))
        for batch in store.batches
    ]
    assert sum(sizes) == 40 * (len(LARGE) + 2)
    assert max(sizes) < LOAD + 2 * len(LARGE)


async def test_each_attempt_keeps_its_own_result() -> None:
    operator = Scripted(result=LARGE)
    async with running(job_of("j", Task("t", operator))) as engine:
        id = (await done(engine, "j")).id
        operator.result = LARGE + "2"
        await engine.control.retry(id, task="t")
        await engine.runners.finished(id)
        assert len((await engine.reader.result(id, "t", 1)).body) == 100_002
        assert len((await engine.reader.result(id, "t", 2)).body) == 100_003
        assert (await engine.reader.result(id, "t")).attempt == 2


async def test_a_task_without_a_result_has_none_in_the_detail() -> None:
    job = job_of("j", Task("t", Scripted(["fail"])), Task("after", Scripted(), after=["t"]))
    async with running(job) as engine:
        id = (await done(engine, "j")).id
        for task in ("t", "after", "nobody"):
            with pytest.raises(NotFound, match=task):
                await engine.reader.result(id, task)


class Counting(MemoryStore):
    """Counts the results that are read."""

    reads = 0

    def result(self, *place: Any) -> bytes | None:
        self.reads += 1
        return super().result(*place)


async def test_a_result_that_was_just_kept_is_not_read_back() -> None:
    tasks = [Task(f"t{n}", Scripted(result=LARGE), after=[f"t{n - 1}"][:n]) for n in range(5)]
    store = Counting()
    async with running(job_of("j", *tasks), store=store) as engine:
        assert (await done(engine, "j")).state == "successful"
    assert store.reads == 0


async def test_results_in_memory_are_bounded() -> None:
    large = "x" * (FRESH // 3)
    tasks = [Task(f"t{n}", Scripted(result=large)) for n in range(5)]
    last = Task("last", Scripted(), after=[task.name for task in tasks])
    store = Counting()
    async with running(
        job_of("j", *tasks, last), store=store, limits=Limits(result=FRESH, results=10 * FRESH)
    ) as engine:
        assert (await done(engine, "j")).state == "successful"
    assert store.reads == 3


async def test_a_lost_result_fails_the_task_that_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goflow.engine.attempts.results.FRESH", 0)

    class Forgetful(MemoryStore):
        def result(
            self, execution: str, task: str, attempt: int, item: int | None = None
        ) -> bytes | None:
            return b'"other"'

    job = job_of("j", Task("a", Scripted(result=LARGE)), Task("b", Scripted(), after=["a"]))
    async with running(job, store=Forgetful()) as engine:
        detail = await done(engine, "j")
        assert (await states(engine, detail.id))["b"] == "failed"
        assert "the result of task 'a', attempt 1, is damaged" in detail.tasks[1].error
        with pytest.raises(ResultLost):
            await engine.reader.result(detail.id, "a")


async def test_a_cancel_while_a_result_is_stored_comes_too_late() -> None:
    class Slow(MemoryStore):
        def commit(self, batch: Any) -> list[Outcome]:
            if any(isinstance(change, KeepResult) for change in batch):
                loop.call_soon_threadsafe(storing.set)
                asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(60)
            return super().commit(batch)

    loop, storing, go_on = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    async with running(many(1), store=Slow()) as engine:
        id = (await engine.submissions.submit("many")).id
        await storing.wait()
        cancelling = asyncio.ensure_future(engine.control.cancel(id))
        await asyncio.sleep(0)
        go_on.set()
        assert not await cancelling
        await engine.runners.finished(id)
        assert await states(engine, id) == {"t0": "successful", "": "successful"}
        assert len((await engine.reader.result(id, "t0")).body) == len(LARGE) + 2


async def test_a_page_of_large_executions_is_shortened_and_continues() -> None:
    tasks = [Task(f"{n:0>200}", Scripted()) for n in range(490)]
    async with running(job_of("wide", *tasks)) as engine:
        ids = [(await done(engine, "wide")).id for _ in range(4)]
        store_page = engine.store.page(job=None, state=None, before=None, limit=4)
        each = len(store_page[0].summary or b"")
        assert await _walk(engine, PAGE_BYTES) == [ids[::-1]]
        assert await _walk(engine, each * 5 // 2) == [ids[:1:-1], ids[1::-1]]
        assert await _walk(engine, 1) == [[id] for id in ids[::-1]]


async def _walk(engine: Any, limit: int) -> list[list[str]]:
    pages = []
    cursor = None
    while True:
        page = await engine.reader.page(None, None, 1000, cursor, limit)
        pages.append([msgspec.json.decode(one)["id"] for one in page.executions])
        cursor = page.next
        if cursor is None:
            return pages


async def test_results_are_loaded_after_a_restart(tmp_path: Any) -> None:
    from goflow.stores.sqlite import SqliteStore

    seen: list[Any] = []

    class See:
        def run(self, context: Context) -> None:
            seen.append(context.results)

    def job() -> Job:
        gate = Scripted(["hang"])
        gates.append(gate)
        return job_of(
            "j",
            Task("big", Scripted(result=LARGE)),
            Task("gate", gate, after=["big"], retries=1),
            Task("see", See(), after=["big", "gate"]),
        )

    gates: list[Scripted] = []
    path = tmp_path / "goflow.db"
    async with running(job(), store=SqliteStore(path)) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: gates[0].runs)
    gates_before = len(gates)
    later = job()
    gates[gates_before].script.clear()
    async with running(later, store=SqliteStore(path)) as engine:
        await engine.runners.finished(id)
        assert (await engine.reader.execution(id)).state == "successful"
    assert seen == [{"big": LARGE, "gate": None}]
