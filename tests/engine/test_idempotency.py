"""Submits with the same key create one execution."""

import asyncio
import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goflow import MemoryStore, SqliteStore, Task
from goflow.core.events import Submitted
from goflow.engine.idempotency import Submission, agrees, fingerprint
from goflow.errors import Conflict, GoflowError, InvalidRequest, StoreUnavailable, Unavailable
from goflow.stores.base import Change, Idempotency, Outcome, Submit
from goflow.testing import BEGINNING
from tests.engine.scripted import Scripted, job_of, running, until

pytestmark = pytest.mark.anyio

made = itertools.count()


@dataclass
class Made:
    """A default factory whose value differs each time."""

    n: int = field(default_factory=lambda: next(made))
    name: str = "x"


async def both(*asking: Any) -> list[Submission | BaseException]:
    return await asyncio.gather(*asking, return_exceptions=True)


async def count(engine: Any) -> int:
    return len((await engine.reader.page(None, None, 1000, None)).executions)


async def test_a_default_from_a_factory_does_not_change_a_repeated_submit() -> None:
    async with running(job_of("j", Task("t", Scripted()), params=Made)) as engine:
        first = await engine.submissions.submit("j", key="k")
        again = await engine.submissions.submit("j", {}, key="k")
        assert (again.id, again.created) == (first.id, False)
        with pytest.raises(Conflict, match="with other params"):
            await engine.submissions.submit("j", {"name": "x"}, key="k")


async def test_an_edited_default_or_declaration_does_not_change_a_repeated_submit(
    tmp_path: Path,
) -> None:
    path = tmp_path / "s"
    asked = {"b": [1, {"d": 1, "c": 2}], "a": 1}
    declared: list[Any] = [{"a": 0, "b": [], "z": 1}, {"a": 0, "b": [], "z": 2}, {"q": 1}, None]
    ids = []
    for params in declared:
        job = job_of("j", Task("t", Scripted()), params=params)
        async with running(job, store=SqliteStore(path)) as engine:
            ids.append((await engine.submissions.submit("j", asked, key="k")).id)
            with pytest.raises(Conflict, match="with other params"):
                await engine.submissions.submit("j", {"b": [1, {"c": 2, "d": 1}], "a": 2}, key="k")
            if params == {"q": 1}:
                with pytest.raises(InvalidRequest):
                    await engine.submissions.submit("j", asked, key="another")
    assert len(set(ids)) == 1


@pytest.mark.parametrize(
    "options",
    [{"overlap": "skip"}, {"overlap": "queue", "max_queued": 0}, {"overlap": "replace"}, {}],
    ids=str,
)
@pytest.mark.parametrize("apart", range(4))
async def test_concurrent_submits_get_the_same_answer(options: dict[str, Any], apart: int) -> None:
    async with running(job_of("j", Task("t", Scripted(["hang"])), **options)) as engine:
        asking = []
        for _ in range(5):
            asking.append(asyncio.ensure_future(engine.submissions.submit("j", key="k")))
            for _ in range(apart):
                await asyncio.sleep(0)
        answers = await asyncio.gather(*asking)
        assert len({answer.id for answer in answers}) == 1
        assert [answer.created for answer in answers].count(True) == 1
        assert await count(engine) == 1
        await engine.control.cancel(answers[0].id)


async def test_a_repeated_submit_is_answered_when_the_limit_is_reached() -> None:
    job = job_of("j", Task("t", Scripted(["hang"])))
    async with running(job, max_unfinished=1) as engine:
        asking = [engine.submissions.submit("j", key="k") for _ in range(3)]
        first, *rest = await asyncio.gather(*asking)
        assert {one.id for one in rest} == {first.id}
        with pytest.raises(Unavailable):
            await engine.submissions.submit("j", key="another")
        assert (await engine.submissions.submit("j", key="k")).id == first.id


async def test_a_refusal_applies_to_all_concurrent_submits_with_the_key() -> None:
    job = job_of("j", Task("t", Scripted(["hang"])), overlap="skip")
    async with running(job) as engine:
        id = (await engine.submissions.submit("j")).id
        refused = await both(*(engine.submissions.submit("j", key="k") for _ in range(3)))
        assert all(isinstance(one, Conflict) and one.code == "overlap" for one in refused)
        await engine.control.cancel(id)
        await engine.runners.finished(id)
        assert (await engine.submissions.submit("j", key="k")).created, (
            "a refusal has not used the key"
        )


