"""Jobs that run after others: once for each success, whatever crashes, and in the ledger."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from goflow import ConstantDelay, Job, MemoryStore, SqliteStore, Task
from goflow.core.states import State
from goflow.engine.engine import Engine
from goflow.engine.entries import Follow, put_follow
from goflow.engine.feed import CURSOR
from goflow.errors import InvalidJob
from goflow.stores.base import Put, Tick
from goflow.testing import BEGINNING, FakeClock
from tests.engine.copied import Copied
from tests.engine.scripted import Scripted, job_of, running, until

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)


def minutely(name: str, operator: Scripted | None = None, **options: Any) -> Job:
    task = Task("t", operator or Scripted())
    return job_of(name, task, schedule="* * * * *", active=True, **options)


def after(name: str, *others: str, operator: Scripted | None = None, **options: Any) -> Job:
    return job_of(name, Task("t", operator or Scripted()), after=list(others), **options)


async def executions(engine: Engine, job: str) -> list[Any]:
    """The details of a job's executions, oldest first."""
    rows = engine.store.page(job=job, state=None, before=None, limit=1000)
    return [await engine.reader.execution(row.id) for row in reversed(rows)]


def ticks(engine: Engine, job: str) -> list[tuple[str, float, str]]:
    """Outcome, minutes after the beginning and reason of each tick, oldest first."""
    found: list[Tick] = engine.store.ticks(job, None, 1000)
    return [(one.outcome, (one.due - BEGINNING) / MINUTE, one.reason) for one in reversed(found)]


def count(engine: Engine, job: str) -> int:
    return len(engine.store.page(job=job, state=None, before=None, limit=1000))


async def settled(engine: Engine) -> None:
    """Wait until nothing runs, and all successes are handled."""

    def idle() -> bool:
        followers = engine._followers
        handled = followers.handled >= engine.store.version() or not followers._follows
        return not engine.runners and not followers._unwritten and handled

    await until(idle)


async def fire(engine: Engine, clock: FakeClock, job: str, minute: int) -> None:
    due = BEGINNING + minute * MINUTE
    clock.advance(seconds=(due - clock.now()).total_seconds())
    await until(lambda: engine.ledger.states[job].accounted >= due)
    await settled(engine)


async def test_a_job_runs_after_each_success_of_another_for_the_same_due_time() -> None:
    clock = FakeClock()
    jobs = minutely("other"), after("report", "other"), after("mail", "report")
    async with running(*jobs, clock=clock) as engine:
        for minute in (1, 2):
            await fire(engine, clock, "other", minute)
        for job in ("report", "mail"):
            found = await executions(engine, job)
            assert [one.cause for one in found] == ["after", "after"]
            assert [one.scheduled_at for one in found] == [
                BEGINNING + MINUTE,
                BEGINNING + 2 * MINUTE,
            ]
            assert ticks(engine, job) == [("fired", 1, ""), ("fired", 2, "")]


async def test_a_failed_execution_counts_when_its_retry_or_a_mark_lets_it_succeed() -> None:
    clock, operator = FakeClock(), Scripted(["fail", "fail"])
    async with running(
        minutely("other", operator), after("report", "other"), clock=clock
    ) as engine:
        await fire(engine, clock, "other", 1)
        await fire(engine, clock, "other", 2)
        assert count(engine, "report") == 0
        first, second = await executions(engine, "other")
        await engine.control.retry(first.id)
        await settled(engine)
        assert ticks(engine, "report") == [("fired", 1, "")]
        await engine.control.mark(second.id, "t", State.SUCCESSFUL)
        await settled(engine)
        assert ticks(engine, "report") == [("fired", 1, ""), ("fired", 2, "")]
        await engine.control.retry(second.id, task="t")
        await settled(engine)  # a second success of the same due time
        assert count(engine, "report") == 2


async def test_a_submit_by_hand_has_no_due_time_and_each_counts_once() -> None:
    async with running(job_of("other", Task("t", Scripted())), after("report", "other")) as engine:
        ids = [(await engine.submissions.submit("other")).id for _ in range(2)]
        await until(lambda: count(engine, "report") == 2)
        await settled(engine)
        await engine.control.retry(ids[0], task="t")
        await settled(engine)
        found = await executions(engine, "report")
        assert [one.scheduled_at for one in found] == [None, None]
        assert ticks(engine, "report") == []


async def test_a_success_without_a_due_time_that_overlap_refuses_is_in_the_ledger() -> None:
    clock, slow = FakeClock(), Scripted(["hang"])
    report = after("report", "other", operator=slow, overlap="skip")
    async with running(job_of("other", Task("t", Scripted())), report, clock=clock) as engine:
        await engine.submissions.submit("other")
        await until(lambda: slow.runs)
        clock.advance(minutes=1)
        second = (await engine.submissions.submit("other")).id
        await until(lambda: ticks(engine, "report"))
        slow.release.set()
        await settled(engine)
        ((outcome, minutes, reason),) = ticks(engine, "report")
        assert (outcome, minutes, count(engine, "report")) == ("skipped", 1, 1)
        assert reason.startswith(f"it does not run after execution {second} of job 'other': ")
        assert reason.endswith("has not ended")


