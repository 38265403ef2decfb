"""The operator that `@job.task` makes of a generator function: its result is the list of what it
yields.

If its items are kept while it runs (`Context.stream`), it passes them on one by one. Otherwise it
collects them.

The rule that must not be broken: what is yielded is bounded in number and size, and each item is
stored as it was when it was yielded.
"""

import contextlib
import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import msgspec

from goflow.errors import TaskFailed
from goflow.operators.base import Context
from goflow.operators.function import FunctionOperator
from goflow.plain import Unfit, encode

ITEMS = 100_000  # of one generator
BYTES = 64 * 1024 * 1024  # of JSON of all of its items


class GeneratorOperator(FunctionOperator, frozen=True):
    """Calls a generator function as `FunctionOperator` does, and collects what it yields, or passes
    it on.

    An item is converted to JSON when it is yielded, so a generator may change and yield the same
    object again. If the generator raises, the attempt fails, and nothing is collected.
    """

    yields: ClassVar[bool] = True

    @property
    def run(self) -> Callable[[Context], Any]:
        return self._run_async if inspect.isasyncgenfunction(self.function) else self._run_sync

    def _run_sync(self, context: Context) -> list[Any] | None:
        stream, yielded = context.stream, _Yielded()
        with contextlib.closing(self.function(**self._values(context))) as items:
            if stream is None:
                for item in items:
                    yielded.add(item)
                return yielded.items
            for number, item in enumerate(items):
                stream.put(_encoded(number, item))
        return None

    async def _run_async(self, context: Context) -> list[Any] | None:
        stream, yielded = context.stream, _Yielded()
        async with contextlib.aclosing(self.function(**self._values(context))) as items:
            if stream is None:
                async for item in items:
                    yielded.add(item)
                return yielded.items
            number = 0
            async for item in items:
                await stream.put_async(_encoded(number, item))
                number += 1
        return None


class _Yielded:
    def __init__(self) -> None:
        self.items: list[Any] = []
        self._left = BYTES

    def add(self, item: object) -> None:
        """Take an item. Raises `TaskFailed`."""
        encoded = _encoded(len(self.items), item)
        self._left -= len(encoded)
        if self._left < 0:
            raise TaskFailed(
                f"the items that the generator yields have more than {BYTES:,} bytes as JSON; "
                "write large ones to files or a database, and yield where they are"
            )
        self.items.append(msgspec.json.decode(encoded))


def _encoded(number: int, item: object) -> bytes:
    """The JSON of the item with this number. Raises `TaskFailed`."""
    if number == ITEMS:
        raise TaskFailed(
            f"the generator yields more than {ITEMS:,} items, which is the most that a task "
            "may yield"
        )
    try:
        return encode(item)
    except Unfit as error:
        raise TaskFailed(
            f"item {number} that the generator yields cannot be stored as JSON: {error}"
        ) from None
