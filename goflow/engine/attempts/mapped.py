"""The mapped tasks of one execution: the lists they map over, and the results of their items.

The rule: a list is split once per mapped task, into the JSON of its items. Each attempt decodes
its own item, so it may change it.
"""

import asyncio
import functools
import math
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, NamedTuple

import msgspec

from goflow.core.execution import Execution, Failed, Outcome, Succeeded
from goflow.core.graph import PlannedTask
from goflow.core.keys import Item, Key
from goflow.core.result import SMALL, Chunked, StoredResult, size_of
from goflow.core.runs import Run
from goflow.core.states import FINISHED
from goflow.engine.attempts.dependencies import Dependencies
from goflow.engine.attempts.streams import Streams
from goflow.errors import ResultLost, TaskFailed
from goflow.job import BadKey, ItemKeys, Job, Template
from goflow.shown import reason

MAX_ITEMS = 100_000  # of one mapped task

Keep = Callable[[Key, int, Succeeded], Outcome | Awaitable[Outcome]]

_KINDS = {b"{": "a dict", b"[": "a list", b'"': "a text", b"t": "true", b"f": "false", b"n": "null"}
_NULL = b"null"
_lists = msgspec.json.Decoder(list[msgspec.Raw])
_dicts = msgspec.json.Decoder(dict[str, msgspec.Raw])


class NoItems(Exception):
    """A value that cannot be mapped over; the message says why."""


class Known(NamedTuple):
    """A mapped task and the number of its items, or why there are none, and their keys."""

    task: str
    items: int
    error: str = ""
    keys: tuple[str, ...] = ()


class Pieces:
    """The JSON of the items of a mapped task, each in one part per list. A product is not
    multiplied out."""

    def __init__(self, lists: Sequence[Sequence[msgspec.Raw]], *, zipped: bool) -> None:
        self._lists = lists
        self._zipped = zipped
        self._number = len(lists[0]) if zipped else math.prod(map(len, lists))

    @classmethod
    def of(
        cls, name: str, planned: PlannedTask, lists: Sequence[Sequence[msgspec.Raw]]
    ) -> "Pieces":
        """The pieces of the lists of a task. Raises `NoItems`."""
        if planned.zipped and len({len(one) for one in lists}) > 1:
            told = " and ".join(
                f"{len(one):,} of task {over!r}"
                for over, one in zip(planned.lists, lists, strict=True)
            )
            raise NoItems(
                f"task {name!r} pairs the items of lists that are not equally long: {told}"
            )
        pieces = cls(lists, zipped=planned.zipped)
        if len(pieces) > MAX_ITEMS:
            told = " × ".join(f"{len(one):,}" for one in lists)
            raise NoItems(
                f"task {name!r} maps over {told} = {len(pieces):,} items, more than the "
                f"{MAX_ITEMS:,} that can be mapped over"
            )
        return pieces

    def __len__(self) -> int:
        return self._number

    def item(self, over: str | tuple[str, ...] | None, number: int) -> tuple[Any, dict[str, Any]]:
        """A copy of an item, and its parts by the task that they are from."""
        parts = [msgspec.json.decode(part) for part in self.parts(number)]
        if isinstance(over, tuple):
            return parts, dict(zip(over, parts, strict=True))
        return parts[0], {over or "": parts[0]}

    def parts(self, number: int) -> list[msgspec.Raw]:
        """The parts of an item. In a product the last list varies fastest."""
        if self._zipped:
            return [one[number] for one in self._lists]
        parts = []
        for one in reversed(self._lists):
            number, place = divmod(number, len(one))
            parts.append(one[place])
        return parts[::-1]


