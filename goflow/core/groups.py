"""Mapped tasks, or groups, and their items, within the fold.

A group has no attempts of an operator; its items have. It runs from `Mapped` until all items have
ended, and then ends as they did. If it is cancelled, the items that wait end with it.

A group that is mapped over another group runs by item. That other group is its source. It begins
once the items of its source are known and all other upstream tasks allow it. Each of its items
waits for the same item of the source, whose end then counts for the trigger rule in place of the
end of the source. An item that is skipped because of a failure or a cancel before it is lost. A
group with lost items is skipped in the end, unless others failed or were cancelled.

A group that is mapped over a stream, which is a generator, runs by item as well. Its source is the
stream: each item that has been yielded may start, unless the generator has failed for good. The
group grows while the generator yields, and so does a group that is mapped over it. Such a group
does not end before its source. It is skipped in the end if the end of its source rules it out.
"""

from collections import OrderedDict
from datetime import datetime

from goflow.core.events import Mapped, Submitted, TaskFact, TaskSkipped
from goflow.core.graph import OnEmpty, Plan
from goflow.core.keys import Item, Key
from goflow.core.result import size_of
from goflow.core.runs import Items, Run, TaskRun, unfinished
from goflow.core.standing import Standing, refuse
from goflow.core.states import FINISHED, RULES, SkipReason, State, Tally, Verdict, skip_reason

# Under names of their own, since Python 3.11 takes long to find a member of an enumeration.
_NOTSTARTED, _RUNNING = State.NOTSTARTED, State.RUNNING
_WAIT, _RUN, _SKIP = Verdict.WAIT, Verdict.RUN, Verdict.SKIP