async def test_a_job_after_several_waits_for_all_of_them_for_the_same_due_time() -> None:
    clock, failing = FakeClock(), Scripted(["ok", "fail"])
    jobs = minutely("a"), minutely("b", failing), after("report", "a", "b")
    async with running(*jobs, clock=clock) as engine:
        for minute in (1, 2, 3):
            await fire(engine, clock, "a", minute)
            await until(lambda: len(failing.runs) == minute)  # noqa: B023
            await settled(engine)
        assert [minute for _, minute, _ in ticks(engine, "report")] == [1, 3]
        await engine.submissions.submit("a")  # without a due time it belongs to none
        await settled(engine)
        assert count(engine, "report") == 2
        failed = (await executions(engine, "b"))[1]
        await engine.control.retry(failed.id)
        await settled(engine)
        assert [minute for _, minute, _ in ticks(engine, "report")] == [1, 2, 3]


async def test_a_backfill_of_the_other_job_runs_those_after_it() -> None:
    clock = FakeClock()
    other = job_of("other", Task("t", Scripted()), schedule="* * * * *")
    async with running(other, after("report", "other"), clock=clock) as engine:
        await engine.backfills.run("other", BEGINNING - 3 * MINUTE, BEGINNING, parallel=3)
        await until(lambda: count(engine, "report") == 3)
        await settled(engine)
        assert [minute for _, minute, _ in ticks(engine, "report")] == [-3, -2, -1]


async def test_a_job_that_is_switched_off_does_not_run_after_another() -> None:
    clock = FakeClock()
    jobs = minutely("other"), after("report", "other"), after("never", "other", active=False)
    async with running(*jobs, clock=clock) as engine:
        await engine.schedules.toggle("report", False)
        await fire(engine, clock, "other", 1)
        await engine.submissions.submit("other")
        await settled(engine)
        await engine.schedules.toggle("report", True)
        await fire(engine, clock, "other", 2)
        off = ("missed", 1, "the job was switched off")
        assert ticks(engine, "report") == [off, ("fired", 2, "")]
        assert count(engine, "report") == 1
        assert count(engine, "never") == 0


async def test_the_overlap_policy_holds_and_its_refusal_is_in_the_ledger() -> None:
    clock, slow = FakeClock(), Scripted(["hang"])
    report = after("report", "other", operator=slow, overlap="skip")
    async with running(minutely("other"), report, clock=clock) as engine:
        clock.advance(minutes=1)
        await until(lambda: slow.runs)
        clock.advance(minutes=1)
        await until(lambda: len(ticks(engine, "report")) == 2)
        slow.release.set()
        await settled(engine)
        (_, first, _), (outcome, second, reason) = ticks(engine, "report")
        assert (first, outcome, second) == (1, "skipped", 2)
        assert reason.endswith("has not ended")


async def test_a_new_follower_does_not_run_for_old_executions(tmp_path: Path) -> None:
    path = str(tmp_path / "goflow.db")
    clock = FakeClock()
    async with running(minutely("other"), store=SqliteStore(path), clock=clock) as engine:
        for minute in (1, 2):
            clock.advance(minutes=1)
            await until(lambda: count(engine, "other") == minute)  # noqa: B023
        await until(lambda: not engine.runners)
    jobs = minutely("other"), after("report", "other")
    async with running(*jobs, store=SqliteStore(path), clock=clock) as engine:
        await fire(engine, clock, "other", 3)
        assert [minute for _, minute, _ in ticks(engine, "report")] == [3]
    async with running(minutely("other"), store=SqliteStore(path), clock=clock) as engine:
        clock.advance(minutes=1)
        await until(lambda: count(engine, "other") == 4)
        await until(lambda: not engine.runners)
        await until(lambda: not engine.store.entries(CURSOR))
    async with running(*jobs_again(), store=SqliteStore(path), clock=clock) as engine:
        await fire(engine, clock, "other", 5)
        assert [minute for _, minute, _ in ticks(engine, "report")] == [3, 5]


def jobs_again() -> tuple[Job, Job]:
    return minutely("other"), after("report", "other")


async def test_jobs_are_added_replaced_and_removed_while_goflow_runs() -> None:
    clock = FakeClock()
    async with running(minutely("other"), minutely("third"), clock=clock) as engine:
        await fire(engine, clock, "other", 1)
        engine.registry.register(after("report", "other"))
        await fire(engine, clock, "other", 2)
        assert [minute for _, minute, _ in ticks(engine, "report")] == [2]
        engine.registry.register(after("report", "other", description="new"), replace=True)
        await fire(engine, clock, "other", 3)
        engine.registry.register(after("report", "other", "third"), replace=True)
        await fire(engine, clock, "other", 4)
        engine.registry.remove("other")  # the job that runs after it stays, and runs no more
        clock.advance(minutes=1)
        await settled(engine)
        engine.registry.remove("report")
        await settled(engine)
        assert [minute for _, minute, _ in ticks(engine, "report")] == [2, 3, 4]
        assert not engine.registry.followers


