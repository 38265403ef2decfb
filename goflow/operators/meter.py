"""The meter of one attempt: the progress and the counts that it reports, and its cost.

The rule that must not be broken: whatever a task reports, and however often, memory stays bounded,
and nobody but the task waits.
"""

import os
import threading
from collections.abc import Callable
from operator import index
from typing import Any

from goflow.checks import number, text
from goflow.core.cost import COUNT_NAME, COUNTS, MOST, TEXT, Bar, Cost, Number
from goflow.shown import shown, tame

LEAST = 0.0005  # seconds of processor time; less is not kept

_counting = threading.Lock()  # one for all, since it is held for a moment only


def _renew() -> None:
    """In a fork of this process: nobody is left who would release the lock."""
    global _counting
    _counting = threading.Lock()


os.register_at_fork(after_in_child=_renew)


class Meter:
    """Used from any thread. `report` is called with the meter when there is a new `bar`, and not
    again before `is_told` is set back. `thread_time` returns the seconds of processor time that the
    current thread has used."""

    __slots__ = (
        "bar",
        "counts",
        "is_told",
        "key",
        "log_bytes",
        "number",
        "peak_memory",
        "processor",
        "report",
        "thread_time",
    )

    def __init__(
        self,
        report: Callable[["Meter"], object],
        thread_time: Callable[[], float],
        key: Any = None,
        number: int = 0,
    ) -> None:
        self.report = report
        self.thread_time = thread_time
        self.key = key  # of the task or item
        self.number = number  # of the attempt
        self.bar: Bar | None = None
        self.is_told = False
        self.counts: dict[str, Number] | None = None
        self.processor = 0.0  # seconds
        self.peak_memory = 0  # bytes
        self.log_bytes = 0  # of earlier looks of the attempt

    def progress(self, done: Any, total: Any, words: Any) -> None:
        """Report the progress, as `Context.progress` says."""
        self.bar = Bar(
            _number("done", done),
            None if total is None else _number("total", total),
            _text(words) if words else "",
        )
        if not self.is_told:
            self.is_told = True
            self.report(self)

    def count(self, name: Any, more: Any) -> None:
        """Add to a count, as `Context.count` says."""
        with _counting:
            counts = self.counts
            if counts is None or name not in counts:
                counts = self._with(name)
            counts[name] = _sum(name, counts[name], more)

    def _with(self, name: object) -> dict[str, Number]:
        """The counts with one more name, which is checked."""
        subject = "context.count: the name"
        exact = text(subject, name, error=ValueError)
        if not 1 <= len(exact) <= COUNT_NAME or not exact.isprintable():
            raise ValueError(
                f"{subject} must have 1 to {COUNT_NAME} characters, all of them printable, not "
                f"{shown(exact, COUNT_NAME)}"
            )
        # A copy, since another thread may read the counts.
        counts = dict(self.counts or {})
        if len(counts) >= COUNTS:
            raise ValueError(
                f"context.count: an attempt may count {COUNTS} names, and {shown(exact)} would be "
                "one more"
            )
        counts[exact] = 0
        self.counts = counts
        return counts

    def take(self, bar: Bar | None, counts: dict[str, Number]) -> None:
        """Take the reports of a process."""
        self.counts = counts or None
        if bar is not None and bar != self.bar:
            self.bar = bar
            if not self.is_told:
                self.is_told = True
                self.report(self)

    def used(self, processor: float, peak_memory: int) -> None:
        """Add the cost of a program or a process: seconds, and bytes."""
        self.processor += processor
        self.peak_memory = max(self.peak_memory, peak_memory)

    def carry_on(self, cost: Cost) -> None:
        """Go on from the cost of earlier looks of the attempt."""
        self.processor = cost.processor_seconds
        self.peak_memory = cost.peak_memory
        self.log_bytes = cost.log_bytes
        self.counts = dict(cost.counts) or None

    def cost(self, log_bytes: int) -> Cost | None:
        """The cost so far, with the bytes written to the log; None if there is nothing to say."""
        used = self.processor >= LEAST or self.peak_memory or self.counts is not None
        if not (used or log_bytes or self.log_bytes):
            return None
        with _counting:
            counts = dict(self.counts or {})
        return Cost(round(self.processor, 3), self.peak_memory, self.log_bytes + log_bytes, counts)


def _number(which: str, value: Any) -> Number:
    if type(value) is int and 0 <= value <= MOST:
        return value
    return number(f"context.progress: {which}", _builtin(value), 0, MOST, error=ValueError)


def _text(words: Any) -> str:
    subject = "context.progress: the text"
    return " ".join(tame(text(subject, words, error=ValueError), TEXT).split())


def _sum(name: str, before: Number, more: Any) -> Number:
    if type(more) is not int or not -MOST <= more <= MOST:
        subject = f"context.count: the number for {shown(name, COUNT_NAME)}"
        more = number(subject, _builtin(more), -MOST, MOST, error=ValueError)
    after: Number = before + more
    if not -MOST <= after <= MOST:
        raise ValueError(
            f"context.count: the sum of {shown(name, COUNT_NAME)} would be beyond {MOST}"
        )
    return after


def _builtin(value: Any) -> Any:
    """The value as an int, if it is a whole number of another type, such as NumPy's."""
    if isinstance(value, int | float | str | bytes):
        return value
    try:
        return index(value)
    except Exception:
        return value
