"""The runs of an execution: its tasks, and the items of its mapped tasks.

Only the fold (`goflow.core.progress` and `goflow.core.groups`) changes their states.
`goflow.core.execution` drops results of items, and notes which items are announced.
"""

import functools
from collections import OrderedDict, deque
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple, overload

import msgspec
from msgspec.structs import replace

from goflow.core.graph import PlannedTask
from goflow.core.keys import Item, Key
from goflow.core.result import StoredResult
from goflow.core.states import FINISHED, SkipReason, State, Tally, rule_for
from goflow.core.summary import TaskSummary, Waiting, WhySkipped

ERRORS_TOLD = 3  # of failed items, in the error of their task
ERROR_TOLD = 200  # characters of each


class Run:
    """A task or an item within one execution. `group` is the mapped task of an item, None for a
    task."""

    __slots__ = (
        "attempt",
        "due",
        "finished_at",
        "group",
        "interruptions",
        "key",
        "planned",
        "result",
        "retries_left",
        "retry_at",
        "started_at",
        "state",
        "waiting",
    )

    def __init__(
        self, key: Key, planned: PlannedTask, group: "TaskRun | None" = None, attempt: int = 0
    ) -> None:
        self.key = key
        self.planned = planned
        self.group = group
        self.state = State.NOTSTARTED
        self.attempt = attempt
        self.retries_left = planned.retries
        self.interruptions = 0  # since an attempt last ended by itself
        self.retry_at: datetime | None = None
        self.due: datetime | None = None  # `retry_at` without the skew of the clock
        self.result: msgspec.Raw | StoredResult | None = None
        self.started_at: datetime | None = None  # the last attempt
        self.finished_at: datetime | None = None
        # While it runs, from its first look in vain on.
        self.waiting: Waiting | None = None

    def summary(self) -> TaskSummary:
        """The run in brief. An item has the name of its task."""
        summary = TaskSummary(
            self.planned.name, self.state, self.attempt, self.started_at, self.finished_at
        )
        return summary if self.waiting is None else replace(summary, waiting=self.waiting)

    def reset(self) -> None:
        """Make it ready for another round; attempts go on being counted."""
        self.retries_left = self.planned.retries
        self.interruptions = 0
        self.started_at = self.finished_at = self.retry_at = self.due = self.result = None


class Stream(msgspec.Struct, frozen=True, gc=False):
    """What a generator has yielded so far: the number of `items`, and the `size` of their list as
    JSON in bytes. `round` counts how often a retry by hand had them made anew."""

    round: int = 0
    items: int = 0
    size: int = 0


class TaskRun(Run):
    """A task within one execution. `items` is None unless the task is mapped, and `stream` unless
    it is one; `rounds` counts those of its streams so far. `skip` tells why it was skipped, and
    `chosen` the tasks that a branch chose when it succeeded. `item_attempts` is the highest attempt
    of the items that it had under an earlier plan."""

    __slots__ = ("chosen", "item_attempts", "items", "rounds", "rule", "skip", "stream", "tally")

    def __init__(self, planned: PlannedTask) -> None:
        super().__init__(planned.name, planned)
        self.rule = rule_for(planned.rule, len(planned.after))
        self.tally = Tally(len(planned.after))
        self.items: Items | None = None
        self.skip: WhySkipped | None = None
        self.chosen: tuple[str, ...] | None = None
        self.item_attempts = 0
        self.rounds = 0
        self.stream = Stream() if planned.stream else None
        if planned.map_over is not None:
            self.items = Items()
            self.retries_left = 0  # its items have retries

    def follow(self, planned: PlannedTask) -> list[Run]:
        """Follow another plan, after the end of the task: it keeps its state, its result and the
        number of its attempts. Items that no longer belong to it are dropped, and returned; those
        of another list are outdated."""
        maps_as_before = planned.maps_as(self.planned)
        self.planned = planned
        self.rule = rule_for(planned.rule, len(planned.after))
        self.tally = Tally(len(planned.after))
        if not planned.branch:
            self.chosen = None
        items = self.items
        if planned.map_over is None and items is not None:
            self.item_attempts, self.items = items.top, None
            return list(items.runs or ())
        if planned.map_over is not None and items is None:
            self.items = Items(self.item_attempts)
        elif items is not None:
            for run in items.runs or ():
                run.planned = planned
            items.outdated = items.runs is not None and (items.outdated or not maps_as_before)
        return []

    def summary(self) -> TaskSummary:
        if self.items is None and self.skip is None and self.stream is None:
            if self.waiting is not None:
                return super().summary()
            return TaskSummary(
                self.planned.name, self.state, self.attempt, self.started_at, self.finished_at
            )
        return replace(
            super().summary(),
            items=msgspec.UNSET if self.items is None else self.items.shown(),
            skip=self.skip or msgspec.UNSET,
            yielded=msgspec.UNSET if self.stream is None else self.stream.items,
        )

    @property
    def unreached(self) -> bool:
        """Whether it was skipped because of a failure upstream."""
        return self.skip is not None and self.skip.reason is SkipReason.UPSTREAM_FAILED

    def rejects(self, task: str) -> bool:
        """Whether it is a branch that succeeded and did not choose this task."""
        return self.chosen is not None and task not in self.chosen

    def reset(self) -> None:
        super().reset()
        self.skip = self.chosen = None
        if self.items is not None:
            self.retries_left = 0