async def test_a_kill_after_any_commit_leaves_one_execution_for_each_success(
    tmp_path: Path,
) -> None:
    clock, store = FakeClock(), Copied(tmp_path)

    def jobs() -> tuple[Job, Job]:
        task = Task("t", Scripted(), retries=1, retry_delay=ConstantDelay(0))
        other = job_of("other", task, schedule="* * * * *", active=True)
        task = Task("t", Scripted(), retries=1, retry_delay=ConstantDelay(0))
        return other, job_of("report", task, after="other")

    async with running(*jobs(), store=store, clock=clock) as engine:
        await fire(engine, clock, "other", 1)
        by_hand = (await engine.submissions.submit("other", key="once")).id
        await settled(engine)
        assert count(engine, "report") == 2
        submitted = engine.store.submitted_with("report", f"after:{by_hand}")
        assert submitted is not None
    for copy in store.copies:
        async with running(*jobs(), store=SqliteStore(copy), clock=clock) as engine:
            again = (await engine.submissions.submit("other", key="once")).id
            await until(lambda: count(engine, "other") == 2)
            await until(lambda: count(engine, "report") == 2)
            await settled(engine)
            assert ticks(engine, "report") == [("fired", 1, "")]
            assert count(engine, "report") == 2
            assert engine.store.submitted_with("report", f"after:{again}") is not None


async def test_a_success_that_comes_again_runs_nothing(tmp_path: Path) -> None:
    path, clock = str(tmp_path / "goflow.db"), FakeClock()
    async with running(*jobs_again(), store=SqliteStore(path), clock=clock) as engine:
        await fire(engine, clock, "other", 1)
        await engine.submissions.submit("other")
        await settled(engine)
        follow = put_follow("report", Follow(("other",), 0))
        await engine.journal.commit(follow)
    store = SqliteStore(path)
    store.open()
    store.commit([Put(CURSOR, "followers", b"0")])  # as before the place was kept
    store.close()
    async with running(*jobs_again(), store=SqliteStore(path), clock=clock) as engine:
        await settled(engine)
        assert count(engine, "report") == 2


async def test_a_success_that_comes_again_while_its_follower_runs_is_no_refusal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = str(tmp_path / "goflow.db")
    hangs = [Scripted(["hang"]) for _ in range(2)]

    def jobs(operator: Scripted) -> tuple[Job, Job]:
        task = Task("t", operator, retries=1)
        other = job_of("other", Task("t", Scripted()))
        return other, job_of("report", task, after="other", overlap="skip")

    async with running(*jobs(hangs[0]), store=SqliteStore(path)) as engine:
        await engine.submissions.submit("other")
        await until(lambda: hangs[0].runs)
        await until(lambda: engine._followers.handled >= engine.store.version())
    store = SqliteStore(path)
    store.open()
    store.commit([Put(CURSOR, "followers", b"0")])  # as before the place was kept
    store.close()
    async with running(*jobs(hangs[1]), store=SqliteStore(path)) as engine:
        await until(lambda: hangs[1].runs)
        await until(lambda: engine._followers.handled >= engine.store.version())
        assert count(engine, "report") == 1
    assert "does not run after" not in caplog.text


@pytest.mark.parametrize(
    ("jobs", "said"),
    [
        ([("a", ["gone"])], "job 'a' runs after 'gone', and there is no such job"),
        (
            [("a", ["b"]), ("b", ["c"]), ("c", ["a"])],
            "job 'a': jobs run after each other in a circle: 'a' → 'b' → 'c' → 'a'",
        ),
    ],
)
async def test_an_unknown_job_and_a_circle_are_refused_at_the_start(
    jobs: list[tuple[str, list[str]]], said: str
) -> None:
    engine = Engine(MemoryStore(), clock=FakeClock())
    for name, others in jobs:
        engine.registry.register(after(name, *others))
    with pytest.raises(InvalidJob) as refused:
        await engine.start()
    assert str(refused.value) == said


async def test_a_circle_is_refused_while_goflow_runs() -> None:
    async with running(job_of("a", Task("t", Scripted())), after("b", "a")) as engine:
        with pytest.raises(InvalidJob, match="in a circle"):
            engine.registry.register(after("a", "b"), replace=True)
        with pytest.raises(InvalidJob, match="no such job"):
            engine.registry.register(after("c", "gone"))
        assert list(engine.registry.jobs) == ["a", "b"]
        assert not engine.registry.jobs["a"].after


async def test_without_followers_nothing_reads_the_feed() -> None:
    async with running(job_of("a", Task("t", Scripted()))) as engine:
        await engine.submissions.submit("a")
        await until(lambda: not engine.runners)
        assert engine._followers._subscription is None
        assert not engine.store.entries(CURSOR)
