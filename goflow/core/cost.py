"""The cost of attempts, its sums, and the progress that a running attempt reports."""

from collections.abc import Iterable, Mapping

import msgspec

Number = int | float

COUNTS = 32  # names that one attempt may count
COUNTS_SUMMED = 100  # names in the sum of a task or an execution; further ones are left out
COUNT_NAME = 64  # characters
MOST = 2**53  # the highest number that is exact in JSON everywhere
TEXT = 300  # characters of the text beside a progress bar


class Cost(msgspec.Struct, frozen=True):
    """The cost of an attempt, or the sum over those of a task, an execution or a day.

    `processor_seconds` of threads, programs and processes are measured, to the millisecond; code on
    the event loop is not. `peak_memory` is in bytes, of programs and processes only; the sum has
    the highest one. `log_bytes` were written to the log. `counts` are those of `Context.count`; a
    sum has those of the attempts that succeeded.
    """

    processor_seconds: float = 0.0
    peak_memory: int = 0
    log_bytes: int = 0
    counts: dict[str, Number] = {}


class Bar(msgspec.Struct, frozen=True, gc=False):
    """The progress of a running attempt: `done` of `total`, which is null if it is unknown, and a
    text. `done` may be above `total`."""

    done: Number
    total: Number | None = None
    text: str = ""


def added(total: Cost | None, cost: Cost, *, counts: bool) -> Cost:
    """The sum with one more cost; its counts are added only if `counts`."""
    before = total or Cost()
    return Cost(
        round(before.processor_seconds + cost.processor_seconds, 3),
        max(before.peak_memory, cost.peak_memory),
        before.log_bytes + cost.log_bytes,
        summed(before.counts, cost.counts) if counts and cost.counts else before.counts,
    )


def summed(before: Mapping[str, Number], more: Mapping[str, Number]) -> dict[str, Number]:
    """The sums of counts, by name; at most `COUNTS_SUMMED` names."""
    sums = dict(before)
    for name, number in more.items():
        if name in sums:
            number += sums[name]
            sums[name] = number if abs(number) <= MOST else float(number)
        elif len(sums) < COUNTS_SUMMED:
            sums[name] = number
    return sums


def with_counts(total: Cost, counted: Iterable[Mapping[str, Number]]) -> Cost:
    """The sum with the counts replaced by the sums of these."""
    counts: dict[str, Number] = {}
    for one in counted:
        counts = summed(counts, one)
    return msgspec.structs.replace(total, counts=counts)
