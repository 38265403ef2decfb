"""Mapped tasks: a task runs once for each item of a list that comes to be at run time."""

import asyncio
import gc
from pathlib import Path
from typing import Any

import msgspec
import pytest

import goflow
from goflow import Context, Job, SqliteStore, Task, Template, zipped
from goflow.core.keys import Item, NamedItem
from goflow.core.result import SMALL
from goflow.core.states import State
from goflow.engine.attempts import mapped
from goflow.engine.attempts.dependencies import Limits
from goflow.engine.executors.process import CONTEXT
from goflow.engine.item_pages import ItemPages
from goflow.errors import Conflict, InvalidJob, NotFound
from goflow.operators import process_tag
from goflow.testing import BEGINNING
from tests.engine.scripted import Scripted, job_of, running, until

pytestmark = pytest.mark.anyio


class Seen:
    """Notes the items it runs for, fails for those in `bad`, and hangs for those in `hang`."""

    def __init__(self, bad: tuple[Any, ...] = (), hang: tuple[Any, ...] = ()) -> None:
        self.bad, self.hang = set(bad), set(hang)
        self.seen: list[tuple[int | None, Any]] = []
        self.now = self.most = 0
        self.release = asyncio.Event()

    async def run(self, context: Context) -> Any:
        self.seen.append((context.index, context.item))
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(0)
            if context.index in self.hang:
                await self.release.wait()
            if context.index in self.bad:
                raise ValueError(f"no {context.index}")
            context.log(f"item {context.index}")
            return {"item": context.item}
        finally:
            self.now -= 1


def mapping(value: Any, seen: Any, **options: Any) -> Job:
    return job_of(
        "j",
        Task("extract", Scripted(result=value)),
        Task("fetch", seen, map_over="extract", **options),
        Task("load", Scripted(), after=["fetch"]),
    )


async def ended(engine: Any, id: str) -> Any:
    await engine.runners.finished(id)
    return await engine.reader.execution(id)


async def done(engine: Any) -> Any:
    return await ended(engine, (await engine.submissions.submit("j")).id)


def tasks(detail: Any) -> dict[str, Any]:
    return {task.name: task for task in detail.tasks}


async def test_a_task_runs_once_per_item_and_its_result_is_the_list_in_order() -> None:
    seen = Seen()
    async with running(mapping(["a", None, {"b": 1}], seen)) as engine:
        detail = await done(engine)
        assert detail.state is State.SUCCESSFUL
        assert sorted(seen.seen, key=str) == [(0, "a"), (1, None), (2, {"b": 1})]
        fetch = tasks(detail)["fetch"]
        assert fetch.items == {"total": 3, "successful": 3}
        expected = [{"item": "a"}, {"item": None}, {"item": {"b": 1}}]
        assert msgspec.json.decode(fetch.result) == expected


async def test_a_dict_is_mapped_as_pairs() -> None:
    seen = Seen()
    async with running(mapping({"x": 1, "ж\n": [2]}, seen)) as engine:
        await done(engine)
    assert seen.seen == [(0, ["x", 1]), (1, ["ж\n", [2]])]


def test_a_function_receives_the_item_by_the_name_of_the_mapped_task() -> None:
    job = Job("j", params={"by": 10})

    @job.task
    def extract() -> list[int]:
        return [1, 2, 3]

    @job.task
    def offset() -> int:
        return 5

    @job.task(map_over="extract")
    def double(extract: int, offset: int, by: int, context: Context) -> int:
        assert context.results["extract"] == context.item == extract
        return extract * by + offset

    @job.task
    def load(double: list[int]) -> int:
        return sum(double)

    execution = job.run()
    assert execution.tasks["double"].result == [15, 25, 35]
    assert execution.tasks["load"].result == 75


class Fields:
    """Returns all fields of its context that are values, as text."""

    def run(self, context: Context) -> dict[str, str]:
        names = [
            name for name in Context.__struct_fields__ if name not in ("log", "artifacts", "meter")
        ]
        return {name: repr(getattr(context, name)) for name in names}


