"""The due times of a job with several schedules, a start or an end.

The rule that must not be broken: an edit of a job's schedules neither loses nor doubles a due time,
and never makes a past one due. A schedule that stays in the job goes on: it keeps its phase, and
its due times that are not in the ledger yet. A new one begins at the edit. What a new start or end
newly admits begins at the edit, too.

Times are whole seconds, as those of `Schedule`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from goflow.core.instants import SECOND, ClockChange
from goflow.core.local_times import DAY, EPOCH
from goflow.core.schedule import Schedule

_BEFORE_ALL = EPOCH - timedelta(days=365 * 1900)


class Span(NamedTuple):
    """The due times of a schedule later than `after` and not later than `until`, if that is not
    None. `@every` counts from `anchor`, and `@once` from `after`."""

    schedule: Schedule
    anchor: datetime
    after: datetime
    until: datetime | None = None

    @property
    def phase(self) -> datetime:
        return self.after if self.schedule.once else self.anchor

    def next(self, after: datetime) -> datetime | None:
        due = self.schedule.next(max(after, self.after), anchor=self.phase)
        return None if due is None or (self.until is not None and due > self.until) else due

    def previous(self, before: datetime) -> datetime | None:
        if self.until is not None:
            before = min(before, self.until + SECOND)
        due = self.schedule.previous(before, anchor=self.phase)
        return None if due is None or due <= self.after else due

    def range(self, after: datetime, last: datetime) -> tuple[datetime, datetime]:
        """The part of a range that the span covers, exclusive and inclusive."""
        return max(after, self.after), last if self.until is None else min(last, self.until)

    def number(self, after: datetime, last: datetime) -> int:
        return self.schedule.count(*self.range(after, last), anchor=self.phase)

    def bits(self, first: int, end: int) -> int:
        """As `Schedule.bits`."""
        begin = max(first, (self.after - EPOCH) // SECOND + 1)
        if self.until is not None:
            end = min(end, (self.until - EPOCH) // SECOND + 1)
        if begin >= end:
            return 0
        return self.schedule.bits(begin, end, anchor=self.phase) << (begin - first)


class Timetable:
    """The due times of all spans; one that several share is one due time.

    It answers as a `Schedule` does, and ignores the anchors that it is given: its spans have their
    own. Nothing is due before `start`, whatever happens to the clock.
    """

    __slots__ = ("spans", "start")

    def __init__(self, spans: Iterable[Span], start: datetime | None = None) -> None:
        self.spans = tuple(spans)
        self.start = start

    def next(self, after: datetime, *, anchor: datetime | None = None) -> datetime | None:
        """The first due time strictly later than `after`."""
        found = (span.next(after) for span in self.spans)
        return min((due for due in found if due is not None), default=None)

    def previous(self, before: datetime, *, anchor: datetime | None = None) -> datetime | None:
        """The last due time earlier than `before`."""
        found = (span.previous(before) for span in self.spans)
        return max((due for due in found if due is not None), default=None)

    def count(self, after: datetime, last: datetime, *, anchor: datetime | None = None) -> int:
        """The number of due times later than `after` and not later than `last`."""
        begun = [span for span in self.spans if span.range(after, last)[0] < last]
        if len(begun) <= 1:
            return sum(span.number(after, last) for span in begun)
        first, end = (after - EPOCH) // SECOND + 1, (last - EPOCH) // SECOND + 1
        count = 0
        for begin in range(first, end, DAY):
            due = 0
            for span in begun:
                due |= span.bits(begin, min(begin + DAY, end))
            count += due.bit_count()
        return count

    def clock_change(self, due: datetime) -> ClockChange | None:
        """How a clock change affects a due time. Instants at which another schedule is due are
        not merged into it."""
        merged: set[datetime] = set()
        reasons: dict[str, None] = {}
        for span in self._due_at(due):
            if (change := span.schedule.clock_change(due)) is not None:
                reasons[change.reason] = None
                merged |= {at for at in change.merged if self.next(at - SECOND) != at}
        return ClockChange(tuple(sorted(merged)), "; ".join(reasons)) if reasons else None

    def zone_of(self, due: datetime) -> ZoneInfo:
        """The time zone of the first schedule that has this due time."""
        return next(iter([*self._due_at(due), *self.spans])).schedule.zone

    def _due_at(self, due: datetime) -> list[Span]:
        return [span for span in self.spans if span.next(due - SECOND) == due]

    def set_back(self, now: datetime) -> Timetable:
        """The timetable after the clock was set back to `now`: what had begun has begun. `@once`
        keeps its due time."""
        return Timetable(
            (
                span
                if span.schedule.once
                else span._replace(after=self._from(min(span.after, now)))
                for span in self.spans
            ),
            self.start,
        )

    def _from(self, after: datetime) -> datetime:
        return after if self.start is None else max(after, self.start - SECOND)


Times = Schedule | Timetable


class Timing(NamedTuple):
    """When a job is due by its definition: its schedules, from `start` to `end`, both included."""

    schedules: tuple[Schedule, ...]
    start: datetime | None = None
    end: datetime | None = None

    @property
    def text(self) -> str:
        """The canonical texts of the schedules, a line each. Stores keep it."""
        return "\n".join(self._by_text())

    @property
    def is_plain(self) -> bool:
        """Whether the due times are those of its only schedule."""
        return len(self.schedules) == 1 and self.start is None and self.end is None

    @property
    def never_fires(self) -> bool:
        """Whether it is known that nothing is due between `start` and `end`."""
        if self.start is None or self.end is None:
            return False
        # When `@every` is due depends on the time at which the schedule is first on.
        if any(one.interval is not None for one in self.schedules):
            return False
        return self.begin(self.start - SECOND).next(self.start - SECOND) is None

    def begin(self, now: datetime) -> Timetable:
        """The due times of a job that is new, or whose schedules are all new."""
        return Timetable(self._spans(now), self.start)

    def go_on(self, before: Sequence[Span], accounted: datetime, now: datetime) -> Timetable | None:
        """The due times after an edit at `now`, if they were those of the spans `before`. Due times
        up to `accounted` are in the ledger. None if no schedule stays, so that all begin."""
        known = {span.schedule.text for span in before}
        if known.isdisjoint(self._by_text()):
            return None
        spans: list[Span] = []
        for text, schedule in self._by_text().items():
            if text not in known:
                spans.append(self._span(schedule, now, now))
                continue
            after = now  # where the span begins that is not over
            for span in before:
                if span.schedule.text != text:
                    continue
                anchor = span.anchor
                if span.until is None or span.until > now:
                    after = min(after, span.after)
                    continue
                past = self._span(schedule, span.anchor, span.after)
                past = past._replace(until=min(past.until or span.until, span.until))
                if past.after < span.until and accounted < span.until:
                    spans.append(past)
            spans.append(self._span(schedule, anchor, after))
        return Timetable(spans, self.start)

    def all_times(self, before: Sequence[Span], anchor: datetime, once: datetime) -> Timetable:
        """The due times without regard to the time of an edit, as if the schedules had always been
        these. The schedules of the spans `before` keep their phases; others count from `anchor`,
        and `@once` from `once`."""
        kept = {span.schedule.text: span for span in before}
        spans = []
        for text, schedule in self._by_text().items():
            span = kept.get(text)
            if schedule.once:
                spans.append(self._span(schedule, anchor, once if span is None else span.after))
            else:
                phase = anchor if span is None else span.anchor
                spans.append(self._span(schedule, phase, _BEFORE_ALL))
        return Timetable(spans, self.start)

    def _spans(self, now: datetime) -> list[Span]:
        return [self._span(schedule, now, now) for schedule in self._by_text().values()]

    def _span(self, schedule: Schedule, anchor: datetime, after: datetime) -> Span:
        if self.start is not None:
            after = max(after, self.start - SECOND)
        return Span(schedule, anchor, after, self.end)

    def _by_text(self) -> dict[str, Schedule]:
        return {schedule.text: schedule for schedule in self.schedules}
