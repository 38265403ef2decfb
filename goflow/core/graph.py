"""The dependencies between tasks.

A `Plan` is the shape of a job at the time of a submit. The store keeps it with the execution, so
editing a job between a crash and a restart does not change an execution that has begun.
"""

import enum
import graphlib
import hashlib
from collections.abc import Iterable, Mapping
from functools import cached_property

import msgspec

from goflow.core.states import ABOUT_FAILURES, State, TriggerRule


class OnEmpty(enum.StrEnum):
    """How a mapped task ends if there is no item."""

    SUCCESS = "success"
    SKIP = "skip"


class Occasion(enum.StrEnum):
    """When a hook runs: after all tasks have ended, if the execution ended so."""

    SUCCESS = "success"
    FAILURE = "failure"
    FINISH = "finish"

    def includes(self, state: State) -> bool:
        """Whether a hook runs for an execution that ends in this state."""
        if self is Occasion.FINISH:
            return True
        return state is (State.SUCCESSFUL if self is Occasion.SUCCESS else State.FAILED)


class PlannedTask(msgspec.Struct, frozen=True, omit_defaults=True):
    """A task as the core needs it; `after` names its upstream tasks.

    A mapped task runs once per item of the list that the task `map_over`, which is upstream of
    it, returns: at most `max_parallel` at once, if that is not None. An empty list makes it
    successful, or skipped if `on_empty` says so. With several tasks in `map_over` it runs once per
    combination of their items, or if `zipped`, once per items at the same place.

    If it maps over a mapped task, it runs `by_item`: its item may start once the same item of that
    task has ended, and the trigger rule is applied to each item. Plans of older versions have it
    False. If it maps over a stream, its item may start once it has been yielded.

    A branch chooses which of the tasks directly downstream of it go on. They wait for it,
    whatever their trigger rules.

    A `repeatable` task may run again after an interruption, though it has no retries.

    A `stream` is a generator, over which tasks are mapped that run on each item as soon as it has
    been yielded.

    A hook has an occasion `hook`, and neither upstream tasks nor items.
    """

    name: str
    after: tuple[str, ...] = ()
    rule: TriggerRule = TriggerRule.ALL_SUCCESSFUL
    retries: int = 0
    map_over: str | tuple[str, ...] | None = None
    max_parallel: int | None = None
    on_empty: OnEmpty = OnEmpty.SUCCESS
    zipped: bool = False
    hook: Occasion | None = None
    branch: bool = False
    repeatable: bool = False
    by_item: bool = False
    stream: bool = False

    @property
    def may_repeat(self) -> bool:
        """Whether it runs again after an interruption."""
        return self.retries > 0 or self.repeatable

    @property
    def lists(self) -> tuple[str, ...]:
        """The tasks that a mapped task maps over; none for another task."""
        over = self.map_over
        if over is None:
            return ()
        return (over,) if isinstance(over, str) else over

    def maps_as(self, other: "PlannedTask") -> bool:
        """Whether both have the same items, for the same values of the tasks they map over."""
        mine, its = (
            (self.lists, self.zipped, self.by_item),
            (other.lists, other.zipped, other.by_item),
        )
        return mine == its


class Plan(msgspec.Struct, frozen=True, dict=True, omit_defaults=True):
    """The tasks of a job in the order they were added, and its hooks. Names of tasks and hooks
    differ."""

    tasks: tuple[PlannedTask, ...]
    hooks: tuple[PlannedTask, ...] = ()

    @cached_property
    def encoded(self) -> bytes:
        """The plan as JSON."""
        return msgspec.json.encode(self)

    @cached_property
    def id(self) -> str:
        """Equal plans have equal ids."""
        return hashlib.sha256(self.encoded).hexdigest()[:32]

    @cached_property
    def downstream(self) -> dict[str, list[str]]:
        """For every task the tasks directly downstream, in the order added."""
        waiting: dict[str, list[str]] = {task.name: [] for task in self.tasks}
        for task in self.tasks:
            for upstream in task.after:
                waiting[upstream].append(task.name)
        return waiting

    @cached_property
    def by_item(self) -> dict[str, tuple[str, ...]]:
        """The tasks that map over a task by item, by its name; empty if there are none."""
        found: dict[str, tuple[str, ...]] = {}
        for task in self.tasks:
            if task.by_item:
                found[task.lists[0]] = (*found.get(task.lists[0], ()), task.name)
        return found

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of the tasks."""
        return frozenset(task.name for task in self.tasks)

    @cached_property
    def streams(self) -> frozenset[str]:
        """The names of the streams."""
        return frozenset(task.name for task in self.tasks if task.stream)

    @cached_property
    def growing(self) -> frozenset[str]:
        """The tasks that map by item over a stream, or over a task that does so."""
        found: set[str] = set()
        frontier = [*self.streams]
        while frontier:
            for task in self.by_item.get(frontier.pop(), ()):
                found.add(task)
                frontier.append(task)
        return frozenset(found)

    @cached_property
    def branches(self) -> frozenset[str]:
        """The names of the branches."""
        return frozenset(task.name for task in self.tasks if task.branch)

    @cached_property
    def asks_for_failures(self) -> bool:
        """Whether a trigger rule tells skips because of a failure from other skips."""
        return any(task.rule in ABOUT_FAILURES for task in self.tasks)

    def following(self, name: str) -> set[str]:
        """The task and all tasks downstream of it."""
        found = {name}
        frontier = [name]
        while frontier:
            for task in self.downstream[frontier.pop()]:
                if task not in found:
                    found.add(task)
                    frontier.append(task)
        return found


def decode_plan(encoded: bytes) -> Plan:
    """The plan that `Plan.encoded` encoded."""
    return _decoder.decode(encoded)


_decoder = msgspec.json.Decoder(Plan)


def find_cycle(after: Mapping[str, Iterable[str]]) -> list[str] | None:
    """The names along a cycle, the first one repeated at the end; None without a cycle."""
    try:
        graphlib.TopologicalSorter(after).prepare()
    except graphlib.CycleError as error:
        cycle: list[str] = error.args[1]
        return cycle
    return None
