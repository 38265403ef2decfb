"""What must follow from what tasks did and from what is committed, stated without the engine.

`heard` is called with each committed fact, `check` when everything has ended. They know what each
operator returned or raised, and the jobs as data.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import msgspec

from goflow.core.events import (
    AnyFact,
    AttemptFailed,
    ChildStarted,
    Dispatched,
    Retried,
    TaskCancelled,
    TaskFailed,
    TaskSkipped,
    TaskStarted,
    TaskSucceeded,
)
from goflow.core.execution import Execution
from goflow.core.graph import Plan, PlannedTask
from goflow.core.keys import Key
from goflow.core.result import StoredResult
from goflow.core.states import SkipReason, State
from goflow.core.summary import WHY
from goflow.errors import Later, Skip
from goflow.errors import TaskFailed as Fails
from tests.core.histories import assert_ended_by_the_rules
from tests.core.model import Model
from tests.simulation import yielding
from tests.simulation.jobs import PARAMS, TaskSpec, is_skipped

if TYPE_CHECKING:
    from tests.simulation.world import World

ENDS = TaskSucceeded | TaskFailed | AttemptFailed | TaskSkipped | TaskCancelled
Place = tuple[str, Key, int]  # of an attempt
# How errors begin that goflow gives to an attempt whose operator returned.
REFUSALS = (
    "interrupted", "timed out", "the result", "the branch chose", "a branch must", "job '",
    "the shared state", "the reducer", "an action was not kept", "a defect", *yielding.REFUSALS,
)  # fmt: skip
# The seconds between the due times of schedules that are due at even distances.
DISTANCES = {
    "@every 7s": 7, "@every 45s": 45, "@every 10m": 600, "* * * * *": 60, "*/5 * * * *": 300,
    "30 */20 * * * *": 1200, "0 3 * * *": 86400,
    "CRON_TZ=Europe/Berlin 15,45 * * * *": 1800,
}  # fmt: skip


class Oracle:
    """Compares what is committed with what must be."""

    def __init__(self, world: "World") -> None:
        self.world = world

    def hold(self, holds: object, problem: str) -> None:
        if not holds:
            self.world.problems.append(problem)

    def spec(self, execution: Execution, name: str) -> TaskSpec | None:
        """A task or a hook as it is in the user's file now."""
        job = self.world.jobs[execution.job]
        of_job = [*job.tasks, *(hook for _, hook in job.hooks)]
        return next((one for one in of_job if one.name == name), None)

    # -- with each fact ------------------------------------------------------------------

    def heard(self, execution: Execution, fact: AnyFact) -> None:
        """A fact is committed."""
        self.world.rounds.heard(execution, fact)
        match fact:
            case TaskSkipped(reason=SkipReason.CONDITION):
                self._skipped_by_condition(execution, fact)
            case TaskSucceeded() | TaskFailed() | AttemptFailed():
                spec = self.spec(execution, fact.task)
                if spec is not None and spec.runs is not None and not self._is_group(fact, spec):
                    self._ran_a_job(execution, spec, fact)

    def _is_group(self, fact: Any, spec: TaskSpec) -> bool:
        return spec.map_over is not None and fact.item is None

    def _skipped_by_condition(self, execution: Execution, fact: TaskSkipped) -> None:
        spec = self.spec(execution, fact.task)
        place = execution.id, fact.key, fact.attempt
        self.hold(place not in self.world.begun, f"{place} ran, and was skipped by its condition")
        if spec is None:
            return
        results = self.world.results(execution, fact.key)
        true = spec.when is None or self.world.holds(spec, execution, fact.attempt, results)
        self.hold(not true, f"{place} was skipped, though {spec.when} holds")

    def _ran_a_job(
        self, execution: Execution, spec: TaskSpec, fact: TaskSucceeded | TaskFailed | AttemptFailed
    ) -> None:
        """The result of a task that runs a job is that of its child, or its failure is."""
        disk, key = self.world.disk, fact.key
        children = [
            one
            for one in disk.facts[execution.id]
            if isinstance(one, ChildStarted) and one.key == key
        ]
        where = f"{execution.id} {key}, attempt {fact.attempt}"
        first = self._first_of(execution, fact)
        if not isinstance(fact, TaskSucceeded):
            said = fact.error.partition("\n")[0]
            for state in (State.FAILED, State.CANCELLED):
                if said.endswith(f"of job {spec.runs!r} is {state}"):
                    child = disk.executions[children[-1].child]
                    self.hold(child.id in said, f"{where}: {said}, and its child is {child.id}")
                    known = child.state is state or self._was_retried(child)
                    self.hold(known, f"{where}: {said}, and it is {child.state}")
                    own = children[-1].attempt >= first
                    self.hold(own, f"{where}: {said}, which attempt {children[-1].attempt} started")
            return
        self.hold(children, f"{where} succeeded, and has started nothing")
        if not children:
            return
        self.hold(children[-1].attempt >= first, f"{where} succeeded by the child of {children}")
        child = disk.executions[children[-1].child]
        result = self.world.value(execution.id, fact.stored or fact.result)
        if isinstance(result, str):
            self.hold(result == child.id, f"{where}: {result} is not {child.id}")
        elif not self._was_retried(child):
            tasks = [(name, run) for name, run in child.tasks.items() if run.state == "successful"]
            expected = {
                name: self.world.value(child.id, run.result)
                for name, run in tasks
                if run.result is not None and not _is_object(run.result)
            }
            result = {name: result.get(name, "missing") for name in expected}
            ended = child.state is State.SUCCESSFUL
            self.hold(ended, f"{where} succeeded, and {child.id} is {child.state}")
            self.hold(result == expected, f"{where}: {result} is not {expected}")

    def _first_of(
        self, execution: Execution, fact: TaskSucceeded | TaskFailed | AttemptFailed
    ) -> int:
        """The first of the attempts that are one with that of the fact, since the end of the server
        interrupted those before it."""
        first = fact.attempt
        for one in reversed(self.world.disk.facts[execution.id]):
            if isinstance(one, Retried) and fact.task in one.tasks:
                break
            if isinstance(one, AttemptFailed) and one.key == fact.key and one.attempt < first:
                if not one.interrupted:
                    break
                first = one.attempt
        return first

    def _was_retried(self, execution: Execution) -> bool:
        """Whether a client has changed the execution since it ended first."""
        facts = self.world.disk.facts[execution.id]
        return any(isinstance(fact, Retried) or getattr(fact, "finished", None) for fact in facts)

    # -- at the end ----------------------------------------------------------------------

    def check(self) -> None:
        """Check everything that has happened."""
        for execution in self.world.disk.executions.values():
            facts = self.world.disk.facts[execution.id]
            self._check_rules(execution, facts)
            self._check_operators(execution, facts)
            self._check_actions(execution, facts)
            self._check_children(execution, facts)
            self._check_due(execution)
        self.world.rounds.check()

    def _check_rules(self, execution: Execution, facts: list[AnyFact]) -> None:
        """The model of the core's tests allows each fact, and comes to the same end."""
        try:
            model = Model.of(self.world.disk.plans[execution.id], facts)
            states = {name: task.state for name, task in execution.tasks.items()}
            assert (model.states, model.state) == (states, execution.state)
            is_edited = any(isinstance(fact, Retried) and fact.plan for fact in facts)
            if not execution.has_mapped_tasks and not is_edited:
                assert_ended_by_the_rules(execution, facts)
        except AssertionError as error:
            self.hold(False, f"{execution.id} of {execution.job} breaks a rule: {error!r}")

    def _check_operators(self, execution: Execution, facts: list[AnyFact]) -> None:
        """Each attempt has ended as its operator did."""
        plan = _by_name(self.world.disk.plans[execution.id])
        for fact in facts:
            if isinstance(fact, Retried) and fact.plan is not None:
                plan = _by_name(fact.plan)
            if not isinstance(fact, ENDS) or not getattr(fact, "attempt", 0):
                continue
            planned, spec = plan[fact.task], self.spec(execution, fact.task)
            is_group = planned.map_over is not None and fact.item is None
            if is_group or spec is None or spec.runs is not None:
                continue
            place = execution.id, fact.key, fact.attempt
            known, end = place in self.world.acted, self.world.acted.get(place)
            told = f"{place} ended by {fact}, and its operator by {end!r}"
            match fact:
                case TaskSucceeded():
                    self.hold(known and not isinstance(end, BaseException), told)
                    value = self.world.value(execution.id, fact.stored or fact.result)
                    self.hold(value == end, f"{told}; kept is {value!r}")
                    if planned.branch:
                        names = [end] if isinstance(end, str) else end or []
                        self.hold(fact.chosen == tuple(dict.fromkeys(names)), told)
                    if fact.kept is not None:
                        for file in fact.kept.files:
                            body = self.world.artifact(execution.id, file.sha256)
                            text = f"{execution.id} {fact.task} {fact.attempt}"
                            self.hold(body == text.encode(), f"{told}: {file} is {body!r}")
                case TaskSkipped(reason=SkipReason.ITSELF):
                    self.hold(isinstance(end, Skip) and str(end)[:WHY] == fact.why, told)
                case TaskFailed() | AttemptFailed():
                    self._check_failure(fact, end, known, told)

    def _check_failure(
        self, fact: TaskFailed | AttemptFailed, end: Any, known: bool, told: str
    ) -> None:
        by_goflow = fact.error.startswith(REFUSALS)
        if not known or isinstance(end, Later):  # it did not end
            spared = fact.error.startswith((*REFUSALS, "the condition", "asyncio", "Cancelled"))
            self.hold(spared or fact.interrupted, told)
        elif isinstance(end, Fails) and not by_goflow:
            self.hold(fact.error == str(end), told)
            self.hold(isinstance(fact, TaskFailed), f"{told}: it was final")
        elif isinstance(end, BaseException) and not by_goflow:
            self.hold(not isinstance(end, Skip | Later), told)
        else:
            self.hold(by_goflow or fact.interrupted, told)

    def _check_actions(self, execution: Execution, facts: list[AnyFact]) -> None:
        """Of each attempt the actions are kept that it has dispatched, but those that the attempt
        before has, number by number."""
        kept: dict[tuple[Key, int], list[tuple[int, Any]]] = {}
        for fact in facts:
            if isinstance(fact, Dispatched):
                one = fact.number, msgspec.json.decode(fact.content)
                kept.setdefault((fact.key, fact.attempt), []).append(one)
        said: dict[Key, list[Any]] = {}
        for fact in facts:
            if not isinstance(fact, TaskStarted):
                continue
            key, place = fact.key, (execution.id, fact.key, fact.attempt)
            actions, before = self.world.actions.get(place, []), said.setdefault(key, [])
            expected: list[tuple[int, Any]] = []
            for number, action in enumerate(actions, 1):
                if number <= len(before) and before[number - 1] == action:
                    continue
                expected.append((number, action))
                before[number - 1 :] = [action]
            found = kept.pop((key, fact.attempt), [])
            lost = expected[len(found) :]
            self.hold(found == expected[: len(found)], f"{place}: kept {found}, not {expected}")
            acknowledged = self.world.acknowledged[place]
            told = f"{place}: {acknowledged} acknowledged, lost {lost}"
            self.hold(all(number > acknowledged for number, _ in lost), told)
            if lost:
                del before[lost[0][0] - 1 :]
        self.hold(not kept, f"{execution.id}: actions of no attempt are kept: {kept}")

    def _check_children(self, execution: Execution, facts: list[AnyFact]) -> None:
        """A task starts one execution per attempt; interrupted ones are one with the next."""
        disk = self.world.disk
        made = Counter[Key]()
        for child in disk.executions.values():
            if child.parent is not None and child.parent.execution == execution.id:
                made[child.parent.key] += 1
                spec = self.spec(execution, child.parent.task)
                if spec is not None:
                    self._check_params(execution, child, spec, facts)
        for key, count in made.items():
            attempts = 0
            interrupted = False
            for fact in facts:
                if isinstance(fact, TaskStarted) and fact.key == key:
                    attempts += not interrupted
                    interrupted = False
                elif isinstance(fact, AttemptFailed | TaskFailed) and fact.key == key:
                    interrupted = fact.interrupted
                elif isinstance(fact, Retried):
                    interrupted = False
            self.hold(count <= attempts, f"{execution.id} {key}: {count} children of {attempts}")

    def _check_params(
        self, execution: Execution, child: Execution, spec: TaskSpec, facts: list[AnyFact]
    ) -> None:
        first = msgspec.json.decode(msgspec.json.encode(facts[0]))["params"]
        edited = [fact.params for fact in facts if isinstance(fact, Retried) and fact.params]
        above = [params["n"] for params in (first, *edited)]
        expected = [PARAMS["n"]] if spec.gives is None else [n + spec.gives for n in above]
        opening = msgspec.json.decode(msgspec.json.encode(self.world.disk.facts[child.id][0]))
        told = f"{child.id} has {opening['params']}, {execution.id} {facts[0]}"
        self.hold(opening["params"]["n"] in expected, told)

    def _check_due(self, execution: Execution) -> None:
        """No execution is for a skipped date, and its interval ends at its due time."""
        job, due = self.world.jobs[execution.job], execution.scheduled_at
        if due is None or job.after:
            return
        where = f"{execution.id} of {job.name}, due {due}"
        days = {due.astimezone(ZoneInfo(zone)).date() for zone in ("UTC", "Europe/Berlin")}
        self.hold(not all(is_skipped(job, day) for day in days), f"{where}: the date is skipped")
        if not job.options.get("interval"):
            return
        begin, end = execution.interval_start, execution.interval_end
        if len(self.world.disk.epochs.get(job.name, ())) != 1 or end is None:
            return  # the job may have had no intervals then
        self.hold(end == due, f"{where}: its interval ends at {end}")
        distance = DISTANCES.get(job.options["schedule"]) if _is_single(job.options) else None
        if distance is not None and not self.world.went_back:
            told = f"{where}: its interval begins at {begin}, not {distance} s before"
            self.hold(begin in (None, due - timedelta(seconds=distance)), told)

    # -- while it runs -------------------------------------------------------------------

    def forsaken(self) -> Iterator[str]:
        """The unfinished executions whose parents do not wait for them any more, and that are not
        being cancelled."""
        for id in self.world.disk.unfinished:
            child = self.world.disk.executions[id]
            if (parent := child.parent) is None or child.cancelling or child.closing:
                continue
            if self._was_retried(child):  # a client wants it
                continue
            above = self.world.disk.executions[parent.execution]
            spec = self.spec(above, parent.task)
            if spec is None or not spec.waits or not above.has(parent.key):
                continue
            if above.run(parent.key).state in (State.FAILED, State.CANCELLED):
                yield id


def _by_name(plan: Plan) -> dict[str, PlannedTask]:
    return {task.name: task for task in (*plan.tasks, *plan.hooks)}


def _is_object(result: msgspec.Raw | StoredResult) -> bool:
    return isinstance(result, StoredResult) and bool(result.format)


def _is_single(options: dict[str, Any]) -> bool:
    return isinstance(options.get("schedule"), str)
