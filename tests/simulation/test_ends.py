"""Jobs that branch, map, yield, wait, nest, hook and dispatch come to the same end, wherever a
process is killed.

The end is written down below by hand, and compared with that of each run. A run is undisturbed, or
killed just before or after one of its commits, or at a step; the next process is killed, too, some
commits later, and a third one lets everything end.

To kill at each commit and each step: `pytest tests/simulation/test_ends.py --kill-stride 1`.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from goflow.core.events import CancelRequested, Dispatched, TaskStarted, TaskSucceeded
from goflow.core.execution import Execution
from goflow.core.keys import Key
from goflow.core.states import State, TriggerRule
from goflow.errors import Later, Skip, TaskFailed
from goflow.job import Job, Task
from goflow.operators.base import Context
from goflow.operators.subjobs import RunJob
from goflow.operators.waits import WaitFor, WaitUntil
from goflow.templates.template import Template
from tests.simulation.jobs import JobSpec, Stage, TaskSpec
from tests.simulation.story import Story
from tests.simulation.test_kills import Moment
from tests.simulation.world import BEGINNING, World
from tests.simulation.yielding import bound

LONG = 20_000  # simulated seconds, enough for everything to end
AGAIN = 3  # commits of the second process, at most

Outside = list[tuple[str, ...]]  # what tasks did outside of the store, in order


# -- the jobs -----------------------------------------------------------------------


@dataclass(frozen=True)
class Does:
    """An async operator that calls a function, and reports that it began and ended."""

    stage: Stage
    function: Callable[[Context], Any]

    async def run(self, context: Context) -> Any:
        self.stage.begins(context, threaded=False)
        try:
            await asyncio.sleep(0.5)
            value = self.function(context)
            return await value if asyncio.iscoroutine(value) else value
        finally:
            self.stage.ends(context)


@dataclass(frozen=True)
class DoesInThread(Does):
    """The same in a thread."""

    def run(self, context: Context) -> Any:  # type: ignore[override] # as operators may be
        self.stage.begins(context, threaded=True)
        self.stage.last(context, 0.5)
        return self.function(context)


def summed(state: Any, action: Any) -> Any:
    """A reducer: the order of actions of different tasks does not matter."""
    before = state or {}
    return {**before, action["of"]: before.get(action["of"], 0) + action["by"]}


@dataclass(frozen=True)
class FlowSpec(JobSpec):
    """The job whose tasks do all that a flow can, and succeed."""

    outside: Outside = field(default_factory=list)

    def build(self, stage: Stage) -> Job:
        job = Job(self.name, params={"n": 3}, **self.options)
        does, says = self._adder(job, stage), self._hook(stage)

        async def dispatch(context: Context, action: Any) -> None:
            stage.dispatches(context, action)
            await context.dispatch(action)
            stage.dispatched(context, action)

        async def item(context: Context) -> str:
            if context.index == 1 and context.attempt == 1:
                raise ValueError("the second item fails once")
            await dispatch(context, {"of": "items", "by": context.index + 1})
            return f"{context.item}{context.index}"

        async def acts(context: Context) -> Any:
            for number in range(3):
                await dispatch(context, {"of": "acts", "by": 10**number})
            if context.attempt == 1:
                raise ValueError("fails after its actions, and repeats them")
            return context.state["acts"]

        def skips(context: Context) -> None:
            raise Skip("nothing to do")

        def waits(context: Context) -> str:
            if context.waited < 40:
                raise Later(15, "no file" if context.waited < 20 else "an empty file")
            return "there"

        async def numbers(context: Context) -> AsyncIterator[Any]:
            stage.begins(context, threaded=False)
            try:
                for number in range(5):
                    stage.pauses(context)
                    yield number
                    stage.goes_on(context)
                    if number == 2 and context.attempt == 1:
                        raise ValueError("fails midway, and yields the same items again")
            finally:
                stage.ends(context)

        def doubled_item(context: Context) -> int:
            if context.index == 1 and context.attempt == 1:
                raise ValueError("the second item fails once")
            return int(context.item) * 2

        def files(context: Context) -> str:
            context.artifact("made.txt").write_text(context.execution_id)
            return "made"

        does("list", lambda context: ["a", "b", "c"])
        does("each", item, after=["list"], map_over="list", max_parallel=2)
        does("joined", lambda context: "-".join(context.results["each"]), after=["each"])
        does("none", lambda context: [])
        does("empty", item, after=["none"], map_over="none", on_empty="skip")
        does("fork", lambda context: "left", after=["list"]).branch = True
        does("left", lambda context: ["deep"], after=["fork"]).branch = True
        does("right", lambda context: 1, after=["fork"])
        does("after_right", lambda context: 1, after=["right"])
        does("deep", lambda context: "deep", after=["left"])
        does("shallow", lambda context: 1, after=["left"])
        does("join", lambda context: dict(context.results), after=["deep", "right"],
             trigger_rule=TriggerRule.NONE_FAILED)  # fmt: skip
        does("both", lambda context: 1, after=["deep", "right"])
        does("one", lambda context: 1, after=["shallow", "right"],
             trigger_rule=TriggerRule.ONE_SUCCESSFUL)  # fmt: skip
        does("wanted", lambda context: 1, when="params.n > 2")
        does("unwanted", lambda context: 1, after=["list"], when="results.list | length > 3")
        does("skips", skips)
        does("waits", waits)
        job.add(Task("looks", WaitFor(lambda context: context.waited > 60, every=20), retries=1))
        job.add(Task("until", WaitUntil(timedelta(seconds=50))))
        job.add(Task("yields", bound(numbers), retries=1))
        does("works", doubled_item, after=["yields"], map_over="yields", max_parallel=2)
        does("adds", lambda context: context.item + 1, after=["works"], map_over="works")
        does("acts", acts)
        does("object", lambda context: {"set": {1, 2}}, result="pickle")
        does("uses", lambda context: sorted(context.results["object"]["set"]), after=["object"])
        does("files", files, threaded=True)
        doubled = {"n": Template("{{ params.n * 2 }}")}
        job.add(Task("child", RunJob("child", params=doubled), after=["list"]))
        job.add(Task("alone", RunJob("child", params={"n": 100}, wait=False)))
        job.add(Task("children", RunJob("leaf", params={"n": Template("{{ index }}")}),
                     after=["list"], map_over="list", max_parallel=2))  # fmt: skip
        job.on_success(says("succeeded", retries=1))
        job.on_failure(says("failed"))
        job.on_finish(says("finished", fails=1, retries=2))
        return job

    def _adder(self, job: Job, stage: Stage) -> Callable[..., Task]:
        def add(
            name: str,
            function: Callable[[Context], Any],
            *,
            threaded: bool = False,
            **options: Any,
        ) -> Task:
            operator: Any = (DoesInThread if threaded else Does)(stage, function)
            return job.add(Task(name, operator, **{"retries": 1} | options))

        return add

    def _hook(self, stage: Stage) -> Callable[..., Task]:
        def hook(name: str, *, fails: int = 0, **options: Any) -> Task:
            def say(context: Context) -> None:
                told = context.outcome
                assert told is not None
                self.outside.append((name, context.execution_id, told.state, *told.failed))
                before = [one for one in self.outside if one[:2] == (name, context.execution_id)]
                if len(before) <= fails:
                    raise ValueError("a hook that fails at first")

            return Task(name, Does(stage, say), **options)

        return hook


class BadSpec(FlowSpec):
    """A job whose tasks fail, with tasks of every rule after them."""

    def build(self, stage: Stage) -> Job:
        job = Job(self.name, **self.options)
        does, says = self._adder(job, stage), self._hook(stage)

        def fails(context: Context) -> None:
            raise TaskFailed("on purpose", final=True)

        does("good", lambda context: 1)
        does("bad", fails, retries=3)
        does("next", lambda context: 1, after=["bad"])
        does("fork", lambda context: None, after=["good"]).branch = True
        does("off", lambda context: 1, after=["fork"])
        for rule in TriggerRule:
            does(f"after {rule}", lambda context: 1, after=["next", "good"], trigger_rule=rule)
            does(f"off {rule}", lambda context: 1, after=["off", "good"], trigger_rule=rule)
        job.add(Task("child", RunJob("broken")))
        job.on_success(says("succeeded"))
        job.on_failure(says("failed", retries=1))
        job.on_finish(says("finished", retries=1))
        return job


class ChildSpec(FlowSpec):
    """A job that starts another one."""

    def build(self, stage: Stage) -> Job:
        job = Job(self.name, params={"n": 1}, **self.options)
        does = self._adder(job, stage)
        does("double", lambda context: context.params["n"] * 2)
        more = {"n": Template("{{ results.double + 1 }}")}
        job.add(Task("go", RunJob("leaf", params=more), after=["double"]))
        return job


class LeafSpec(FlowSpec):
    """A job without others below; its result is its param."""

    def build(self, stage: Stage) -> Job:
        job = Job(self.name, params={"n": 1}, **self.options)
        self._adder(job, stage)("n", lambda context: context.params["n"])
        return job


class BrokenSpec(FlowSpec):
    """A job that fails."""

    def build(self, stage: Stage) -> Job:
        def fails(context: Context) -> None:
            raise TaskFailed("broken", final=True)

        job = Job(self.name, **self.options)
        self._adder(job, stage)("b", fails)
        return job


# -- their ends ---------------------------------------------------------------------

FLOW = {
    "list": ["a", "b", "c"], "each": ["a0", "b1", "c2"], "joined": "a0-b1-c2", "none": [],
    "fork": "left", "left": ["deep"], "deep": "deep", "join": {"deep": "deep"}, "wanted": 1,
    "waits": "there", "looks": True, "until": None, "acts": 111, "uses": [1, 2], "files": "made",
    "yields": [0, 1, 2, 3, 4], "works": [0, 2, 4, 6, 8], "adds": [1, 3, 5, 7, 9],
    "child": {"double": 12, "go": {"n": 13}}, "children": [{"n": 0}, {"n": 1}, {"n": 2}],
}  # fmt: skip
SKIPPED = {
    "empty": "itself", "right": "branch", "after_right": "upstream skipped", "shallow": "branch",
    "both": "upstream skipped", "one": "upstream skipped", "unwanted": "condition",
    "skips": "itself",
}  # fmt: skip
STATE = {"items": 6, "acts": 111}
BAD = {
    "good": "successful", "bad": "failed", "next": "skipped", "fork": "successful",
    "off": "skipped", "child": "failed",
}  # fmt: skip
# Of [a task that was skipped because of a failure, a successful one], and of [a task that a branch
# did not choose, a successful one]: whether a task with that rule runs.
RULES = {
    "allSuccessful": (False, False),
    "allFailed": (False, False),
    "allSkipped": (False, False),
    "allDone": (True, True),
    "oneSuccessful": (True, True),
    "oneFailed": (True, False),
    "oneDone": (True, True),
    "noneFailed": (False, True),
    "noneFailedMinOneSuccessful": (False, True),
    "noneSkipped": (False, False),
    "always": (True, True),
}


class Checked:
    """The ends of the executions of a world, compared with those above."""

    def __init__(self, world: World, outside: Outside) -> None:
        self.world = world
        self.outside = outside

    def of(self, job: str) -> list[Execution]:
        return [one for one in self.world.disk.executions.values() if one.job == job]

    def result(self, execution: Execution, task: str) -> Any:
        result = execution.tasks[task].result
        assert result is not None
        return msgspec.json.decode(self.world.disk.result(execution.id, result))

    def below(self, execution: Execution) -> list[tuple[str, int | None, Execution]]:
        """The executions that tasks of an execution have started."""
        found = self.world.disk.executions.values()
        below = [(one, one.parent) for one in found if one.parent is not None]
        return [
            (parent.task, parent.item, one)
            for one, parent in below
            if parent.execution == execution.id
        ]

    def hook(self, name: str, execution: Execution) -> list[tuple[str, ...]]:
        """What a hook did, each time that it ran."""
        return [said[2:] for said in self.outside if said[:2] == (name, execution.id)]

    def flow(self, execution: Execution, kills: int) -> None:
        """The flow has come to its end."""
        states = {name: task.state for name, task in execution.tasks.items()}
        ended = [*FLOW, "object", "alone"]
        assert states == dict.fromkeys(ended, State.SUCCESSFUL) | dict.fromkeys(
            SKIPPED, State.SKIPPED
        )
        assert execution.state is State.SUCCESSFUL
        assert {name: self.result(execution, name) for name in FLOW} == FLOW
        skips = {name: execution.tasks[name].skip for name in SKIPPED}
        assert {name: skip and skip.reason for name, skip in skips.items()} == SKIPPED
        below = self.below(execution)
        counted = Counter((task, item) for task, item, _ in below)
        one_each = [("child", None), ("alone", None), *[("children", n) for n in range(3)]]
        assert counted == dict.fromkeys(one_each, 1)
        for task, _, child in below:
            assert child.state is State.SUCCESSFUL
            if task == "alone":
                assert self.result(execution, "alone") == child.id
            if child.job == "child":
                assert [one.state for *_, one in self.below(child)] == [State.SUCCESSFUL]
        self.state(execution)
        self.hooks(execution, {"succeeded": 1, "finished": 2}, kills)
        assert self.artifact(execution, "made.txt") == execution.id.encode()

    def state(self, execution: Execution) -> None:
        """The fold of the actions is the state, and no action is there twice."""
        facts = self.world.disk.facts[execution.id]
        actions = [one for one in facts if isinstance(one, Dispatched)]
        folded: dict[str, int] = {}
        for one in actions:
            action = msgspec.json.decode(one.content)
            folded[action["of"]] = folded.get(action["of"], 0) + action["by"]
            assert msgspec.json.decode(one.state) == folded
        assert folded == STATE
        assert len(actions) == 6

    def artifact(self, execution: Execution, name: str) -> bytes:
        kept = [
            fact.kept
            for fact in self.world.disk.facts[execution.id]
            if (getattr(fact, "kept", None)) is not None
        ]
        (file,) = [file for one in kept for file in one.files if file.name == name]
        return (self.world.artifacts / "executions" / execution.id / file.sha256).read_bytes()

    def hooks(self, execution: Execution, expected: dict[str, int], kills: int) -> None:
        """Each hook has run as often as it had to, and once more per kill that cut it."""
        for name, hook in execution.hooks.items():
            wanted = expected.get(name, 0)
            assert hook.state is (State.SUCCESSFUL if wanted else State.SKIPPED), name
            said = self.hook(name, execution)
            interrupted = sum(
                getattr(fact, "interrupted", False) and fact.task == name
                for fact in self.world.disk.facts[execution.id]
            )
            assert interrupted <= kills
            assert wanted - interrupted <= len(said) <= wanted + interrupted, (name, said)
            failed = [name for name, task in execution.tasks.items() if task.state is State.FAILED]
            assert set(said) <= {(execution.state, *failed)}

    def bad(self, execution: Execution, kills: int) -> None:
        """The job that fails has come to its end."""
        ran = {True: "successful", False: "skipped"}
        expected = dict(BAD)
        for rule, (after_failure, after_branch) in RULES.items():
            expected |= {f"after {rule}": ran[after_failure], f"off {rule}": ran[after_branch]}
        assert {name: task.state for name, task in execution.tasks.items()} == expected
        assert execution.state is State.FAILED
        final = [one for one in self.world.disk.facts[execution.id] if isinstance(one, TaskStarted)]
        assert sum(one.task == "bad" for one in final) <= 1 + kills
        assert len(self.below(execution)) == 1
        self.hooks(execution, {"failed": 1, "finished": 1}, kills)


# -- the runs -----------------------------------------------------------------------


class Life:
    """The jobs on one simulated machine, from the submit to the end."""

    def __init__(self, world: World, *, scheduled: bool) -> None:
        self.world = world
        self.outside: Outside = []
        self.story = Story(world)
        self.scheduled = scheduled
        self.kills = 0
        options: dict[str, Any] = {}
        if scheduled:
            options = {"schedule": "@every 1h", "active": True}
        kinds = {"child": ChildSpec, "leaf": LeafSpec, "broken": BrokenSpec}
        world.jobs = {name: kind(name, (), {}, (), self.outside) for name, kind in kinds.items()}
        with_state = options | {"state": summed}
        world.jobs["flow"] = FlowSpec("flow", (), with_state, (), self.outside)
        world.jobs["bad"] = BadSpec("bad", (), options, (), self.outside)
        world.jobs["after"] = LeafSpec("after", (), {"after": "flow"}, (), self.outside)
        both = ["flow", "after"]
        world.jobs["both"] = LeafSpec("both", (), {"after": both}, (), self.outside)
        world.jobs["never"] = LeafSpec("never", (), {"after": ["flow", "bad"]}, (), self.outside)

    def begin(self) -> None:
        """Start a process, and have the jobs run."""
        assert self.story.start(self.world.boot())
        self.process.begin(self._ask())

    async def _ask(self) -> None:
        if self.scheduled:
            due = BEGINNING + timedelta(hours=1)
            self.process.loop.skip(max((due - self.process.clock.now()).total_seconds(), 0) + 1)
            return
        for job in ("flow", "bad"):
            await self.process.engine.submissions.submit(job, key="once")

    @property
    def process(self) -> Any:
        assert self.world.process is not None
        return self.world.process

    def killed(self, moment: Moment, number: int) -> bool:
        """Let the process go on, and kill it; False if everything had ended before."""
        process, disk = self.process, self.world.disk
        if moment is Moment.STEP:
            process.run(LONG, steps=number) if number else None
        else:
            disk.kill_in, disk.kill_before = number, moment is Moment.BEFORE_COMMIT
            while not process.dead and not self.idle():
                process.run(5)
        disk.kill_in = disk.kill_before = None
        cut = process.dead or not self.idle()
        process.kill()
        self.world.end()
        self.kills += cut
        return bool(cut)

    def idle(self) -> bool:
        """Whether all that was asked for has ended."""
        disk = self.world.disk
        begun = {one.job for one in disk.executions.values()}
        expected = {"flow", "bad", "after", "child", "leaf", "broken"}
        if self.scheduled:
            expected.add("both")
        return begun >= expected and not disk.unfinished

    def ends(self) -> None:
        """Let everything end, and check that the ends are right."""
        self.begin()
        until = self.process.loop.time() + LONG
        while not self.idle():
            assert self.process.loop.time() < until, "it does not end"
            self.process.run(5)
        self.process.run(60)
        self.process.kill()
        self.world.end()
        checked = Checked(self.world, self.outside)
        (flow,), (bad,) = checked.of("flow"), checked.of("bad")
        checked.flow(flow, self.kills)
        checked.bad(bad, self.kills)
        (after,) = checked.of("after")
        assert (after.state, after.scheduled_at) == (State.SUCCESSFUL, flow.scheduled_at)
        due = BEGINNING + timedelta(hours=1) if self.scheduled else None
        assert flow.scheduled_at == due
        assert [one.scheduled_at for one in checked.of("both")] == [due] * self.scheduled
        assert not checked.of("never")
        facts = [fact for facts in self.world.disk.facts.values() for fact in facts]
        assert not any(isinstance(fact, CancelRequested) for fact in facts)
        for id, its in self.world.disk.facts.items():
            succeeded: set[Key] = set()
            for fact in its:
                if isinstance(fact, TaskSucceeded):
                    succeeded.add(fact.key)
                assert not (isinstance(fact, TaskStarted) and fact.key in succeeded), (id, fact)
        self.story.settle()


@dataclass(frozen=True)
class HangsSpec(JobSpec):
    """A job whose task goes on for long."""

    def build(self, stage: Stage) -> Job:
        async def hangs(context: Context) -> None:
            await asyncio.sleep(LONG)

        return Job(self.name, tasks=[Task("t", Does(stage, hangs), retries=1)])


@contextmanager
def quiet() -> Iterator[None]:
    logging.disable()
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def lived(moment: Moment, number: int, *, scheduled: bool) -> bool:
    """Run the jobs, kill the process at that step or commit, kill the next one, too, and let
    everything end. Returns False if it had ended before the kill."""
    with quiet(), World(f"ends, {moment} {number}") as world:
        life = Life(world, scheduled=scheduled)
        life.begin()
        if not life.killed(moment, number):
            return False
        world.down(world.rng.choice((0, 0, 100)))
        life.begin()
        if moment is Moment.STEP:
            life.killed(moment, world.rng.randint(1, 40 * AGAIN))
        else:
            life.killed(moment, world.rng.randint(1, AGAIN))
        life.ends()
    return True


@pytest.mark.parametrize("scheduled", [False, True])
def test_undisturbed_jobs_come_to_the_end_that_is_expected(scheduled: bool) -> None:
    with quiet(), World("undisturbed") as world:
        Life(world, scheduled=scheduled).ends()


@pytest.mark.parametrize("moment", Moment)
def test_a_job_killed_at_any_commit_or_step_comes_to_the_same_end(
    moment: Moment, kill_stride: int
) -> None:
    stride = 1 if kill_stride == 1 else 12  # there are about a hundred commits
    if moment is Moment.STEP:
        stride *= 8
    number = kills = 1
    while lived(moment, number, scheduled=bool(kills % 2)):
        kills += 1
        number += stride
    assert kills > 5


RUNS = JobSpec("above", (TaskSpec("go", runs="below"),))


def cancelled(number: int, *, killed: bool, task: str | None) -> bool:
    """Start a job that runs another one, cancel it or its task after so many steps, and perhaps
    kill the process some steps later. Returns False if the cancel came too late."""
    with quiet(), World(f"cancelled {number}") as world:
        world.jobs = {"above": RUNS, "below": HangsSpec("below", ())}
        story = Story(world)
        process = world.boot()
        assert story.start(process)
        id = process.call(process.engine.submissions.submit("above")).id
        process.run(1, steps=number)
        in_time = not world.disk.executions[id].waits
        control = process.engine.control
        process.begin(control.cancel(id) if task is None else control.cancel_task(id, task))
        if killed:
            process.run(1, steps=world.rng.randint(0, 40))
            process.kill()
            world.end()
            process = world.boot()
            assert story.start(process)
        process.run(60)
        above = world.disk.executions[id]
        if not killed or above.cancelling or above.finished:
            states = {one.id: one.state for one in world.disk.executions.values()}
            assert set(states.values()) == {State.CANCELLED}, (number, states)
    return in_time


@pytest.mark.parametrize("task", [None, "go"])
@pytest.mark.parametrize("killed", [False, True])
def test_a_cancel_at_any_step_reaches_the_execution_that_a_task_starts(
    killed: bool, task: str | None
) -> None:
    number = 0
    while cancelled(number, killed=killed, task=task):
        number += 1
    assert number > 20


def test_the_end_of_an_execution_ends_the_wait_of_the_task_that_started_it() -> None:
    with quiet(), World("woken") as world:
        world.jobs = {"above": RUNS, "below": JobSpec("below", (TaskSpec("t", mood="long"),))}
        story = Story(world)
        assert story.start(world.boot())
        process = world.process
        assert process is not None
        process.call(process.engine.submissions.submit("above"))
        process.run(100)
        above, below = world.disk.executions.values()
        assert above.finished_at is not None
        assert below.finished_at is not None
        assert below.finished_at - below.submitted_at > timedelta(seconds=3)
        assert above.finished_at - below.finished_at < timedelta(seconds=2)  # not at the next look


def followed(moment: Moment, number: int, *, scheduled: bool) -> bool:
    """Run a job that another one runs after, kill the process at that commit, and let everything
    end. Returns False if all had ended before the kill."""
    with quiet(), World(f"followed {number}") as world:
        quick = (TaskSpec("t", retries=1, mood="ok"),)
        options = {"schedule": "@every 1h", "active": True} if scheduled else {}
        world.jobs = {
            "first": JobSpec("first", quick, options),
            "second": JobSpec("second", quick, {"after": "first"}),
        }
        story, disk = Story(world), world.disk
        assert story.start(world.boot())
        disk.kill_in, disk.kill_before = number, moment is Moment.BEFORE_COMMIT
        process = world.process
        assert process is not None
        if scheduled:
            process.run(3700)
        else:
            process.call(process.engine.submissions.submit("first", key="once"))
            process.run(100)
        disk.kill_in = disk.kill_before = None
        killed = process.dead
        process.kill()
        world.end()
        if scheduled:  # it may have been killed before the due time
            world.down(max(3700 - world.time, 0))
        process = world.boot()
        assert story.start(process)
        if not scheduled:
            process.call(process.engine.submissions.submit("first", key="once"))
        process.run(200)
        ran = [(one.job, one.state, one.scheduled_at) for one in disk.executions.values()]
        due = BEGINNING + timedelta(hours=1) if scheduled else None
        expected = [(job, State.SUCCESSFUL, due) for job in ("first", "second")]
        assert ran == expected, (moment, number)
        process.kill()
        world.end()
        story.settle()
    return killed


@pytest.mark.parametrize("moment", [Moment.BEFORE_COMMIT, Moment.AFTER_COMMIT])
@pytest.mark.parametrize("scheduled", [False, True])
def test_a_success_is_followed_once_wherever_a_process_is_killed(
    scheduled: bool, moment: Moment
) -> None:
    number = 1
    while followed(moment, number, scheduled=scheduled):
        number += 1
    assert number > 8