async def test_concurrent_submits_with_other_params_are_a_conflict() -> None:
    async with running(job_of("j", Task("t", Scripted()))) as engine:
        first, other, again = await both(
            engine.submissions.submit("j", {"n": 1}, key="k"),
            engine.submissions.submit("j", {"n": 2}, key="k"),
            engine.submissions.submit("j", {"n": 1}, key="k"),
        )
        assert isinstance(first, Submission)
        assert isinstance(again, Submission)
        assert again.id == first.id
        assert isinstance(other, Conflict)
        assert other.code == "idempotency-conflict"
        assert await count(engine) == 1


class Refusing(MemoryStore):
    """Refuses the first submit."""

    refused = 0

    def commit(self, batch: Sequence[Change]) -> list[Outcome]:
        if not self.refused and any(isinstance(change, Submit) for change in batch):
            self.refused += 1
            raise StoreUnavailable("the disk is full")
        return super().commit(batch)


async def test_a_refused_submit_does_not_refuse_one_with_other_params() -> None:
    async with running(job_of("j", Task("t", Scripted())), store=Refusing()) as engine:
        first, other, again = await both(
            engine.submissions.submit("j", {"n": 1}, key="k"),
            engine.submissions.submit("j", {"n": 2}, key="k"),
            engine.submissions.submit("j", {"n": 1}, key="k"),
        )
        assert isinstance(first, StoreUnavailable)
        assert isinstance(again, StoreUnavailable)
        assert isinstance(other, Submission)
        assert other.created


async def test_a_client_that_leaves_does_not_affect_the_others() -> None:
    async with running(job_of("j", Task("t", Scripted()))) as engine:
        asking = [asyncio.ensure_future(engine.submissions.submit("j", key="k")) for _ in range(3)]
        await asyncio.sleep(0)
        asking[0].cancel()
        second, third = await asyncio.gather(*asking[1:])
        assert second.id == third.id
        assert await count(engine) == 1


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from([None, 1, 2]), st.integers(0, 6)),
        min_size=2,
        max_size=8,
    )
)
def test_a_key_has_one_answer_for_any_order_of_submits(
    asked: list[tuple[str, int | None, int]],
) -> None:
    """Each submit has a key, params, and a number of steps after the previous one."""

    async def play() -> None:
        job = job_of("j", Task("t", Scripted()), overlap="skip")
        async with running(job) as engine:
            asking: list[tuple[str, str, asyncio.Future[Submission]]] = []
            for key, n, apart in asked:
                for _ in range(apart):
                    await asyncio.sleep(0)
                params = None if n is None else {"n": n}
                task = asyncio.ensure_future(engine.submissions.submit("j", params, key=key))
                asking.append((key, fingerprint(params or {}), task))
            answers: dict[str, set[tuple[str, str]]] = {"a": set(), "b": set()}
            refused: set[str] = set()
            for key, print_, task in asking:
                try:
                    answers[key].add(((await task).id, print_))
                except GoflowError as error:
                    refused.add(error.code)
            assert refused <= {"overlap", "idempotency-conflict"}
            await until(lambda: not engine.runners)
            for key, found in answers.items():
                assert len(found) <= 1, f"{key} has led to {found}"
            ids = {id for found in answers.values() for id, _ in found}
            assert await count(engine) == len(ids)
            assert not engine.submissions.keys.under_way

    asyncio.run(play())


async def test_a_key_stored_by_an_older_version_still_counts() -> None:
    store = MemoryStore()
    job = job_of("j", Task("t", Scripted()), params={"n": 1})
    job.seal()
    old = hashlib.sha256(b'{"n":1}').hexdigest()
    store.open()
    fact = Submitted(BEGINNING, id="old", job="j", plan=job.plan.id, cause="api", params={"n": 1})
    store.commit([Submit(fact, job.plan, idempotency=Idempotency("k", old))])
    async with running(job_of("j", Task("t", Scripted()), params={"n": 1}), store=store) as engine:
        for params in (None, {"n": 1}):
            assert (await engine.submissions.submit("j", params, key="k")).id == "old"
        with pytest.raises(Conflict, match="with other params"):
            await engine.submissions.submit("j", {"n": 2}, key="k")


def test_a_fingerprint_does_not_depend_on_the_order_of_keys() -> None:
    a = fingerprint({"a": {"x": 1, "y": [1, 2]}, "b": None})
    assert a == fingerprint({"b": None, "a": {"y": [1, 2], "x": 1}})
    assert a != fingerprint({"a": {"x": 1, "y": [2, 1]}, "b": None})
    assert fingerprint({}) != fingerprint({"a": None})
    assert agrees(a, a, dict)
    assert not agrees(None, a, dict)
