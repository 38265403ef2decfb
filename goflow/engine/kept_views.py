"""Views of executions that are built once and kept up to date by commits, while they are asked for.

Otherwise each request would replay all facts of its execution.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from goflow.engine.clock import Clock
from goflow.stores.base import Change, Outcome, Record


class View(Protocol):
    """A view of one execution."""

    def apply(self, record: Record, version: int, /) -> None:
        """Apply a committed change, unless the view has it already."""
        ...


V = TypeVar("V", bound=View)


class KeptViews(Generic[V]):
    """At most `most` views, by execution. Each is dropped after `idle` seconds without a request;
    the least recently requested one is dropped to make room."""

    def __init__(self, clock: Clock, most: int, idle: float) -> None:
        self._clock = clock
        self._most = most
        self._idle = idle
        self._views: OrderedDict[str, V] = OrderedDict()
        self._asked: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._views)

    def get(self, id: str) -> V | None:
        """The view of an execution, or None."""
        self._drop_idle()
        if (view := self._views.get(id)) is not None:
            self._views.move_to_end(id)
            self._asked[id] = self._clock.elapsed()
        return view

    def keep(self, id: str, view: V, collected: Sequence[tuple[Record, int]]) -> V:
        """Keep a view, with the commits collected while it was made. Returns the one that is kept,
        since another request may have made one meanwhile."""
        if (known := self.get(id)) is not None:
            return known
        for record, version in collected:
            view.apply(record, version)
        self._views[id] = view
        self._asked[id] = self._clock.elapsed()
        while len(self._views) > self._most:
            self._drop(next(iter(self._views)))
        return view

    def committed(self, change: Change, outcome: Outcome) -> None:
        """Apply a change that is now durable."""
        if not self._views or not isinstance(change, Record) or not isinstance(outcome, int):
            return
        self._drop_idle()
        if (view := self._views.get(change.execution)) is not None:
            self._apply(view, change, outcome)

    def _apply(self, view: V, record: Record, version: int) -> None:
        view.apply(record, version)

    def _drop_idle(self) -> None:
        now = self._clock.elapsed()
        while self._views:
            id = next(iter(self._views))
            if now - self._asked[id] < self._idle:
                return
            self._drop(id)

    def _drop(self, id: str) -> None:
        del self._views[id], self._asked[id]