class Ended(NamedTuple):
    """An item that has ended, in few bytes."""

    state: State
    attempt: int
    result: msgspec.Raw | StoredResult | bytes | None


class Runs(Sequence[Run]):
    """The items of a mapped task, in order.

    One that has ended may be `folded`: it takes a few bytes then, and a `Run` is made of it
    whenever it is asked for. Such a run has no times. To change it, put it back.
    """

    __slots__ = ("_group", "_runs")

    def __init__(self, group: "TaskRun") -> None:
        self._group = group
        # The bytes are the result of an item whose first attempt was successful.
        self._runs: list[Run | Ended | bytes] = []

    def __len__(self) -> int:
        return len(self._runs)

    @overload
    def __getitem__(self, place: int) -> Run: ...
    @overload
    def __getitem__(self, place: slice) -> list[Run]: ...
    def __getitem__(self, place: int | slice) -> Run | list[Run]:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        run = self._runs[place]
        return run if isinstance(run, Run) else self._unfolded(place, run)

    def state(self, number: int) -> State:
        """The state of an item."""
        run = self._runs[number]
        return State.SUCCESSFUL if isinstance(run, bytes) else run.state

    def result(self, number: int) -> StoredResult | bytes | None:
        """The result of an item, as JSON or where it is."""
        run = self._runs[number]
        result = run if isinstance(run, bytes) else run.result
        return bytes(result) if isinstance(result, msgspec.Raw) else result

    def add(self, number: int, attempt: int) -> None:
        """Add so many items, which have had `attempt` attempts."""
        group, name, planned = self._group, self._group.planned.name, self._group.planned
        first = len(self._runs)
        self._runs += [
            Run(Item(name, index), planned, group, attempt)
            for index in range(first, first + number)
        ]

    def put_back(self, run: Run) -> None:
        """Keep the changes of a run."""
        assert isinstance(run.key, Item)
        self._runs[run.key.number] = run

    def fold(self, number: int) -> None:
        """Keep an item that has ended in few bytes."""
        run = self._runs[number]
        if not isinstance(run, Run) or run.state not in FINISHED:
            return
        result: msgspec.Raw | StoredResult | bytes | None = run.result
        if isinstance(result, msgspec.Raw):
            result = _shared(bytes(result))
        if run.state is State.SUCCESSFUL and run.attempt == 1 and isinstance(result, bytes):
            self._runs[number] = result
        else:
            self._runs[number] = _ended(run.state, run.attempt, result)

    def _unfolded(self, number: int, ended: Ended | bytes) -> Run:
        if isinstance(ended, bytes):
            ended = Ended(State.SUCCESSFUL, 1, ended)
        group = self._group
        run = Run(Item(group.planned.name, number), group.planned, group, ended.attempt)
        run.state = ended.state
        result = ended.result
        run.result = msgspec.Raw(result) if isinstance(result, bytes) else result
        return run


