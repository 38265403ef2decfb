"""Maps local times to instants, across clock changes.

Between two clock changes local time runs evenly; the rules are about where such stretches meet:

- With a wildcard minute or hour, every real local time that matches is due: twice in a repeated
  hour, and never in a skipped one.
- Otherwise only the first pass of a repeated hour is due. Local times skipped by a change of up to
  3 hours are due once, at the first instant after it.

Any change of a zone's UTC offset is a clock change. A time that is not due because of one is merged
into a time that is, see `ClockChange`.
"""

from bisect import bisect_left
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import NamedTuple
from zoneinfo import ZoneInfo

from goflow.core.local_times import DAY, EPOCH, NEVER, LocalTimes

SECOND = timedelta(seconds=1)
_LONGEST_FILLED_GAP = 3 * 3600

_HORIZON = 100 * 366 * DAY  # the longest wait is 40 years, for 29 February on a Sunday
_SOON = 400 * DAY
_LOOK_BACK = 2 * DAY  # a repeated stretch of local time is at most a day long
_PERIOD = 128 * DAY  # clock changes are found and cached for this long at a time
_PROBE = 2 * DAY  # no zone has ever changed its offset twice within four days
_FIRST_PROBE = -62_135_000_000  # a little after the year 1 begins
_LAST_PROBE = 253_402_000_000  # a little before the year 9999 ends


class ClockChange(NamedTuple):
    """How a clock change affects the due time of a schedule with fixed local times.

    Attributes:
        merged: Instants in UTC, oldest first, that this due time replaces. A local time that a
            clock change skips is recorded at the instant that it would have had. A local time
            that comes twice is recorded at its second pass.
        reason: Human-readable sentence.
    """

    merged: tuple[datetime, ...]
    reason: str


class _Stretch(NamedTuple):
    """A stretch of constant UTC offset, and the offset before it; all in seconds."""

    begin: int
    end: int
    before: int
    offset: int


# Cached, because many jobs are due at the same times, and each is asked for twice.
@lru_cache(maxsize=1024)
def next_due(times: LocalTimes, zone: ZoneInfo, now: int) -> int:
    """The first due time later than `now`, or `NEVER`."""
    # Most jobs are due soon, and finding the clock changes of a century takes longer.
    soon = _first_due(times, zone, now + 1, now + _SOON)
    return soon if soon < NEVER else _first_due(times, zone, now + 1, now + _HORIZON)


def _first_due(times: LocalTimes, zone: ZoneInfo, earliest: int, horizon: int) -> int:
    """The first due time from `earliest` on that is before the horizon, or `NEVER`."""
    for stretch in _stretches(zone, earliest, horizon):
        if stretch.begin >= earliest and _fills_gap(times, stretch):
            return stretch.begin
        start = max(_start(times, stretch), earliest)
        if start < stretch.end:
            due = times.first_from(start + stretch.offset) - stretch.offset
            if due < stretch.end:
                return due
    return NEVER


_EXAMINED = 100  # skipped local times of one clock change
_NAMED = 3  # of them in the sentence


