"""The progress of running attempts: in memory only, and shown a few times a second.

The rule that must not be broken: however often attempts report, listeners are told at most once in
`PAUSE` per execution, and the last report is always among what they are told.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import TypeVar

from goflow.core.cost import Bar
from goflow.core.keys import Key
from goflow.operators.meter import Meter

PAUSE = 0.25  # seconds between two updates of an execution

T = TypeVar("T")
Show = Callable[[str, Mapping[Key, Bar]], None]


class Bars:
    """The last reports by execution, and by task or item. `show` is called with those of an
    execution that are new. Used on the event loop alone."""

    def __init__(self, show: Show) -> None:
        self._show = show
        self._bars: dict[str, dict[Key, Bar]] = {}
        self._new: dict[str, dict[Key, Meter]] = {}  # not shown yet
        self._pauses: dict[str, asyncio.TimerHandle] = {}

    def report(self, execution: str, meter: Meter) -> None:
        """A running attempt has reported its progress."""
        self._new.setdefault(execution, {})[meter.key] = meter
        if execution not in self._pauses:
            self._flush(execution)

    def of(self, execution: str, key: Key) -> Bar | None:
        """The progress of a task or item; None if it does not run, or has not reported any."""
        bars = self._bars.get(execution)
        return None if bars is None else bars.get(key)

    def end(self, execution: str, key: Key) -> None:
        """The attempt of a task or item has ended."""
        if self._bars or self._new:
            _drop(self._bars, execution, key)
            _drop(self._new, execution, key)

    def close(self) -> None:
        """Tell nobody any more."""
        for pause in self._pauses.values():
            pause.cancel()
        self._pauses.clear()

    def _flush(self, execution: str) -> None:
        shown: dict[Key, Bar] = {}
        for key, meter in self._new.pop(execution).items():
            # In this order, since a thread may report right now.
            meter.is_told = False
            assert meter.bar is not None
            shown[key] = meter.bar
        self._bars.setdefault(execution, {}).update(shown)
        later = asyncio.get_running_loop().call_later
        self._pauses[execution] = later(PAUSE, self._rested, execution)
        self._show(execution, shown)

    def _rested(self, execution: str) -> None:
        del self._pauses[execution]
        if execution in self._new:
            self._flush(execution)


def _drop(known: dict[str, dict[Key, T]], execution: str, key: Key) -> None:
    if (of_execution := known.get(execution)) is not None:
        of_execution.pop(key, None)
        if not of_execution:
            del known[execution]