_NULL = b"null"


def _shared(result: bytes) -> bytes:
    return _NULL if result == _NULL else result


@functools.lru_cache(maxsize=1000)
def _ended(state: State, attempt: int, result: StoredResult | bytes | None) -> Ended:
    return Ended(state, attempt, result)


class Items:
    """The items of a mapped task. `runs` is None until they are known.

    `error` says why there are none, if the value to map over is unsuitable. They are `outdated`
    once the task that they map over was run again without them. `announced` counts the items
    that `newly_ready` has returned and that wait to start. `keys` has a key for each item, or is
    empty. `lost` has the items that were skipped because of a failure or a cancel before them,
    with the reason.
    """

    __slots__ = (
        "_before",
        "_due",
        "_let",
        "_next",
        "_numbers",
        "announced",
        "counts",
        "error",
        "failures",
        "folds",
        "keys",
        "lost",
        "outdated",
        "runs",
        "top",
    )

    def __init__(self, top: int = 0) -> None:
        self.runs: Runs | None = None
        self.folds = False  # whether items that have ended are folded
        self.counts = dict.fromkeys(State, 0)
        self.error = ""
        self.outdated = False
        self.keys: tuple[str, ...] = ()
        self._numbers: dict[str, int] | None = None  # of the items, by key
        self.failures: dict[int, str] = {}  # the first errors of failed items, by index
        self.announced = 0
        self._next = 0  # all items before have been taken
        # Of a group that runs by item: the items that may start, to be taken.
        self._let: OrderedDict[int, None] | None = None
        self.lost: dict[int, SkipReason] = {}
        # Items whose next attempt is due, to be taken, and their attempts so far.
        self._due: deque[tuple[Run, int]] = deque()
        self.top = top  # the highest attempt of an item so far
        self._before = top  # the same before the first of these items was created

    @property
    def open(self) -> int:
        """The number of items that have not ended."""
        counts = self.counts
        return counts[State.NOTSTARTED] + counts[State.UPFORRETRY] + counts[State.RUNNING]

    @property
    def running(self) -> int:
        return self.counts[State.RUNNING]

    def shown(self) -> dict[str, int]:
        """The number of items, in total and in each state, without zeros."""
        shown = {"total": 0 if self.runs is None else len(self.runs)}
        for state, number in self.counts.items():
            if number:
                shown[state.value] = number
        return shown

    def create(self, group: TaskRun, number: int, keys: tuple[str, ...] = ()) -> None:
        """Create the items that a retry has not kept. New items, those to come included, continue
        to count the attempts of those they replace, since logs and results are kept by attempt."""
        if self.runs is None:
            self.runs = Runs(group)
            self.keys, self._numbers = keys, None
            self._before = self.top
        self.extend(number - len(self.runs))

    def extend(self, number: int) -> int:
        """Add so many items; the number of the first one."""
        assert self.runs is not None
        first = len(self.runs)
        self.runs.add(number, self._before)
        self.counts[State.NOTSTARTED] += number
        return first

    def key(self, index: int) -> str | None:
        """The key of an item, if it has one."""
        return self.keys[index] if self.keys else None

    @property
    def numbers(self) -> dict[str, int]:
        """The numbers of the items by key."""
        if self._numbers is None:
            self._numbers = {key: index for index, key in enumerate(self.keys)}
        return self._numbers

    def started(self, attempt: int) -> None:
        self.top = max(self.top, attempt)

    def failed(self, index: int, error: str) -> None:
        """Keep the error of an item for that of its task, if it is among the first."""
        if len(self.failures) < ERRORS_TOLD:
            first = error.strip().rpartition("\n")[2]  # of a traceback, the exception
            self.failures[index] = first[:ERROR_TOLD]

    @property
    def failure(self) -> str:
        """The error of the task when all items have ended and some have failed."""
        total = 0 if self.runs is None else len(self.runs)
        failed = self.counts[State.FAILED]
        told = "".join(f"\n{self._title(index)}: {error}" for index, error in self.failures.items())
        more = "\n…" if failed > len(self.failures) else ""
        return f"{failed:,} of {total:,} items failed{told}{more}"

    def _title(self, index: int) -> str:
        return f"item {index} {self.keys[index]!r}" if self.keys else f"item {index}"

    def is_due(self, run: Run) -> None:
        """The next attempt of an item is due."""
        self._due.append((run, run.attempt))

    def wait(self) -> None:
        """Let no item start until `let` names it."""
        self._let = OrderedDict()

    def let(self, number: int) -> None:
        """An item may start."""
        assert self._let is not None
        self._let[number] = None

    def close(self, number: int) -> None:
        """An item may not start any more, or has started."""
        if self._let is not None:
            self._let.pop(number, None)

    def is_unreached(self, number: int) -> bool:
        """Whether an item was skipped because of a failure before it."""
        return bool(self.lost) and self.lost.get(number) is SkipReason.UPSTREAM_FAILED

    @property
    def loss(self) -> SkipReason | None:
        """The reason to skip the task, if items are lost."""
        if not self.lost:
            return None
        reasons = set(self.lost.values())
        return next(one for one in SkipReason if one in reasons)

    def mend(self, run: Run) -> None:
        """An item that had ended was marked, or runs again."""
        assert isinstance(run.key, Item)
        assert self.runs is not None
        number = run.key.number
        self.runs.put_back(run)
        self.ended(number)
        self.failures.pop(number, None)
        self.lost.pop(number, None)

    def take(self, most: int) -> Iterator[Run]:
        """The next items to start, at most so many; each is returned once."""
        runs = self.runs or ()
        while most > 0 and self._due:
            run, attempt = self._due.popleft()
            if run.state is State.UPFORRETRY and run.attempt == attempt:
                most -= 1
                yield run
        while most > 0 and self._let:
            most -= 1
            yield runs[self._let.popitem(last=False)[0]]
        while most > 0 and self._let is None and self._next < len(runs):
            run = runs[self._next]
            self._next += 1
            if run.state is State.NOTSTARTED:
                most -= 1
                yield run

    def restart(self, *, anew: bool, only: int | None, also: Collection[int] = ()) -> list[Run]:
        """Prepare another round. `anew` drops all items. Otherwise those that did not succeed run
        again and those of `also`, or `only` the one. Returns the items that were dropped or
        reset, as they were before."""
        self.error = ""
        self._due.clear()
        self._let = None
        self.announced = self._next = 0
        if anew or self.runs is None:
            dropped, self.runs = list(self.runs or ()), None
            self.keys, self._numbers = (), None
            self.outdated = False
            self.failures.clear()
            self.lost.clear()
            self.counts = dict.fromkeys(State, 0)
            return dropped
        if only is not None:
            again = [self.runs[only]]
            self.mend(again[0])
        else:
            self.failures.clear()
            self.lost.clear()
            again = [
                self.runs[number]
                for number in range(len(self.runs))
                if self.runs.state(number) is not State.SUCCESSFUL or number in also
            ]
        for run in again:
            self.runs.put_back(run)
        return again

    def ended(self, number: int) -> None:
        """An item has ended, and its run is as it stays."""
        if self.folds and self.runs is not None:
            self.runs.fold(number)

    def fold(self) -> None:
        """From now on, keep items that have ended in few bytes, without their times."""
        self.folds = True
        for number in range(len(self.runs or ())):
            self.ended(number)

    def drop_results(self) -> None:
        """Drop the results of all items."""
        for number in range(len(self.runs or ())):
            assert self.runs is not None
            run = self.runs[number]
            if run.result is not None:
                run.result = None
                self.runs.put_back(run)
                self.ended(number)


def unfinished(items: Items) -> list[Run]:
    """The items that have not ended."""
    runs = items.runs
    if runs is None:
        return []
    return [runs[one] for one in range(len(runs)) if runs.state(one) not in FINISHED]