def clock_change(times: LocalTimes, zone: ZoneInfo, due: int) -> ClockChange | None:
    """How a clock change affects a due time; None if none does."""
    for period in range((due - 1) // _PERIOD, (due + _LOOK_BACK) // _PERIOD + 1):
        for change, offset in _changes(zone, period):
            before = _offset(zone, change - 1)
            gap = offset - before
            if change + gap <= due < change:
                twice = f"{_clock_time(due + before)} comes twice; it is due the first time"
                return _merge(times, zone, [due - gap], twice)
            if change == due and 0 < gap <= _LONGEST_FILLED_GAP:
                inside = times.between(due + before, due + offset)
                if missing := list(islice(inside, _EXAMINED)):
                    instants = [local - before for local in missing if local > due + before]
                    return _merge(times, zone, instants, _missing(missing, due + offset))
    return None


def _merge(times: LocalTimes, zone: ZoneInfo, instants: list[int], what: str) -> ClockChange:
    merged = [at for at in instants if next_due(times, zone, at - 1) != at]
    return ClockChange(
        tuple(EPOCH + timedelta(seconds=at) for at in merged), f"clock change: {what}"
    )


def _missing(local: list[int], instead: int) -> str:
    if len(local) == 1:
        return f"{_clock_time(local[0])} does not exist; it is due at {_clock_time(instead)}"
    named = [_clock_time(one) for one in local[:_NAMED]]
    if len(local) > _NAMED:
        least = "at least " if len(local) == _EXAMINED else ""
        named.append(f"{least}{len(local) - _NAMED} more")
    listed = f"{', '.join(named[:-1])} and {named[-1]}"
    return f"{listed} do not exist; they are due at {_clock_time(instead)}"


def _clock_time(local: int) -> str:
    return f"{EPOCH + timedelta(seconds=local):{'%H:%M:%S' if local % 60 else '%H:%M'}}"


@lru_cache(maxsize=1024)
def count_due(times: LocalTimes, zone: ZoneInfo, now: int, last: int) -> int:
    """The number of due times later than `now` and not later than `last`."""
    count = 0
    for stretch in _stretches(zone, now + 1, last + 1):
        start = max(_start(times, stretch), now + 1)
        if now < stretch.begin <= last and _fills_gap(times, stretch):
            count += 1
            start = max(start, stretch.begin + 1)  # a time that is due then is the same due time
        end = min(stretch.end, last + 1)
        if start < end:
            count += times.count(start + stretch.offset, end + stretch.offset)
    return count


def bits_due(times: LocalTimes, zone: ZoneInfo, first: int, end: int) -> int:
    """The due times from `first` up to, not including, `end`, as bits: bit i is `first + i`."""
    found = 0
    for stretch in _stretches(zone, first, end):
        if first <= stretch.begin < end and _fills_gap(times, stretch):
            found |= 1 << (stretch.begin - first)
        begin, until = max(_start(times, stretch), first), min(stretch.end, end)
        if begin < until:
            local = times.bits(begin + stretch.offset, until + stretch.offset)
            found |= local << (begin - first)
    return found


def _fills_gap(times: LocalTimes, stretch: _Stretch) -> bool:
    """Whether local times that were skipped before the stretch are due at its beginning."""
    skipped = range(stretch.begin + stretch.before, stretch.begin + stretch.offset)
    return (
        not times.wildcard
        and 0 < len(skipped) <= _LONGEST_FILLED_GAP
        and times.first_from(skipped.start) < skipped.stop
    )


def _start(times: LocalTimes, stretch: _Stretch) -> int:
    """The first instant that may be due: after the repeated local times, unless with a wildcard."""
    repeated = max(0, stretch.before - stretch.offset)
    return stretch.begin if times.wildcard else stretch.begin + repeated


def _stretches(zone: ZoneInfo, instant: int, horizon: int) -> Iterator[_Stretch]:
    """The stretches that end after `instant`, up to the horizon, in order."""
    begin = instant - _LOOK_BACK
    before = offset = _offset(zone, begin)
    for period in range(begin // _PERIOD, horizon // _PERIOD + 1):
        for change, changed in _changes(zone, period):
            if change > begin:
                if change > instant:
                    yield _Stretch(begin, change, before, offset)
                begin, before, offset = change, offset, changed
    yield _Stretch(begin, horizon, before, offset)


@lru_cache(maxsize=4096)
def _changes(zone: ZoneInfo, period: int) -> tuple[tuple[int, int], ...]:
    """The instants in a period at which the zone's offset changes, each with the new offset."""
    found = []
    first = period * _PERIOD
    offset = _offset(zone, first)
    for begin in range(first, first + _PERIOD, _PROBE):
        changed = _offset(zone, begin + _PROBE)
        if changed != offset:
            within = range(begin, begin + _PROBE + 1)
            index = bisect_left(within, True, key=lambda at: _offset(zone, at) == changed)
            found.append((within[index], changed))
            offset = changed
    return tuple(found)


def _offset(zone: ZoneInfo, instant: int) -> int:
    """Seconds that local time is ahead of UTC; constant at both ends of the calendar."""
    at = datetime.fromtimestamp(min(max(instant, _FIRST_PROBE), _LAST_PROBE), zone)
    offset = at.utcoffset()
    assert offset is not None
    return offset // SECOND
