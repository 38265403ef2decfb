"""The items of the executions whose pages of items are open, folded once and updated by commits.

Otherwise each request for a page would replay all facts of the execution.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from goflow.core.detail import AttemptDetail, ItemDetail, cut_error, shown_result
from goflow.core.events import AnyFact
from goflow.core.execution import Execution
from goflow.core.keys import Item
from goflow.core.result import Artifact
from goflow.core.runs import Items, Run, TaskRun
from goflow.core.standing import IllegalTransition
from goflow.core.states import State
from goflow.core.summary import WhySkipped
from goflow.core.transition import TaskChange
from goflow.engine.clock import Clock
from goflow.engine.kept_views import KeptViews
from goflow.engine.replay import find_run, salvage
from goflow.errors import NotFound
from goflow.stores.base import History, Record

FOLDS = 4  # executions
IDLE = 30.0  # seconds without a request until one is dropped
ITEMS_BYTES = 4 * 1024 * 1024  # of JSON on a page of items; one item may take more
ATTEMPTS_SHOWN = 20  # of an item, the newest


class ItemsPage(NamedTuple):
    """Items of a mapped task in order, and the cursor of the following page or None."""

    items: list[ItemDetail]
    next: str | None


class FoldedItems:
    """The items of one execution at its newest version."""

    def __init__(self, history: History) -> None:
        self.version = history.version
        self._errors: dict[Item, str | None] = {}  # of the last attempts, cut
        self._artifacts: dict[Item, list[Artifact]] = {}
        self._skips: dict[Item, WhySkipped | msgspec.UnsetType] = {}
        self._attempts: dict[Item, list[AttemptDetail]] = {}  # those that have ended
        self._execution: Execution = salvage(history, self._note).execution

    def _note(self, fact: AnyFact, changes: Sequence[TaskChange]) -> None:
        for change in changes:
            if change.item is None or change.told is not None:
                continue
            task, item = change.task, Item(change.task.name, change.item)
            self._errors[item] = None if change.error is None else cut_error(change.error)
            if change.artifacts or item in self._artifacts:
                self._artifacts[item] = list(change.artifacts)
            if task.state is State.SKIPPED:
                self._skips[item] = task.skip
            if change.before is not State.RUNNING or task.state is State.RUNNING:
                continue
            assert task.started is not None
            state = State.FAILED if task.state is State.UPFORRETRY else task.state
            attempt = AttemptDetail(task.attempts, state, task.started, task.finished)
            attempt.retry_at, attempt.interrupted = change.retry_at, change.interrupted
            if change.cost is not None:
                attempt.cost = change.cost
            attempts = self._attempts.setdefault(item, [])
            attempts.append(attempt)
            del attempts[:-ATTEMPTS_SHOWN]

    def apply(self, record: Record, version: int) -> None:
        """Apply a committed change, unless the fold has it already."""
        if version <= self.version:
            return
        for fact in record.facts:
            self._note(fact, self._execution.apply(fact))
        self.version = version

    def page(
        self, task: str, state: State | None, after: int, limit: int, part: str = ""
    ) -> ItemsPage:
        """The items of a mapped task from number `after` on, at most `limit`, or fewer that take
        `ITEMS_BYTES` bytes; with `state`, only those in it, and with `part`, only those with that
        text in their key, whatever its case. Raises `NotFound`."""
        execution, part = self._execution, part.casefold()
        found = find_run(execution, task)
        assert isinstance(found, TaskRun)
        if (items := found.items) is None:
            raise NotFound(
                f"task {task!r} of execution {execution.id!r} is not mapped, so it has no items",
                code="not-mapped",
                field="task",
            )
        page: list[ItemDetail] = []
        room, runs = ITEMS_BYTES, items.runs or ()
        for index in range(after, len(runs)):
            run = runs[index]
            if state is not None and run.state is not state:
                continue
            if part and part not in (items.key(index) or "").casefold():
                continue
            if len(page) == limit or room <= 0:
                return ItemsPage(page, str(index))
            item = self._detail(Item(task, index), run, items)
            room -= len(item.error or "") + len(item.result) + len(item.key or "") + 200
            room -= 200 * len(item.history)
            files = self._artifacts.get(Item(task, index))
            if files and run.state is State.SUCCESSFUL:
                item.artifacts = files
                room -= 300 * len(files)
            page.append(item)
        return ItemsPage(page, None)

    def _detail(self, key: Item, run: Run, items: Items) -> ItemDetail:
        ended = run.state.finished or run.state is State.UPFORRETRY
        attempts = self._attempts.get(key, [])
        if run.state is State.RUNNING and run.started_at is not None:
            attempts = [*attempts, AttemptDetail(run.attempt, run.state, run.started_at)]
        return ItemDetail(
            key.number,
            run.state,
            run.attempt,
            run.started_at,
            run.finished_at,
            self._errors.get(key) if ended else None,
            *shown_result(run.result if run.state is State.SUCCESSFUL else None),
            run.waiting,
            self._skips.get(key, msgspec.UNSET) if run.state is State.SKIPPED else msgspec.UNSET,
            key=items.key(key.number),
            history=attempts[-ATTEMPTS_SHOWN:],
        )


class ItemPages(KeptViews[FoldedItems]):
    """The folded executions, at most `FOLDS`, each for `IDLE` seconds after a request."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, FOLDS, IDLE)

    def _apply(self, view: FoldedItems, record: Record, version: int) -> None:
        try:
            super()._apply(view, record, version)
        except (IllegalTransition, ValueError):  # its history is damaged
            self._drop(record.execution)