class AsyncFields:
    async def run(self, context: Context) -> dict[str, str]:
        return Fields().run(context)


@pytest.mark.parametrize(
    ("operator", "isolation"), [(Fields(), None), (AsyncFields(), None), (Fields(), "process")]
)
async def test_the_whole_context_reaches_the_operator_wherever_it_runs(
    operator: Any, isolation: Any
) -> None:
    job = job_of(
        "j",
        Task("extract", Scripted(result=["a", {"b": 1}])),
        Task("fetch", operator, map_over="extract", isolation=isolation),
        Task("plain", operator, isolation=isolation),
        params={"by": 10},
    )
    async with running(job) as engine:
        detail = await done(engine)
        for index, found in enumerate(msgspec.json.decode(tasks(detail)["fetch"].result)):
            tag = process_tag.parse(found.pop("process_tag").strip("'"))
            assert tag is not None
            assert tag.task == process_tag.task_key(Item("fetch", index))
            item = ["a", {"b": 1}][index]
            assert found == {
                "job": "'j'",
                "task": "'fetch'",
                "execution_id": repr(detail.id),
                "attempt": "1",
                "params": "{'by': 10}",
                "results": repr({"extract": item}),
                "scheduled_at": "None",
                "submitted_at": repr(detail.submitted),
                "item": repr(item),
                "index": repr(index),
                "interval_start": "None",
                "interval_end": "None",
                "outcome": "None",
                "shared": "None",
                "stream": "None",
                "started_at": repr(BEGINNING),
                "waited": "0.0",
                "timezone": "'UTC'",
                "objects": "frozenset()",
            }
        plain = msgspec.json.decode(tasks(detail)["plain"].result)
        assert (plain["item"], plain["index"]) == ("None", "None")


def test_no_field_of_the_context_is_left_out_of_what_a_process_receives() -> None:
    named_otherwise = {"log", "artifacts", "objects", "shared", "meter", "stream"}
    assert {*CONTEXT} == {*Context.__struct_fields__} - named_otherwise


def test_a_function_in_a_process_receives_the_item_too() -> None:
    job = Job("j")

    @job.task
    def extract() -> list[int]:
        return [1, 2, 3]

    @job.task(map_over="extract", isolation="process")
    def double(extract: int) -> int:
        return extract * 2

    assert job.run().tasks["double"].result == [2, 4, 6]