class Groups(Standing):
    """The groups of an execution: which of them are to begin, run or are to end."""

    def __init__(self, plan: Plan, submitted: Submitted) -> None:
        super().__init__(plan, submitted)
        self._to_map: set[str] = set()  # their items are not known yet, and they are ready
        self._unmapped: dict[str, None] = {}  # of those, not returned by `groups_to_map` yet
        self._groups: dict[str, None] = {}  # running
        self._to_announce: dict[str, None] = {}  # running, and there may be items to announce
        self._to_end: OrderedDict[str, None] = OrderedDict()  # no item goes on
        self._joining: set[str] = set()  # of those, returned by `groups_to_join`
        self._by_item = plan.by_item
        self._streams = plan.streams
        self._growing = plan.growing
        # Of groups that run by item, and are not being cancelled: the rule can no longer be met.
        self._items_to_skip: OrderedDict[Item, None] = OrderedDict()

    def is_ready(self, key: Key) -> bool:
        """Whether a task or item may start now."""
        if key not in self._ready or self.is_cancelling(key):
            return False
        return isinstance(key, str) or self._has_room(self.tasks[key.task])

    def _has_room(self, group: TaskRun) -> bool:
        """Whether another item of a group may start."""
        most = group.planned.max_parallel
        return most is None or items_of(group).running < most

    # -- the beginning ---------------------------------------------------------------

    def _check_mapped(self, fact: Mapped, group: TaskRun) -> None:
        """Refuse items that a group cannot have."""
        known = items_of(group).runs
        if fact.items < 0 or (fact.error and fact.items):
            refuse(fact, "with a wrong number of items")
        grows = group.planned.name in self._growing
        if known is not None and (
            fact.error or (fact.items < len(known) if grows else fact.items != len(known))
        ):
            refuse(fact, f"while {len(known)} items are known")
        if fact.keys and (
            known is not None or not len(set(fact.keys)) == len(fact.keys) == fact.items
        ):
            refuse(fact, "with wrong keys")
        if group.planned.by_item:
            total = self._total(group)
            is_plain = not total and self._has_plain_list(group)
            if (fact.items != total and not is_plain) or (total and (fact.error or fact.keys)):
                refuse(fact, f"while the task that it maps over has {total} items")

    def _create(self, fact: Mapped, group: TaskRun) -> None:
        """Create the items of a group that begins."""
        name, items, source = group.planned.name, items_of(group), self._source(group)
        items.create(group, fact.items, fact.keys if source is None else source.keys)
        items.error = fact.error
        self._withdraw_group(name)
        self._groups[name] = self._to_announce[name] = None
        if self._total(group):
            items.wait()
            self._judge_items(group)
        self._check_end(group)

    def _has_list(self, task: TaskRun) -> bool:
        """Whether the items of a mapped task can be known now, whatever its trigger rule: the
        tasks that it maps over have ended. Those of a source are known before it ends."""
        return self._total(task) > 0 or all(
            self.tasks[one].state in FINISHED for one in task.planned.lists
        )

    def _withdraw(self, task: Run) -> None:
        """Neither start nor skip a run."""
        key = task.key
        if self._untold:
            self._untold.pop(key, None)
        if isinstance(key, str):
            self._ready.discard(key)
            self._to_skip.pop(key, None)
        elif task.group is not None:
            items = items_of(task.group)
            if key in self._ready:
                self._ready.remove(key)
                items.announced -= 1
                self._to_announce[key.task] = None
            if task.planned.by_item:
                items.close(key.number)
                self._items_to_skip.pop(key, None)
        self._unannounced.pop(key, None)

    def _withdraw_group(self, name: str) -> None:
        """Do not look for the items of a group, or announce more of them."""
        self._to_map.discard(name)
        self._unmapped.pop(name, None)
        self._to_announce.pop(name, None)

    # -- the end ---------------------------------------------------------------------

    def _move(self, task: Run, after: State) -> State:
        """Set the state of a run; returns the one before."""
        before = task.state
        group = task.group
        counts = self._count if group is None else items_of(group).counts
        if self.hooks and task.key in self.hooks:
            counts = self._hook_count
        counts[before] -= 1
        counts[after] += 1
        task.state = after
        if task.waiting is not None:
            task.waiting = None
        return before

    def _end_item(self, run: Run, before: State) -> None:
        key = run.key
        if before is _RUNNING:
            del self._running[key]
        else:
            self._to_cancel.pop(key, None)
            self._withdraw(run)
        self._cancel_requested.pop(key, None)
        assert run.group is not None
        self._item_stopped(run.group)
        if self._by_item:
            self._judge_over(run)
        items_of(run.group).ended(number_of(run))

    def _item_stopped(self, group: TaskRun) -> None:
        """There may be room for another item, or all have ended."""
        self._to_announce[group.planned.name] = None
        self._check_end(group)

    def _check_end(self, group: TaskRun) -> None:
        """Note a group that is to end: no item goes on."""
        items, name = items_of(group), group.planned.name
        if group.state is not _RUNNING:
            return
        if not items.open or (not items.running and self.is_cancelling(name)):
            if self.may_grow(group) and not self.is_cancelling(name):
                return
            self._to_end[name] = None

    def may_grow(self, group: TaskRun) -> bool:
        """Whether its source, which goes on, may yield more items."""
        planned = group.planned
        if planned.name not in self._growing:
            return False
        return self.tasks[planned.lists[0]].state not in FINISHED

    def _check_ending(self, fact: TaskFact) -> None:
        """Refuse the end of a group while items go on."""
        if fact.task not in self._to_end:
            refuse(fact, "while items go on")

    def _is_skipped_in_the_end(self, fact: TaskSkipped, group: TaskRun, items: Items) -> bool:
        """Whether a running group is skipped like that, once no item goes on."""
        if fact.task not in self._to_end or items.open or fails(items):
            return False
        if not items.runs:
            empty = group.planned.on_empty is OnEmpty.SKIP
            return empty and fact.attempt in (0, group.attempt)
        return fact.attempt == group.attempt and fact.reason is self.loss(group) is not None

    def loss(self, group: TaskRun) -> SkipReason | None:
        """The reason to skip a group of which no item goes on, if there is one: items are lost, or
        more would have come."""
        items, planned = items_of(group), group.planned
        if items.lost or planned.name not in self._growing or not items.runs:
            return items.loss
        if not self._total(group):
            return None
        source = self.tasks[planned.lists[0]]
        if source.state not in FINISHED:  # the group is being cancelled
            return None
        tally = group.tally.and_one(source.state, source.unreached)
        return skip_reason(planned.rule, tally) if group.rule(tally) is _SKIP else None

    def _end_group(self, group: TaskRun, items: Items, at: datetime) -> None:
        """Forget a group that has ended; what waits of its items is cancelled."""
        name = group.planned.name
        self._withdraw_group(name)
        self._groups.pop(name, None)
        self._to_end.pop(name, None)
        self._joining.discard(name)
        if items.open:
            for run in unfinished(items):
                self._move(run, State.CANCELLED)
                run.finished_at = at
                self._to_cancel.pop(run.key, None)
                self._cancel_requested.pop(run.key, None)
                self._withdraw(run)
                if self._by_item:
                    self._judge_over(run)
                items.ended(number_of(run))

    # -- another round ---------------------------------------------------------------

    def _restart(
        self, group: TaskRun, again: set[str], only: int | None, kept: dict[str, set[int]]
    ) -> None:
        """Prepare the items of a group for another round, as `Retried` says. `kept` has the
        groups that keep items, with those that run again; this one is added."""
        planned, items = group.planned, items_of(group)
        upstream = again.intersection(planned.after)
        also = set[int]()
        if planned.by_item and (over := planned.lists[0]) in kept:
            upstream.discard(over)
            also = kept[over]
        if only is None:
            successful = items.counts[State.SUCCESSFUL] == len(items.runs or ())
            if planned.name in self._growing and (total := self._total(group)):
                # It may have ended before the last item came.
                successful = successful and len(items.runs or ()) == total
            anew = (successful and not also) or items.outdated or bool(upstream)
        else:
            anew = planned.by_item and planned.lists[0] in upstream
        restarted = items.restart(anew=anew, only=only, also=also)
        if items.runs is not None:
            kept[planned.name] = {number_of(run) for run in restarted}
        for run in restarted:
            self.result_bytes -= size_of(run.result)
            self._counted.pop(run.key, None)
            if not anew:
                self._move(run, _NOTSTARTED)
                run.reset()

    def _outdate(self, task: TaskRun, upstream: str) -> None:
        """Note that an upstream task runs again: its list is another one then."""
        if task.items is not None and upstream in task.planned.lists:
            task.items.outdated = task.items.runs is not None

    # -- item by item ----------------------------------------------------------------

    def _source(self, task: TaskRun) -> Items | None:
        """The items of the group that a task maps over by item; None for another task, for one
        that maps over a stream, and while there are none."""
        if not task.planned.by_item or task.planned.lists[0] in self._streams:
            return None
        items = items_of(self.tasks[task.planned.lists[0]])
        return items if items.runs else None

    def _total(self, task: TaskRun) -> int:
        """The number of items of the source of a task that runs by item, so far; 0 for others."""
        if not task.planned.by_item:
            return 0
        source = self.tasks[task.planned.lists[0]]
        if source.items is not None:
            return len(source.items.runs or ())
        # Under an earlier plan it may have been no stream: then it has a list, and has ended.
        return 0 if source.stream is None else source.stream.items

    def _has_plain_list(self, task: TaskRun) -> bool:
        """Whether the source of a task that runs by item is a list from an earlier plan."""
        source = self.tasks[task.planned.lists[0]]
        return source.items is None and source.stream is None

    def _counts_items_of(self, task: TaskRun, upstream: str) -> bool:
        """Whether the ends of the items of an upstream task count for a task, and its own end
        does not."""
        planned = task.planned
        return planned.by_item and upstream in planned.lists and self._total(task) > 0

    def _verdict_by_item(self, group: TaskRun) -> Verdict:
        """The verdict on a group whose trigger rule waits. It begins once its source alone is
        still to be counted."""
        tally = group.tally
        if not self._total(group) or tally.done < tally.total - 1:
            return _WAIT
        if RULES[group.planned.rule](tally) is not _SKIP:
            return _RUN
        # The rule waits to know whether a failure is the reason of the skip.
        return _SKIP if self.tasks[group.planned.lists[0]].state in FINISHED else _WAIT

    def whole_tally(self, task: TaskRun) -> Tally:
        """The tally of a task that is skipped. The end of a source counts in it."""
        if self._total(task):
            source = self.tasks[task.planned.lists[0]]
            if source.state in FINISHED:
                return task.tally.and_one(source.state, source.unreached)
        return task.tally

    def ending_of_item(self, group: str, number: int) -> tuple[State, bool]:
        """The state of an item, and whether it was skipped because of a failure before it. An
        item of a stream is successful, unless the generator ends otherwise."""
        if group in self._streams:
            source = self.tasks[group]
            if source.state not in FINISHED:
                return State.SUCCESSFUL, False
            return source.state, source.unreached
        items = items_of(self.tasks[group])
        assert items.runs is not None
        return items.runs.state(number), items.is_unreached(number)

    def item_tally(self, group: TaskRun, number: int) -> Tally | None:
        """The tally of an item of a group that runs by item; None while the same item of the
        source goes on."""
        state, unreached = self.ending_of_item(group.planned.lists[0], number)
        return group.tally.and_one(state, unreached) if state in FINISHED else None

    def _item_verdict(self, group: TaskRun, number: int) -> Verdict:
        """The verdict of the trigger rule on an item of a group that runs by item."""
        tally = self.item_tally(group, number)
        return _WAIT if tally is None else group.rule(tally)

    def _judge_over(self, run: Run) -> None:
        """Judge the same item of each group that maps over the group of an item, by item."""
        key = run.key
        assert isinstance(key, Item)
        for name in self._by_item.get(key.task, ()):
            if (group := self.tasks[name]).state is _RUNNING:
                self._judge_item(group, items_of(group), key.number)

    def _judge_items(self, group: TaskRun) -> None:
        """Judge all items of a group that runs by item."""
        items = items_of(group)
        if group.state is _RUNNING:
            for number in range(len(items.runs or ())):
                self._judge_item(group, items, number)

    def _judge_item(self, group: TaskRun, items: Items, number: int) -> None:
        """Let an item that waits become ready or be skipped, if its trigger rule has decided."""
        assert items.runs is not None
        if items.runs.state(number) is not _NOTSTARTED:
            return
        run = items.runs[number]
        key = run.key
        if self.is_cancelling(key):
            return
        assert isinstance(key, Item)
        found = self._item_verdict(group, number)
        if found is _RUN:
            self._items_to_skip.pop(key, None)
            if key not in self._ready:
                items.let(number)
                self._to_announce[key.task] = None
            return
        self._withdraw(run)
        if found is _SKIP:
            self._items_to_skip[key] = None

    # -- streams ---------------------------------------------------------------------

    def _grow(self, source: str, number: int) -> None:
        """Let the groups over a stream, or over a group that has grown, grow by so many items."""
        for name in self._by_item.get(source, ()):
            group = self.tasks[name]
            if group.state is _RUNNING:
                items = items_of(group)
                first = items.extend(number)
                for index in range(first, first + number):
                    self._judge_item(group, items, index)
                self._grow(name, number)

    def _source_ended(self, group: TaskRun) -> None:
        """The source of a group that grows has ended: there are no more items."""
        if group.state is _RUNNING:
            source = group.planned.lists[0]
            if source in self._streams and self.tasks[source].state is not State.SUCCESSFUL:
                self._judge_items(group)
            self._check_end(group)

    def items_ahead(self, stream: str) -> int | None:
        """The number of items of a stream that have not ended, in the group over it that is the
        furthest behind; None if no group runs, or may run before the stream ends."""
        found: int | None = None
        frontier = [stream]
        while frontier:
            for name in self._by_item.get(frontier.pop(), ()):
                frontier.append(name)
                group = self.tasks[name]
                if self.is_cancelling(name):
                    continue
                if group.state is _RUNNING:
                    found = max(found or 0, items_of(group).open)
                elif self._begins_with_items(group):
                    found = max(found or 0, self._total(group))
        return found

    def _begins_with_items(self, group: TaskRun) -> bool:
        """Whether a group that waits begins once its source has items."""
        tally = group.tally
        return (
            group.state is _NOTSTARTED
            and tally.done == tally.total - 1
            and RULES[group.planned.rule](tally) is not _SKIP
        )

    def _lose(self, run: Run, reason: SkipReason | None) -> None:
        """Note the reason of the skip of an item, if the item is lost."""
        if run.group is None or not run.planned.by_item:
            return
        number, source = number_of(run), self._source(run.group)
        if reason in (SkipReason.UPSTREAM_FAILED, SkipReason.UPSTREAM_CANCELLED) or (
            reason is SkipReason.UPSTREAM_SKIPPED and (source is None or number in source.lost)
        ):
            assert reason is not None
            items_of(run.group).lost[number] = reason


def items_of(group: TaskRun) -> Items:
    """The items of a group."""
    assert group.items is not None
    return group.items


def items_if_mapped(task: Run) -> Items | None:
    """The items of a task; None if it is an item, or not mapped."""
    return task.items if isinstance(task, TaskRun) else None


def number_of(run: Run) -> int:
    """The number of an item."""
    assert isinstance(run.key, Item)
    return run.key.number


def fails(items: Items) -> bool:
    """Whether a group can only fail or be cancelled."""
    return bool(items.error or items.counts[State.FAILED] or items.counts[State.CANCELLED])
