"""Exceptions of users' values and classes fail one definition, one due time, one request or one
attempt, and nothing else."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import repeat
from typing import Annotated, Any

import httpx2
import msgspec
import pytest

from goflow import (
    Command,
    ConstantDelay,
    ExponentialBackoff,
    Get,
    Goflow,
    InvalidJob,
    Job,
    MemoryStore,
    Post,
    Task,
)
from goflow.errors import InvalidRequest
from goflow.shown import reason, shown
from goflow.testing import BEGINNING, FakeClock
from tests.engine.scripted import Scripted, job_of, running, states, until

ERRORS: list[BaseException] = [
    ValueError("boom"),
    SystemExit("boom"),
    GeneratorExit("boom"),
    RecursionError("boom"),
    StopIteration("boom"),
    asyncio.CancelledError("boom"),
    BaseExceptionGroup("boom", [SystemExit(1), ValueError()]),
]
all_errors = pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)


class Bad:
    """Raises in every method."""

    def __init__(self, error: BaseException) -> None:
        object.__setattr__(self, "error", error)

    def _raise(self, *args: object) -> Any:
        raise object.__getattribute__(self, "error")

    __repr__ = __str__ = __bool__ = __len__ = __iter__ = __hash__ = _raise
    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = __format__ = __float__ = __int__ = __index__ = (
        _raise
    )
    __getitem__ = __contains__ = __call__ = __getattr__ = _raise


class BadMapping(Mapping[str, Any]):
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __getitem__(self, key: str) -> Any:
        raise self.error

    def __iter__(self) -> Iterator[str]:
        raise self.error

    def __len__(self) -> int:
        raise self.error


def items(error: BaseException, *first: Any) -> Iterator[Any]:
    yield from first
    raise error


def task() -> Task:
    return Task("t", Scripted())


class BadText(str):
    """A text whose own methods raise."""

    def __len__(self) -> int:
        raise ValueError("boom")

    __repr__ = __str__ = __hash__ = __len__  # type: ignore[assignment]


@all_errors
def test_a_definition_with_a_value_that_raises_is_an_invalid_job(error: BaseException) -> None:
    bad: Any = Bad(error)
    attempts = [
        lambda option=option: Job("j", **{option: bad})
        for option in (
            "schedule", "active", "timezone", "tasks", "params", "description", "tags", "overlap",
            "max_queued", "catchup", "catchup_window", "catchup_limit", "timeout", "max_running",
        )
    ] + [
        lambda: Job(bad),
        lambda: Task(bad, Scripted()),
        lambda: Task("t", bad),
        lambda: Job("j", tags=items(error, "a")),
        lambda: Job("j", tasks=items(error, task())),
        lambda: Job("j", params=BadMapping(error)),
        lambda: Job("j", params={"a": bad}),
        lambda: Job("j").add(bad),
        lambda: Job("j").set_downstream(bad, bad),
        lambda: Job("j").task(bad),
        lambda: Command(bad),
        lambda: Command("true", bad),
        lambda: Command("true", [bad]),
        lambda: Command("true", env=BadMapping(error)),
        lambda: Command("true", cwd=bad),
        lambda: Command("true", timeout=bad),
        lambda: Get(bad),
        lambda: Get("http://localhost", headers=BadMapping(error)),
        lambda: Get("http://localhost", max_body=bad),
        lambda: Post("http://localhost", bad),
        lambda: Post("http://localhost", json=bad),
        lambda: ConstantDelay(bad),
        lambda: ExponentialBackoff(jitter=bad),
        *(
            lambda option=option: Task("t", Scripted(), **{option: bad})
            for option in (
                "retries", "retry_delay", "trigger_rule", "after", "timeout", "pool", "priority",
                "isolation",
            )
        ),
    ]  # fmt: skip
    for number, define in enumerate(attempts):
        with pytest.raises(InvalidJob) as raised:
            define()
        assert str(raised.value), f"definition {number}"


@all_errors
def test_an_operator_whose_run_attribute_raises_is_refused(error: BaseException) -> None:
    class Shy:
        @property
        def run(self) -> Any:
            raise error

    with pytest.raises(InvalidJob, match=r"task 't'.*boom"):
        Task("t", Shy())


@all_errors
def test_a_function_that_returns_no_job_is_an_invalid_job(error: BaseException) -> None:
    def my_job() -> Job:
        raise error

    gf = Goflow(MemoryStore(), ui_path=None)
    with pytest.raises(InvalidJob, match=r"my_job.*boom"):
        gf.add_job(my_job)
    with pytest.raises(InvalidJob):
        gf.add_job(lambda: Bad(error))  # type: ignore[arg-type, return-value]
    assert gf.jobs == []


def test_endless_or_deceptive_definitions_are_refused() -> None:
    class Liar:
        @property
        def __class__(self) -> Any:
            raise ValueError("boom")

        def run(self) -> None:
            return None

    def looped() -> Job:
        return job_of("looped", task())

    looped.__wrapped__ = looped  # type: ignore[attr-defined]
    gf = Goflow(MemoryStore(), ui_path=None)
    liar: Any = Liar()
    for define in (
        lambda: Job("j", tags=repeat("a")),
        lambda: Task("t", Scripted(), after=repeat("a")),
        lambda: Task("t", liar),
        lambda: gf.add_job(liar),
        lambda: gf.add_job(looped),
    ):
        with pytest.raises(InvalidJob):
            define()
    assert gf.jobs == []


def test_a_task_has_a_repr_even_if_that_of_its_operator_raises() -> None:
    class Mute:
        def run(self) -> None:
            return None

        def __repr__(self) -> str:
            raise ValueError("boom")

    assert repr(Task("t", Mute())) == "Task('t', <Mute, whose repr raises ValueError>)"


def test_unknown_arguments_raise_a_type_error() -> None:
    with pytest.raises(TypeError, match="nonsense"):
        Job("j", nonsense=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="operator"):
        Task("t")  # type: ignore[call-arg]


def test_control_c_during_a_definition_is_not_swallowed() -> None:
    with pytest.raises(KeyboardInterrupt):
        Job("j", tasks=items(KeyboardInterrupt()))


def test_values_of_str_and_int_subclasses_are_kept_by_their_value() -> None:
    class Text(str):
        pass

    class Number(int):
        pass

    job = Job(Text("j"), description=Text("d"), tags=[Text("a")], timeout=Number(3))
    job.add(Task(Text("t"), Scripted(), retries=Number(2), priority=Number(1), pool=Text("p")))
    found = [job.name, job.description, *job.tags, job.tasks[0].name, job.tasks[0].pool]
    assert {type(text) for text in found} == {str}
    assert type(job.tasks[0].retries) is int
    msgspec.json.encode([*found, job.timeout, job.tasks[0].retries, job.tasks[0].priority])
    assert Job(BadText("bad")).name == "bad"


@all_errors
def test_a_value_and_an_error_can_always_be_shown(error: BaseException) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise error

    assert type(error).__name__ in shown(Bad(error))
    assert type(error).__name__ in reason(Mute())
    assert len(shown("x" * 10**6)) < 1000
    shown("\ud800").encode()


# -- params from factories --------------------------------------------------------------


class Moody:
    """A factory of params that works at first, then misbehaves as the test decides."""

    value: Any = 1
    error: BaseException | None = None

    def __call__(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.value


def params_of(kind: str, moody: Moody) -> type:
    if kind == "factory":

        @dataclass
        class Factory:
            n: int = field(default_factory=moody)

        return Factory
    if kind == "struct":
        return msgspec.defstruct(
            "Made",
            [("n", Annotated[int, msgspec.Meta(ge=1)], msgspec.field(default_factory=moody))],
        )

    @dataclass
    class Checked:
        n: int = 1

        def __post_init__(self) -> None:
            self.n = moody()

    return Checked


kinds = pytest.mark.parametrize("kind", ["factory", "struct", "post_init"])


def minutely(name: str, **options: Any) -> Job:
    return job_of(name, Task("t", Scripted()), schedule="* * * * *", active=True, **options)


@kinds
@all_errors
@pytest.mark.anyio
async def test_params_that_raise_skip_only_their_own_due_times(
    kind: str, error: BaseException
) -> None:
    moody, clock = Moody(), FakeClock()
    jobs = minutely("bad", params=params_of(kind, moody)), minutely("good")
    async with running(*jobs, clock=clock) as engine:
        for minute in range(1, 4):
            moody.error = error if minute == 2 else None
            clock.advance(minutes=1)
            later = BEGINNING + timedelta(minutes=minute + 1)
            await until(
                lambda later=later: (
                    [engine.schedules.due("bad"), engine.schedules.due("good")] == [later] * 2
                )
            )
        await until(lambda: not engine.runners)
        ticks = {name: await engine.reader.ticks(name, None, 9) for name in ("bad", "good")}
        assert [tick.outcome for tick in ticks["good"]] == ["fired"] * 3
        assert [tick.outcome for tick in ticks["bad"]] == ["fired", "skipped", "fired"]
        assert "boom" in ticks["bad"][1].reason
        assert engine.health.defect is None
        assert sum("'bad'" in notice.text for notice in engine.health.notices()) == 1


@kinds
@pytest.mark.parametrize(
    "value", ["text", None, 1.5, object(), [1]], ids=lambda value: type(value).__name__
)
@pytest.mark.anyio
async def test_invalid_params_are_refused_at_ticks_and_in_requests(kind: str, value: Any) -> None:
    moody, clock = Moody(), FakeClock()
    async with running(minutely("bad", params=params_of(kind, moody)), clock=clock) as engine:
        moody.value = value
        clock.advance(minutes=1)
        await until(lambda: engine.schedules.due("bad") == BEGINNING + timedelta(minutes=2))
        (tick,) = await engine.reader.ticks("bad", None, 9)
        assert tick.outcome == "skipped"
        assert "'n'" in tick.reason or "object" in tick.reason
        with pytest.raises(InvalidRequest):
            await engine.submissions.submit("bad")


@kinds
@all_errors
@pytest.mark.anyio
async def test_params_that_raise_refuse_the_request_but_the_job_is_readable(
    kind: str, error: BaseException
) -> None:
    moody = Moody()
    gf = Goflow(MemoryStore(), ui_path=None)
    gf.add_job(job_of("bad", Task("t", Scripted()), params=params_of(kind, moody)))
    transport = httpx2.ASGITransport(app=gf)
    async with (
        gf.lifespan(),
        httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        moody.error = error
        submitted = await client.post("/api/jobs/bad/submit")
        assert submitted.status_code == 422, submitted.text
        assert "boom" in submitted.json()["error"]["message"]
        for path in ("jobs/bad", "overview", "now", "jobs"):
            answer = await client.get(f"/api/{path}")
            assert answer.status_code == 200, answer.text
        moody.error = None
        assert (await client.post("/api/jobs/bad/submit")).status_code == 200


@kinds
@all_errors
def test_params_that_always_raise_are_an_invalid_job(kind: str, error: BaseException) -> None:
    moody = Moody()
    moody.error = error
    with pytest.raises(InvalidJob, match=r"job 'j'.*boom"):
        Job("j", params=params_of(kind, moody))


@all_errors
@pytest.mark.anyio
async def test_params_in_a_mapping_that_raises_are_refused(error: BaseException) -> None:
    async with running(job_of("j", Task("t", Scripted()))) as engine:
        for given in (BadMapping(error), {"a": Bad(error)}):
            with pytest.raises(InvalidRequest):
                await engine.submissions.submit("j", given)


# -- attempts ---------------------------------------------------------------------------


@pytest.mark.parametrize("error", [*ERRORS, KeyboardInterrupt("boom")], ids=repr)
@pytest.mark.anyio
async def test_a_retry_delay_that_raises_fails_only_its_task(error: BaseException) -> None:
    class Delay:
        def __init__(self, late: bool) -> None:
            self.late = late

        def delay(self, attempt: int) -> Any:
            if self.late:
                return Bad(error)
            raise error

    tasks = [
        Task(f"t{late}", Scripted(["fail"]), retries=1, retry_delay=Delay(late))
        for late in (False, True)
    ]
    async with running(job_of("j", *tasks, Task("good", Scripted()))) as engine:
        id = (await engine.submissions.submit("j")).id
        await engine.runners.finished(id)
        found = await states(engine, id)
        assert found == {"tFalse": "failed", "tTrue": "failed", "good": "successful", "": "failed"}
        for one in (await engine.reader.execution(id)).tasks[:2]:
            assert "returned no delay" in str(one.error)
        assert engine.health.defect is None


@pytest.mark.parametrize("sync", [True, False])
@pytest.mark.parametrize("error", [*ERRORS, KeyboardInterrupt("boom")], ids=repr)
@pytest.mark.anyio
async def test_anything_an_operator_raises_or_returns_fails_at_most_its_attempt(
    error: BaseException, sync: bool
) -> None:
    class Loud(Exception):
        def __str__(self) -> str:
            raise error

        @property
        def __notes__(self) -> Any:  # type: ignore[override]
            raise error

    looped = ValueError("looped")
    looped.__cause__ = KeyError("inner")
    looped.__cause__.__cause__ = looped

    async def ended(work: Any) -> dict[str, str]:
        class Sync:
            def run(self) -> Any:
                return work()

        class Async:
            async def run(self) -> Any:
                return work()

        async with running(job_of("j", Task("t", Sync() if sync else Async()))) as engine:
            id = (await engine.submissions.submit("j")).id
            async with asyncio.timeout(60):
                await engine.runners.finished(id)
            assert engine.health.defect is None
            return await states(engine, id)

    def raising(what: BaseException) -> Any:
        raise what

    for work in (
        lambda: raising(error),
        lambda: raising(Loud()),
        lambda: raising(looped),
        lambda: Bad(error),
    ):
        assert await ended(work) == {"t": "failed", "": "failed"}