async def test_a_join_that_is_closed_before_it_began_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Warnings are errors here, such as one of a coroutine that was never awaited."""
    join = mapped.MappedTasks.join

    def closed_at_once(self: mapped.MappedTasks, name: str) -> None:
        join(self, name)
        self.close()
        join(self, name)

    monkeypatch.setattr(mapped.MappedTasks, "join", closed_at_once)
    async with running(mapping(["y" * SMALL] * 2, Seen())) as engine:
        assert (await done(engine)).state is State.SUCCESSFUL
        gc.collect()


@pytest.mark.parametrize(
    ("value", "told"),
    [(7, "a number"), ("text", "a text"), (None, "not null"), (True, "true")],
)
async def test_a_value_that_is_no_list_fails_the_task_and_names_it(value: Any, told: str) -> None:
    async with running(mapping(value, Seen(), retries=2)) as engine:
        detail = await done(engine)
        fetch = tasks(detail)["fetch"]
        assert (detail.state, fetch.state) == (State.FAILED, State.FAILED)
        for part in ("'fetch'", "'extract'", told):
            assert part in str(fetch.error)
        assert "Traceback" not in str(fetch.error)


async def test_more_items_than_allowed_fail_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "MAX_ITEMS", 2)
    async with running(mapping([1, 2, 3], Seen())) as engine:
        fetch = tasks(await done(engine))["fetch"]
        assert "3 items, more than the 2" in str(fetch.error)


async def test_an_empty_list_succeeds_or_skips() -> None:
    async with running(mapping([], Seen())) as engine:
        detail = await done(engine)
        assert tasks(detail)["fetch"].result == msgspec.Raw(b"[]")
    async with running(mapping([], Seen(), on_empty="skip")) as engine:
        assert tasks(await done(engine))["load"].state is State.SKIPPED


async def test_an_item_that_fails_fails_the_task_after_the_others_and_is_retried_alone() -> None:
    seen = Seen(bad=(1,))
    async with running(mapping([10, 11, 12], seen)) as engine:
        detail = await done(engine)
        fetch = tasks(detail)["fetch"]
        assert fetch.items == {"total": 3, "successful": 2, "failed": 1}
        assert fetch.error == "1 of 3 items failed\nitem 1: ValueError: no 1"
        seen.bad.clear()
        seen.seen.clear()
        await engine.control.retry(detail.id)
        detail = await ended(engine, detail.id)
        assert seen.seen == [(1, 11)]
        assert detail.state is State.SUCCESSFUL
        items = [{"item": item} for item in (10, 11, 12)]
        assert msgspec.json.decode(tasks(detail)["fetch"].result) == items


async def test_one_item_of_a_task_that_succeeded_runs_again_and_its_result_is_joined_anew() -> None:
    seen = Seen()
    async with running(mapping([1, 2], seen)) as engine:
        id = (await done(engine)).id
        seen.seen.clear()
        await engine.control.retry(id, task=Item("fetch", 1))
        detail = await ended(engine, id)
        assert seen.seen == [(1, 2)]
        assert msgspec.json.decode(tasks(detail)["fetch"].result) == [{"item": 1}, {"item": 2}]
        with pytest.raises(NotFound, match="item 7 of task 'fetch'"):
            await engine.control.retry(id, task=Item("fetch", 7))


async def test_an_item_of_an_earlier_list_is_not_retried_alone() -> None:
    seen = Seen(bad=(1,))
    async with running(mapping([1, 2], seen)) as engine:
        id = (await done(engine)).id
        await engine.control.retry(id, task="extract", following=False)
        await ended(engine, id)
        with pytest.raises(Conflict, match="an earlier list; retry the whole task"):
            await engine.control.retry(id, task=Item("fetch", 1))
        seen.bad.clear()
        seen.seen.clear()
        await engine.control.retry(id)
        assert (await ended(engine, id)).state is State.SUCCESSFUL
        assert sorted(seen.seen) == [(0, 1), (1, 2)]


async def test_items_keep_to_max_parallel_and_to_the_slots() -> None:
    seen = Seen()
    async with running(mapping(list(range(20)), seen, max_parallel=3)) as engine:
        await done(engine)
    assert seen.most == 3
    seen = Seen()
    async with running(mapping(list(range(20)), seen), max_running=2) as engine:
        await done(engine)
        assert seen.most == 2
        assert engine.slots.taken == 0


async def test_results_of_any_size_are_joined_in_order() -> None:
    class Large:
        def run(self, context: Context) -> str:
            return str(context.item) * (SMALL if context.item % 2 else 1)

    async with running(mapping([1, 2, 3, 4], Large())) as engine:
        detail = await done(engine)
        result = await engine.reader.result(detail.id, "fetch")
        assert msgspec.json.decode(result.body) == ["1" * SMALL, "2", "3" * SMALL, "4"]
        item = await engine.reader.result(detail.id, Item("fetch", 2))
        assert msgspec.json.decode(item.body) == "3" * SMALL


async def test_a_list_of_results_that_is_too_large_fails_the_task_and_says_so() -> None:
    class Large:
        def run(self, context: Context) -> str:
            return "x" * 900

    async with running(mapping([1, 2], Large()), limits=Limits(result=1000)) as engine:
        fetch = tasks(await done(engine))["fetch"]
        assert fetch.state is State.FAILED
        assert "the results of its items would be 1,807 bytes" in str(fetch.error)


async def test_a_large_list_is_loaded_from_the_store_for_its_items() -> None:
    seen = Seen()
    values = ["y" * 100] * 100
    async with running(mapping(values, seen)) as engine:
        await done(engine)
    assert [item for _, item in seen.seen] == values


async def test_each_item_has_a_log_of_its_own() -> None:
    async with running(mapping([1, 2], Seen())) as engine:
        id = (await done(engine)).id
        for number in range(2):
            attempt = await engine.reader.attempt(id, Item("fetch", number), None)
            log = await engine.reader.log_of(*attempt.place)
            assert [text async for text in log.texts] == [f"item {number}\n"]
        with pytest.raises(NotFound, match="item 2 of task 'fetch'"):
            await engine.reader.attempt(id, Item("fetch", 2), None)


async def test_cancelling_the_task_ends_its_items_and_frees_their_slots() -> None:
    seen = Seen(hang=(0, 1))
    async with running(mapping(list(range(50)), seen, max_parallel=2), max_running=2) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: len(seen.seen) == 2)
        assert await engine.control.cancel_task(id, "fetch")
        detail = await ended(engine, id)
        assert detail.state is State.CANCELLED
        assert tasks(detail)["fetch"].items == {"total": 50, "cancelled": 50}
        assert engine.slots.taken == 0
        assert all(not usage.waiting for usage in engine.slots.usage())


async def test_one_item_is_cancelled_or_marked_while_the_others_go_on() -> None:
    seen = Seen(hang=(0, 1))
    async with running(mapping([1, 2, 3], seen, max_parallel=2)) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: len(seen.seen) == 2)
        await engine.control.mark(id, Item("fetch", 2), State.SUCCESSFUL)
        with pytest.raises(Conflict):
            await engine.control.mark(id, Item("fetch", 0), State.SUCCESSFUL)
        assert await engine.control.cancel_task(id, Item("fetch", 0))
        seen.release.set()
        detail = await ended(engine, id)
        counts = {"total": 3, "successful": 2, "cancelled": 1}
        assert tasks(detail)["fetch"].items == counts
        assert {index for index, _ in seen.seen} == {0, 1}


async def test_items_that_ran_at_a_stop_are_tried_again_after_it_and_no_others(
    tmp_path: Path,
) -> None:
    seen = Seen(hang=(2,))
    job = mapping(["y" * 2000] * 4, seen, max_parallel=1, retries=1)
    async with running(job, store=SqliteStore(tmp_path / "g.db")) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: len(seen.seen) == 3)
    assert [index for index, _ in seen.seen] == [0, 1, 2]
    again = Seen()
    job = mapping(["y" * 2000] * 4, again, max_parallel=1, retries=1)
    async with running(job, store=SqliteStore(tmp_path / "g.db")) as engine:
        detail = await ended(engine, id)
        assert detail.state is State.SUCCESSFUL
    assert sorted(index or 0 for index, _ in again.seen) == [2, 3]


async def test_pages_of_items() -> None:
    async with running(mapping(list(range(5)), Seen(bad=(1, 3)))) as engine:
        id = (await done(engine)).id
        page = await engine.reader.items(id, "fetch", None, 0, 2)
        assert [(one.index, one.state) for one in page.items] == [(0, "successful"), (1, "failed")]
        assert page.items[0].result == msgspec.Raw(b'{"item":0}')
        assert "ValueError: no 1" in str(page.items[1].error)
        assert page.next == "2"
        page = await engine.reader.items(id, "fetch", State.FAILED, 0, 1)
        assert ([one.index for one in page.items], page.next) == ([1], "3")
        page = await engine.reader.items(id, "fetch", State.FAILED, 3, 1)
        assert ([one.index for one in page.items], page.next) == ([3], None)
        with pytest.raises(NotFound, match="is not mapped"):
            await engine.reader.items(id, "load", None, 0, 1)


async def test_pages_of_items_follow_commits_without_another_replay() -> None:
    seen = Seen(hang=(0, 1))
    async with running(mapping([10, 11, 12], seen, retries=1)) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: len(seen.seen) == 3)
        page = await engine.reader.items(id, "fetch", None, 0, 9)
        assert [one.state for one in page.items][:2] == [State.RUNNING, State.RUNNING]
        asked: list[str] = []
        history = engine.store.history
        engine.store.history = lambda id: asked.append(id) or history(id)
        seen.bad = {1}
        seen.release.set()
        await engine.runners.finished(id)
        await engine.control.retry(id)
        await engine.runners.finished(id)
        asked.clear()
        page = await engine.reader.items(id, "fetch", None, 0, 9)
        assert not asked
        assert [one.state for one in page.items] == ["successful", "failed", "successful"]
        assert "no 1" in str(page.items[1].error)
        assert [one.attempt for one in page.items[1].history] == [1, 2, 3, 4]
        assert all(one.finished is not None for one in page.items[1].history)
        kept = page.items
        engine.reader.item_pages = ItemPages(engine.clock)
        assert (await engine.reader.items(id, "fetch", None, 0, 9)).items == kept


def test_a_process_tag_names_the_item() -> None:
    names = process_tag.tasks_by_key(["a", "b"])
    for key in ("a", Item("b", 0), Item("a", 99_999)):
        text = process_tag.task_key(key)
        assert text.isalnum()
        assert process_tag.key_in(text, names) == key
    assert process_tag.key_in("1", names) == "b"


@pytest.mark.parametrize(
    "options",
    [
        {"map_over": 7},
        {"map_over": ""},
        {"map_over": ["extract"]},
        {"map_over": []},
        {"map_over": ["extract", "extract"]},
        {"map_over": ["extract", "nobody"]},
        {"map_over": ["extract", 7]},
        {"map_over": {"extract": 1}},
        {"map_over": "nobody"},
        {"map_over": "extract", "max_parallel": 0},
        {"map_over": "extract", "max_parallel": 1.5},
        {"map_over": "extract", "on_empty": "fail"},
        {"item_key": "{{ item }}"},
        {"map_over": "extract", "item_key": 7},
        {"map_over": "extract", "item_key": "all the same"},
        {"map_over": "extract", "item_key": "{{ item"},
        {"map_over": "extract", "item_key": "{{ nobody }} {{ item }}"},
        {"map_over": "extract", "item_key": "{{ item }} {{ attempt }}"},
        {"max_parallel": 2},
        {"on_empty": "skip"},
    ],
)
def test_mistakes_are_refused_when_written(options: dict[str, Any]) -> None:
    job = Job("j", tasks=[Task("extract", Scripted())])
    with pytest.raises(InvalidJob, match="'fetch'"):
        job.add(Task("fetch", Scripted(), **options))


def crossing(values: list[Any], seen: Any, over: Any) -> Job:
    lists = [Task(name, Scripted(result=one)) for name, one in zip("abc", values, strict=False)]
    return job_of("j", *lists, Task("fetch", seen, map_over=over))


async def test_several_lists_are_mapped_as_their_product_the_last_one_fastest() -> None:
    seen = Seen()
    over = ["a", "b", "c"]
    async with running(crossing([[1, 2], {"x": 3}, ["y" * SMALL, 4]], seen, over)) as engine:
        detail = await done(engine)
        assert tasks(detail)["fetch"].map_over == ("a", "b", "c")
    large, pair = "y" * SMALL, ["x", 3]
    items = [[1, pair, large], [1, pair, 4], [2, pair, large], [2, pair, 4]]
    assert sorted(seen.seen, key=lambda one: one[0] or 0) == [*enumerate(items)]


async def test_zipped_lists_are_mapped_as_pairs() -> None:
    seen = Seen()
    async with running(crossing([[1, 2], ["x", "y"]], seen, zipped("a", "b"))) as engine:
        assert tasks(await done(engine))["fetch"].zipped is True
    assert sorted(seen.seen, key=str) == [(0, [1, "x"]), (1, [2, "y"])]


async def test_zipped_lists_of_unequal_lengths_fail_the_task_and_say_so() -> None:
    async with running(crossing([[1, 2], [3]], Seen(), zipped("a", "b"))) as engine:
        fetch = tasks(await done(engine))["fetch"]
        assert fetch.state is State.FAILED
        assert fetch.error == (
            "task 'fetch' pairs the items of lists that are not equally long: "
            "2 of task 'a' and 1 of task 'b'"
        )


async def test_a_product_with_an_empty_list_is_empty() -> None:
    async with running(crossing([[1, 2], []], Seen(), ["a", "b"])) as engine:
        assert tasks(await done(engine))["fetch"].result == msgspec.Raw(b"[]")


async def test_a_product_that_is_too_large_fails_the_task_before_it_is_made() -> None:
    values = [list(range(5000))] * 3
    async with running(crossing(values, Seen(), ["a", "b", "c"])) as engine:
        fetch = tasks(await done(engine))["fetch"]
        assert "5,000 × 5,000 × 5,000 = 125,000,000,000 items" in str(fetch.error)


KEY = Template("{{ item.name }}")


class Zeros:
    def __init__(self, number: int) -> None:
        self.number = number

    def run(self) -> list[int]:
        return [0] * self.number


@pytest.mark.parametrize(
    ("operator", "told"),
    [
        (Zeros(10_000_000), "the result is 20000001 bytes as JSON, more than the 1048576"),
        (Scripted(result=["x" * 2_000_000, 1]), "the result is 2000006 bytes as JSON"),
    ],
)
async def test_a_list_that_is_too_large_fails_the_task_that_returns_it(
    operator: Any, told: str
) -> None:
    job = job_of("j", Task("extract", operator), Task("fetch", Seen(), map_over="extract"))
    async with running(job) as engine:
        detail = await done(engine)
        assert told in str(tasks(detail)["extract"].error)
        assert tasks(detail)["fetch"].state is State.SKIPPED


async def test_a_list_of_too_many_items_fails_the_mapped_task() -> None:
    job = job_of("j", Task("extract", Zeros(200_000)), Task("fetch", Seen(), map_over="extract"))
    async with running(job) as engine:
        fetch = tasks(await done(engine))["fetch"]
        assert "200,000 items, more than the 100,000" in str(fetch.error)


async def test_items_are_found_by_their_keys_which_are_known_before_they_run() -> None:
    seen = Seen(hang=(0, 1, 2))
    job = mapping([{"name": "truck"}, {"name": "car"}, {"name": "bike"}], seen, item_key=KEY)
    async with running(job) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: len(seen.seen) == 3)
        page = await engine.reader.items(id, "fetch", None, 0, 9)
        assert [one.key for one in page.items] == ["truck", "car", "bike"]
        page = await engine.reader.items(id, "fetch", None, 0, 9, "AR")
        assert [one.index for one in page.items] == [1]
        assert await engine.control.cancel_task(id, NamedItem("fetch", "car"))
        with pytest.raises(NotFound, match="no item 'bus' of task 'fetch'"):
            await engine.control.cancel_task(id, NamedItem("fetch", "bus"))
        seen.bad = {0}
        seen.release.set()
        fetch = tasks(await ended(engine, id))["fetch"]
        assert fetch.items == {"total": 3, "successful": 1, "failed": 1, "cancelled": 1}
        assert "item 0 'truck': ValueError: no 0" in str(fetch.error)
        attempt = await engine.reader.attempt(id, NamedItem("fetch", "bike"), None)
        assert (attempt.item, attempt.state) == (2, State.SUCCESSFUL)
        result = await engine.reader.result(id, NamedItem("fetch", "bike"))
        assert msgspec.json.decode(result.body) == {"item": {"name": "bike"}}
        with pytest.raises(NotFound, match="no item 'bus' of task 'fetch'"):
            await engine.reader.attempt(id, NamedItem("fetch", "bus"), None)


async def test_an_item_is_retried_by_its_key_which_a_retry_keeps() -> None:
    seen = Seen(bad=(1,))
    async with running(mapping(["a", "b"], seen, item_key="{{ item }}")) as engine:
        id = (await done(engine)).id
        seen.bad.clear()
        seen.seen.clear()
        await engine.control.retry(id, task=NamedItem("fetch", "b"))
        await ended(engine, id)
        assert seen.seen == [(1, "b")]
        page = await engine.reader.items(id, "fetch", None, 0, 9)
        assert [one.key for one in page.items] == ["a", "b"]


@pytest.mark.parametrize(
    ("value", "template", "told"),
    [
        (["a", "b", "a"], "{{ item }}", "items 0 and 2 have the same key 'a'"),
        (["a", " "], "{{ item }}", "item_key of item 1 is empty"),
        ([{"n": 1}, {}], "{{ item.n }}", "item_key of item 1 cannot be rendered: line 1: there is"),
        (["x" * 251], "{{ item }}", "item_key of item 0 has 251 characters, more than 250"),
        (["a\nb"], "{{ item }}", "has a control character"),
        ([1], "{% for i in range(99999) %}{{ item }}{% endfor %}", "takes too long"),
    ],
)
async def test_bad_keys_fail_the_task_before_any_item_runs(
    value: Any, template: str, told: str
) -> None:
    seen = Seen()
    async with running(mapping(value, seen, item_key=template)) as engine:
        fetch = tasks(await done(engine))["fetch"]
        assert fetch.state is State.FAILED
        assert told in str(fetch.error)
        assert "'fetch'" in str(fetch.error)
        assert not seen.seen


async def test_keys_know_all_of_the_items_and_the_names_of_templates(tmp_path: Path) -> None:
    template = Template("{{ job }} {{ results.a }}{{ results.b }} {{ index }} {{ params.day }}")
    lists = [Task(name, Scripted(result=["x", "y"])) for name in "ab"]
    seen = Seen(hang=(1,))
    fetch = Task("fetch", seen, map_over=zipped("a", "b"), item_key=template)
    job = job_of("j", *lists, fetch, params={"day": "mon"})
    async with running(job, store=SqliteStore(tmp_path / "g.db")) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: len(seen.seen) == 2)
    async with running(job, store=SqliteStore(tmp_path / "g.db")) as engine:
        page = await engine.reader.items(id, "fetch", None, 0, 9)
        assert [one.key for one in page.items] == ["j xx 0 mon", "j yy 1 mon"]


class Doubled(Seen):
    """Returns its item twice."""

    async def run(self, context: Context) -> Any:
        return (await super().run(context))["item"] * 2


def chaining(values: list[Any], first: Seen, second: Seen, **options: Any) -> Job:
    return job_of(
        "j",
        Task("extract", Scripted(result=values)),
        Task("fetch", first, map_over="extract", item_key="{{ item }}"),
        Task("parse", second, map_over="fetch", **options),
        Task("load", Scripted(), after=["parse"]),
    )


async def test_a_task_over_a_mapped_task_runs_item_by_item_without_a_barrier() -> None:
    first, second = Doubled(hang=(1,)), Seen()
    async with running(chaining(["a", "b", "c"], first, second)) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: len(second.seen) == 2)
        assert sorted(second.seen) == [(0, "aa"), (2, "cc")]
        page = await engine.reader.items(id, "parse", None, 0, 9)
        assert [one.key for one in page.items] == ["a", "b", "c"]
        assert page.items[1].state is State.NOTSTARTED
        first.release.set()
        detail = await ended(engine, id)
        assert detail.state is State.SUCCESSFUL
        parsed = msgspec.json.decode(tasks(detail)["parse"].result)
        assert parsed == [{"item": one} for one in ("aa", "bb", "cc")]


async def test_results_of_any_size_are_handed_on_item_by_item() -> None:
    class Large(Seen):
        async def run(self, context: Context) -> Any:
            return str(context.item) * (SMALL if context.index else 1)

    second = Seen()
    async with running(chaining(["y", "z"], Large(), second)) as engine:
        assert (await done(engine)).state is State.SUCCESSFUL
    assert {index: len(str(item)) for index, item in second.seen} == {0: 1, 1: SMALL}


async def test_an_item_that_failed_skips_the_same_item_and_a_retry_runs_only_those() -> None:
    first, second = Doubled(bad=(1,)), Seen()
    async with running(chaining(["a", "b", "c"], first, second)) as engine:
        detail = await done(engine)
        assert detail.state is State.FAILED
        assert tasks(detail)["parse"].items == {"total": 3, "successful": 2, "skipped": 1}
        states = {name: task.state for name, task in tasks(detail).items()}
        assert (states["parse"], states["load"]) == (State.SKIPPED, State.SKIPPED)
        for seen in (first, second):
            seen.bad.clear()
            seen.seen.clear()
        await engine.control.retry(detail.id)
        detail = await ended(engine, detail.id)
        assert detail.state is State.SUCCESSFUL
        assert (first.seen, second.seen) == ([(1, "b")], [(1, "bb")])
        assert tasks(detail)["parse"].items == {"total": 3, "successful": 3}


async def test_a_trigger_rule_decides_for_each_item() -> None:
    first, second = Doubled(bad=(1,)), Seen()
    job = chaining(["a", "b"], first, second, trigger_rule="allDone")
    async with running(job) as engine:
        detail = await done(engine)
        assert sorted(second.seen) == [(0, "aa"), (1, None)]
        assert tasks(detail)["parse"].state is State.SUCCESSFUL


async def test_an_item_runs_again_with_the_item_it_is_made_of() -> None:
    first, second = Doubled(), Seen()
    async with running(chaining(["a", "b"], first, second)) as engine:
        id = (await done(engine)).id
        first.seen.clear()
        second.seen.clear()
        await engine.control.retry(id, task=Item("fetch", 1))
        assert (await ended(engine, id)).state is State.SUCCESSFUL
        assert (first.seen, second.seen) == ([(1, "b")], [(1, "bb")])


async def test_cancelling_a_mapped_task_ends_the_items_that_wait_for_its_own() -> None:
    first, second = Doubled(hang=(0, 1)), Seen()
    async with running(chaining(["a", "b", "c"], first, second)) as engine:
        id = (await engine.submissions.submit("j")).id
        await until(lambda: len(second.seen) == 1)
        await engine.control.cancel_task(id, "fetch")
        detail = await ended(engine, id)
        assert tasks(detail)["fetch"].items == {"total": 3, "successful": 1, "cancelled": 2}
        assert tasks(detail)["parse"].items == {"total": 3, "successful": 1, "skipped": 2}


async def test_items_that_wait_for_others_at_a_stop_run_after_it(tmp_path: Path) -> None:
    job = chaining(["a", "b"], Doubled(hang=(1,)), Seen(), retries=1)
    async with running(job, store=SqliteStore(tmp_path / "g.db")) as engine:
        id = (await engine.submissions.submit("j")).id
        operator = job.task("parse").operator
        assert isinstance(operator, Seen)
        await until(lambda: len(operator.seen) == 1)
    first, second = Doubled(), Seen()
    job = chaining(["a", "b"], first, second, retries=1)
    async with running(job, store=SqliteStore(tmp_path / "g.db")) as engine:
        detail = await ended(engine, id)
        # It has no retries, so it failed when it was interrupted.
        assert tasks(detail)["fetch"].items == {"total": 2, "successful": 1, "failed": 1}
        await engine.control.retry(id)
        assert (await ended(engine, id)).state is State.SUCCESSFUL
    assert (first.seen, second.seen) == ([(1, "b")], [(1, "bb")])


def test_the_items_of_a_task_over_a_mapped_task_have_its_keys() -> None:
    job = chaining([], Seen(), Seen())
    with pytest.raises(InvalidJob, match="'more': its items have the keys of task 'parse'"):
        job.add(Task("more", Seen(), map_over="parse", item_key="{{ item }}"))


def test_a_function_receives_the_items_of_several_lists_by_name() -> None:
    job = Job("j")

    @job.task
    def size() -> list[str]:
        return ["S", "L"]

    @job.task
    def color() -> list[str]:
        return ["red", "blue"]

    @job.task(map_over=["size", "color"])
    def shirt(color: str, size: str, context: Context) -> str:
        assert context.item == [size, color]
        return f"{size} {color}"

    shirts = job.run().tasks["shirt"].result
    assert shirts == ["S red", "S blue", "L red", "L blue"]


def test_a_mapped_task_runs_after_what_it_maps_over() -> None:
    assert goflow.Task("t", Scripted(), map_over="extract").after == ["extract"]