class MappedTasks:
    """Finds the items of mapped tasks, and joins their results.

    `keep` stores a large result, and returns the outcome. `ended` is called with the outcome of a
    mapped task whose results were joined. `wake` is called when items were found; see
    `take_known`.
    """

    def __init__(
        self,
        execution: Execution,
        job: Job | None,
        dependencies: Dependencies,
        keep: Keep,
        ended: Callable[[str, Outcome], None],
        wake: Callable[[], None],
    ) -> None:
        self._execution = execution
        self._job = job
        self._dependencies = dependencies
        self._keep = keep
        self._ended = ended
        self._wake = wake
        self._pieces: dict[str, Pieces] = {}
        self._loading: dict[str, asyncio.Task[Pieces]] = {}
        self._working: set[asyncio.Task[None]] = set()
        self._known: list[Known] = []
        self.streams: Streams | None = None  # if the execution has some
        # The mapped tasks whose items have their results in memory.
        self._kept = {name for name, task in execution.tasks.items() if task.items is not None}

    # -- items -----------------------------------------------------------------------

    def find(self, name: str) -> None:
        """Find the items of a mapped task; at once, if its lists are in memory."""
        if (over := self._execution.items_over(name)) is not None:
            self._known.append(Known(name, len(over)))
            return
        if self._execution.stream_over(name) and (known := self._execution.items_known(name)):
            self._known.append(Known(name, known))
            return
        items = self._execution.tasks[name].items
        if items is not None and items.runs is not None:  # kept by a retry
            self._known.append(Known(name, len(items.runs)))
        elif self._item_key(name) or any(
            isinstance(one, StoredResult) for one in self._lists(name)
        ):
            self._work(self._find(name))
        else:
            try:
                self._known.append(Known(name, len(self._split(name, self._lists(name)))))
            except NoItems as error:
                self._known.append(Known(name, 0, str(error)))

    def take_known(self) -> list["Known"]:
        """The mapped tasks whose items were found since the last call."""
        known, self._known = self._known, []
        return known

    async def item(self, key: Item, results: dict[str, Any]) -> Any:
        """A copy of an item, of its own; `results` get its parts, by the task that they are from.
        Raises `ResultLost`."""
        if (runs := self._execution.items_over(key.task)) is not None:
            return await self._result_of(runs[key.number], results)
        stream = self._execution.stream_over(key.task)
        if self.streams is not None and stream is not None:
            results[stream] = msgspec.json.decode(await self.streams.item(stream, key.number))
            return results[stream]
        if (pieces := self._pieces.get(key.task)) is None:
            pieces = await self._load(key.task)
        over = self._execution.tasks[key.task].planned.map_over
        item, parts = pieces.item(over, key.number)
        results.update(parts)
        return item

    async def _result_of(self, run: Run, results: dict[str, Any]) -> Any:
        """A copy of the result of an item, if it has one."""
        if run.result is None:
            return None
        task = run.planned.name
        found, _ = await self._dependencies.results.load(self._execution.id, {task: run.result})
        results.update(found)
        return found[task]

    async def _find(self, name: str) -> None:
        known = Known(name, 0)
        try:
            pieces = await self._load(name)
            keys: tuple[str, ...] = ()
            if (template := self._item_key(name)) is not None:
                keys = await self._keys(name, template, pieces)
            known = Known(name, len(pieces), "", keys)
        except (NoItems, BadKey, ResultLost, TaskFailed) as failure:
            known = Known(name, 0, str(failure))
        except Exception as failure:
            self._dependencies.on_defect(self._title(name), failure)
            known = Known(name, 0, f"a defect in goflow: {reason(failure)}")
        self._known.append(known)
        self._wake()

    def _item_key(self, name: str) -> Template | None:
        task = None if self._job is None else self._job.find(name)
        return None if task is None else task.item_key

    async def _keys(self, name: str, template: Template, pieces: "Pieces") -> tuple[str, ...]:
        """The keys of all items, rendered some at a time. Raises `BadKey`."""
        execution, given = self._execution, self._dependencies
        results, _ = await given.results.load(execution.id, execution.results_for(name))
        over = execution.tasks[name].planned.map_over
        values = {
            "job": execution.job,
            "task": name,
            "execution_id": execution.id,
            "params": execution.params,
            "scheduled_at": execution.scheduled_at,
            "submitted_at": execution.submitted_at,
        }
        item = functools.partial(pieces.item, over)
        rendering = ItemKeys(name, template, len(pieces), values, results, item)
        while not await given.results.read(rendering.some):
            pass
        return tuple(rendering.keys)

    def _lists(self, name: str) -> list[msgspec.Raw | StoredResult | None]:
        """The results that a mapped task maps over."""
        tasks = self._execution.tasks
        return [tasks[over].result for over in tasks[name].planned.lists]

    async def _load(self, name: str) -> Pieces:
        """Load a list once, however many attempts wait for it."""
        if (loading := self._loading.get(name)) is None:
            loading = asyncio.get_running_loop().create_task(self._read(name))
            self._loading[name] = loading
            loading.add_done_callback(lambda _: self._loading.pop(name, None))
        return await asyncio.shield(loading)

    async def _read(self, name: str) -> Pieces:
        found = self._lists(name)
        for place, one in enumerate(found):
            if isinstance(one, StoredResult):
                if one.format:
                    raise NoItems(
                        f"task {name!r} maps over the result of task {one.task!r}, which must be "
                        f"JSON, not {one.format}"
                    )
                body = await self._dependencies.results.body(self._execution.id, one)
                found[place] = msgspec.Raw(body)
        return self._split(name, found)

    def _split(self, name: str, found: Sequence[msgspec.Raw | StoredResult | None]) -> "Pieces":
        planned = self._execution.tasks[name].planned
        lists = []
        for over, one in zip(planned.lists, found, strict=True):
            assert not isinstance(one, StoredResult)
            where = f"task {name!r} maps over the result of task {over!r}"
            if one is None:
                state = self._execution.tasks[over].state
                raise NoItems(f"{where}, which has none: it is {state}")
            lists.append(split(bytes(one), where))
        pieces = self._pieces[name] = Pieces.of(name, planned, lists)
        return pieces

    # -- results ---------------------------------------------------------------------

    def join(self, name: str) -> None:
        """Make the result of a mapped task out of those of its items, in order; at once, if they
        are in memory and small."""
        group = self._execution.tasks[name]
        assert group.items is not None
        runs = group.items.runs
        results = [] if runs is None else [runs.result(number) for number in range(len(runs))]
        size = 1 + sum(1 + _size(one) for one in results)
        # All of them are in memory then.
        if size <= min(SMALL, self._dependencies.limits.result):
            parts = [one if isinstance(one, bytes) else _NULL for one in results]
            self._ended(name, Succeeded(msgspec.Raw(_joined(parts))))
            return
        self._work(self._join(name, group.attempt, results, size))

    async def _join(
        self,
        name: str,
        attempt: int,
        results: Sequence[bytes | StoredResult | None],
        size: int,
    ) -> None:
        outcome: Outcome
        try:
            outcome = await self._outcome(name, attempt, results, size)
        except ResultLost as lost:
            outcome = Failed(str(lost), final=True)
        except Exception as failure:
            self._dependencies.on_defect(self._title(name), failure)
            outcome = Failed(f"a defect in goflow: {reason(failure)}", final=True)
        self._ended(name, outcome)

    async def _outcome(
        self,
        name: str,
        attempt: int,
        results: Sequence[bytes | StoredResult | None],
        size: int,
    ) -> Outcome:
        if size > (most := self._dependencies.limits.result):
            if self._execution.is_growing(name):
                # Tasks that are mapped over it need the single results alone.
                return Succeeded(size=size, chunked=Chunked(None, len(results)))
            return Failed(
                f"the results of its items would be {size:,} bytes as JSON, more than the "
                f"{most:,} that a result may have (max_result); write large ones to files or a "
                "database, and return where they are",
                final=True,
            )
        parts = []
        for result in results:
            if isinstance(result, StoredResult):
                parts.append(await self._dependencies.results.body(self._execution.id, result))
            else:
                parts.append(_NULL if result is None else result)
        kept = self._keep(name, attempt, Succeeded(msgspec.Raw(_joined(parts))))
        return await kept if isinstance(kept, Awaitable) else kept

    def forget(self) -> None:
        """Forget the lists and results of the mapped tasks that have ended."""
        execution = self._execution
        for name in [*self._pieces]:
            if execution.tasks[name].state in FINISHED:
                del self._pieces[name]
        for name in [*self._kept]:
            if not execution.needs_results(name):
                self._kept.discard(name)
                execution.drop_results(name)

    def close(self) -> None:
        """Stop finding and joining."""
        for task in [*self._working, *self._loading.values()]:
            task.cancel()

    def _work(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    def _title(self, name: str) -> str:
        execution = self._execution
        return f"mapped task {name!r}, execution {execution.id} of job {execution.job!r}"


def split(body: bytes, where: str) -> list[msgspec.Raw]:
    """The JSON of the items of a list; of a dict, of its [key, value] pairs. `where` begins the
    message of `NoItems`."""
    kind = body.lstrip()[:1]
    if kind == b"[":
        pieces = _lists.decode(body)
    elif kind == b"{":
        encode = msgspec.json.encode
        pieces = [
            msgspec.Raw(b"[%b,%b]" % (encode(key), bytes(value)))
            for key, value in _dicts.decode(body).items()
        ]
    else:
        raise NoItems(
            f"{where}, which must be a list or a dict, not {_KINDS.get(kind, 'a number')}"
        )
    if len(pieces) > MAX_ITEMS:
        raise NoItems(
            f"{where}, which has {len(pieces):,} items, more than the {MAX_ITEMS:,} that can be "
            "mapped over"
        )
    return pieces


def _size(result: bytes | StoredResult | None) -> int:
    """The number of bytes of the JSON of an item's result."""
    if result is None:
        return len(_NULL)
    return len(result) if isinstance(result, bytes) else size_of(result)


def _joined(parts: Sequence[bytes]) -> bytes:
    return b"[%b]" % b",".join(parts)
