"""Generators of random jobs whose items are committed while they yield, and their oracle.

A generator yields the same items in each attempt of a round, unless it is scripted to break that
rule. A round ends with a retry by hand, which has all items made anew.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import msgspec

from goflow.core.events import AnyFact, TaskSucceeded, Yielded
from goflow.core.execution import Execution
from goflow.engine.attempts import streams
from goflow.errors import TaskFailed
from goflow.operators.base import Context
from goflow.operators.function import FunctionOperator, bind
from goflow.operators.generator import GeneratorOperator

if TYPE_CHECKING:
    from tests.simulation.jobs import Stage
    from tests.simulation.world import World

# So that generators wait for the tasks that are mapped over them.
AHEAD = 4
BATCH = 2
# The last one is too large for a fact.
ITEMS = ("ok", "ok", "ok", "fail", "again", {"a": [1]}, None, 7, "large" * 1000)
ENDS = {"whole": 12, "raises": 5, "final": 1, "hangs": 1, "other": 0.5, "less": 0.5, "unfit": 0.5}
# How errors begin that goflow gives to a generator.
REFUSALS = ("item ", "the generator yields", "the attempt ")


def draw_items(rng: random.Random) -> list[Any]:
    """The items that a generator yields in one round."""
    return rng.choices(ITEMS, k=rng.choice((0, 1, 2, 3, 5, 9, 14)))


def bound(function: Callable[[Context], Any]) -> FunctionOperator:
    """The operator of a generator function."""
    operator, _ = bind(function, tasks=(), params=(), where="a generator")
    assert isinstance(operator, GeneratorOperator)
    return operator


def generator(stage: "Stage") -> FunctionOperator:
    """An operator that yields the items of its round, and ends in a random way each time."""

    async def generate(context: Context) -> AsyncIterator[Any]:
        rng, yielded = stage.rng, list[Any]()
        items, known = stage.items(context)
        end = rng.choices(list(ENDS), list(ENDS.values()))[0]
        stage.begins(context, threaded=False)
        try:
            for item in _scripted(rng, items, known, end):
                await asyncio.sleep(rng.choice((0, 0, 0.1, 1)))
                yielded.append(item)
                stage.pauses(context)
                yield item
                stage.goes_on(context)
            if end == "hangs":
                await asyncio.sleep(900)
            if end in ("raises", "final", "hangs"):
                given_up = TaskFailed("gives up", final=True)
                error = given_up if end == "final" else ValueError("scripted to fail")
                stage.acts(context, error)
                raise error
            stage.acts(context, yielded)
        finally:
            stage.ends(context)

    return bound(generate)


def _scripted(rng: random.Random, items: list[Any], known: int, end: str) -> list[Any]:
    """What to yield if so many of the items are `known`."""
    match end:
        case "other" if known:
            return [*items[: rng.randrange(known)], "another one"]
        case "less" if known:
            return items[: rng.randrange(known)]
        case "raises" | "final" | "hangs":
            return items[: rng.randint(0, len(items))]
        case "unfit":
            return [*items, {("a",): 1}]
        case _:
            return items


class Rounds:
    """The items that the generators of a world yield, by round."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._lists: dict[tuple[str, str, int], list[Any]] = {}
        self._known = Counter[tuple[str, str, int]]()  # items, by facts
        self._patched = ExitStack()

    def begin(self) -> None:
        self._patched.enter_context(patch.object(streams, "AHEAD", AHEAD))
        self._patched.enter_context(patch.object(streams, "BATCH", BATCH))

    def end(self) -> None:
        self._patched.close()

    def items(self, context: Context) -> tuple[list[Any], int]:
        """The items that the generator of an attempt is to yield, and how many are committed."""
        stream = self._world.disk.executions[context.execution_id].tasks[context.task].stream
        round = 0 if stream is None else stream.round
        place = context.execution_id, context.task, round
        if place not in self._lists:
            self._lists[place] = draw_items(self._world.rng)
        return self._lists[place], 0 if stream is None else stream.items

    def item(self, execution: Execution, task: str, number: int) -> Any:
        """An item that is committed; otherwise a text that says that it is not."""
        stream = execution.tasks[task].stream
        assert stream is not None
        kept = self._kept(execution.id, task, stream.round)
        return kept[number] if number < stream.items else f"item {number} is not committed"

    def heard(self, execution: Execution, fact: AnyFact) -> None:
        """A fact is committed: each item is, once."""
        task = execution.tasks.get(getattr(fact, "task", ""))
        if task is None or task.stream is None:
            return
        place = execution.id, task.planned.name, task.stream.round
        if isinstance(fact, Yielded):
            self._hold(fact.first == self._known[place], f"{place}: {fact} repeats items")
            self._known[place] += fact.items
        elif isinstance(fact, TaskSucceeded):
            items = self._lists.get(place)
            is_whole = items is None or self._known[place] == len(items)
            self._hold(is_whole, f"{place} has {self._known[place]} items of {items}: {fact}")

    def check(self) -> None:
        """The store has each item once, as the generator yielded it."""
        for place, number in self._known.items():
            kept = self._kept(*place)
            expected = self._lists.get(place, kept)[:number]
            self._hold(len(kept) == number, f"{place}: {kept} is kept, by facts {number} items")
            self._hold(kept == expected, f"{place}: {kept} is kept, not {expected}")

    def _hold(self, holds: bool, problem: str) -> None:
        if not holds:
            self._world.problems.append(problem)

    def _kept(self, execution: str, task: str, round: int) -> list[Any]:
        """The items in the store."""
        items: list[Any] = msgspec.json.decode(self._world.disk.items(execution, task, round))
        return items
