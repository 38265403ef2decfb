"""A simulated machine on which the real engine starts, dies and restarts, and its invariants.

The rule that must not be broken: the seed determines everything. A broken promise is recorded in
`World.problems`, and ends the run with `Broken`.
"""

import hashlib
import itertools
import pickle
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from goflow.core.events import AnyFact
from goflow.core.execution import Execution
from goflow.core.keys import Item, Key, key_of, task_of
from goflow.core.result import StoredResult
from goflow.core.states import State, TriggerRule
from goflow.engine.engine import Engine
from goflow.engine.options import Options
from goflow.engine.retention import Keep
from goflow.engine.slots import Kind
from goflow.errors import Unavailable
from goflow.operators.base import Context
from tests.simulation.disk import Disk, Handle, Killed
from tests.simulation.jobs import BEGINNING, CONDITIONS, POOLS, JobSpec, TaskSpec
from tests.simulation.loop import Loop, SimulatedClock, SimulatedThreads, Wall
from tests.simulation.oracle import Oracle
from tests.simulation.yielding import Rounds

# Shortly before the clocks change in Europe.
KEEP = Keep(days=None, executions=None)
# The rules of tasks that wait for all tasks upstream.
WAITING = (TriggerRule.ALL_SUCCESSFUL, TriggerRule.ALL_DONE)
PATIENCE = 1200  # simulated seconds without progress; a hanging task lasts 900


class Broken(AssertionError):
    """A broken promise, with the trace before it."""


class World:
    """One machine: its disk, its clock, and the jobs in the user's file."""

    def __init__(self, seed: int | str) -> None:
        self.rng = random.Random(f"goflow {seed}")
        self.ids = random.Random(f"goflow ids {seed}")
        self.time = 0.0
        self.wall = Wall(BEGINNING)
        self.trace: list[str] = []
        self.problems: list[str] = []
        self.disk = Disk(self.rng, self.now, self.tell, self.problems.append)
        self._folder = tempfile.TemporaryDirectory(prefix="goflow-simulated-")
        self.artifacts = Path(self._folder.name)  # outlives processes, as the disk does
        self.process: Process | None = None
        self.jobs: dict[str, JobSpec] = {}
        self.went_back = timedelta(0)
        self.begun: set[tuple[str, Key, int]] = set()  # attempts whose operator began
        self.said: dict[tuple[str, Key, int], list[str]] = {}
        self.acted: dict[tuple[str, Key, int], Any] = {}  # what operators returned or raised
        # The actions of attempts, and how many of them were acknowledged.
        self.actions: dict[tuple[str, Key, int], list[Any]] = {}
        self.acknowledged: Counter[tuple[str, Key, int]] = Counter()
        self.heard: dict[str, list[Any]] = {}  # the states that subscribers heard of
        self.rounds = Rounds(self)
        self.oracle = Oracle(self)
        self.disk.heard = self.oracle.heard
        self.told_of_retry: set[tuple[str, Key, int]] = set()  # by `on_retry`
        self.logs_given_up = 0
        self.audited: dict[int, tuple[str, list[AnyFact]]] = {}  # what a subscriber received
        self.told: dict[str, bytes] = {}  # the executions that a listener has received
        self.too_old: set[str] = set()  # executions that it did not receive at its start
        self.last_event: str | None = None
        self.options: dict[str, Any] = {}

    def __enter__(self) -> "World":
        self.rounds.begin()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.bury()
        self.rounds.end()
        self.disk.connection.close()
        self._folder.cleanup()

    def now(self) -> datetime:
        return self.wall.at(self.time if self.process is None else self.process.loop.time())

    def tell(self, what: str) -> None:
        self.trace.append(f"{self.now():%d %H:%M:%S.%f} {what}")

    def check(self) -> None:
        """Raise `Broken` if a promise was broken."""
        if self.process is not None and self.process.engine.health.defect is not None:
            self.problems.append(f"defect: {self.process.engine.health.defect}")
        if self.problems:
            raise self.broken(*self.problems)

    def broken(self, *problems: str) -> Broken:
        """The error for these problems, with the trace."""
        return Broken("\n".join([*self.trace, "", *problems]))

    def set_clock(self, step: timedelta) -> None:
        """Change the clock."""
        self.tell(f"the clock is set by {step}")
        self.disk.latest = max(self.disk.latest, self.now())
        self.wall.offset += step
        self.went_back += max(-step, timedelta(0))

    def value(self, execution: str, result: msgspec.Raw | StoredResult) -> Any:
        """A committed result. One that is no JSON is read where the contract of artifacts says."""
        if isinstance(result, msgspec.Raw) or result.format != "pickle":
            return msgspec.json.decode(self.disk.result(execution, result))
        body = self.artifact(execution, result.sha256)
        return None if body is None else pickle.loads(body)

    def results(self, execution: Execution, key: Key) -> dict[str, Any]:
        """The committed results of the tasks upstream of a task, but those that are no JSON. An
        item has its own of each list."""
        task = task_of(key)
        lists = execution.run(key).planned.lists if isinstance(key, Item) else ()
        return dict.fromkeys(lists) | {
            name: self.value(execution.id, result)
            for name, result in execution.results_for(task).items()
            if isinstance(result, msgspec.Raw) or not result.format
        }

    def holds(
        self, spec: TaskSpec, execution: Execution, attempt: int, results: Mapping[str, Any]
    ) -> bool | None:
        """Whether the condition of a task is true by what is committed. None if it cannot be
        evaluated, or depends on results that may have changed since."""
        assert spec.when is not None
        if "results" in spec.when and execution.named[spec.name].planned.rule not in WAITING:
            return None
        try:
            return bool(CONDITIONS[spec.when](execution.params, attempt, results))
        except KeyError:
            return None

    def artifact(self, execution: str, sha256: str) -> bytes | None:
        """The content of a committed artifact, which must be there and intact."""
        path = self.artifacts / "executions" / execution / sha256
        body = path.read_bytes() if path.exists() else None
        if body is None or hashlib.sha256(body).hexdigest() != sha256:
            self.problems.append(f"{execution}: artifact {sha256} is committed, and not kept")
        return body

    # -- processes ---------------------------------------------------------------------

    def boot(self) -> "Process":
        """Create a new process, not yet started."""
        self.process = Process(self)
        return self.process

    def end(self) -> None:
        """The process has ended or died."""
        assert self.process is not None
        self.time = self.process.loop.time()
        process, self.process = self.process, None
        process.bury()
        self.check()

    def down(self, seconds: float) -> None:
        """Let time pass without a process."""
        self.time += seconds


@dataclass
class Running:
    """An operator that is running."""

    context: Context
    threaded: bool
    limits: frozenset[tuple[Kind, str]]  # that count it, besides the total limit


class Process:
    """One process with the engine, and its clients. It dies with its store handle."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = world.rng
        self.loop = Loop(world.time, world.rng)
        self.loop.set_exception_handler(self._went_wrong)
        self.store = Handle(world.disk)
        self.clock = SimulatedClock(self.loop, world.wall)
        self.running: dict[tuple[str, Key, int], Running] = {}
        self.paused: set[tuple[str, Key, int]] = set()  # generators, which may have no slots
        self._lasting: tuple[float, Callable[[], None]] = (0, lambda: None)
        self.engine = Engine(
            self.store,
            Options(
                with_seconds=True,
                pools=POOLS,
                keep=KEEP,
                artifacts=str(world.artifacts),
                **world.options,
            ),
            clock=self.clock,
            rng=world.ids,
            threads=SimulatedThreads(self.loop, world.rng, self._lasts),
        )
        self._tolerated: dict[tuple[Kind, str], int] = {}  # slots taken when limits were changed
        for name in world.jobs:
            self.register(name)

    def register(self, name: str, *, replace: bool = False) -> None:
        """Register a job as it is in the user's file now."""
        self.note_slots()
        job = self.world.jobs[name].build(self)
        self.engine.registry.register(job, replace=replace)

    def note_slots(self) -> None:
        """Limits are about to change: a lower one ends none of the tasks that run now."""
        for usage in self.engine.slots.usage():
            self._tolerated[usage.kind, usage.name] = usage.taken

    @property
    def dead(self) -> bool:
        return self.store.dead

    def _went_wrong(self, loop: object, context: dict[str, Any]) -> None:
        error = context.get("exception")
        # A log that cannot be written at a stop is given up, since a repeated run of a successful
        # task would be worse.
        given_up = isinstance(error, Unavailable) and self.engine.lifetime.stopping
        self.world.logs_given_up += given_up
        if not (self.dead or isinstance(error, Killed) or given_up):
            self.world.problems.append(f"asyncio: {context}")

    # -- time --------------------------------------------------------------------------

    def run(self, seconds: float, steps: int | None = None) -> None:
        """Let time pass, until the process dies or has taken `steps` steps."""
        until = self.loop.time() + seconds
        world = self.world
        with self.loop.running():
            while not self.dead and (steps is None or steps > 0) and self.loop.step(until):
                steps = None if steps is None else steps - 1
                if world.problems or self.engine.health.defect is not None:
                    break
        if not self.dead:
            world.check()

    def call(self, coroutine: Coroutine[Any, Any, Any], seconds: float = 300) -> Any:
        """Run a coroutine, and return its result; None if the process dies first."""
        with self.loop.running():
            task = self.loop.create_task(coroutine)
        until = self.loop.time() + seconds
        while not task.done() and not self.dead and self.loop.time() < until:
            self.run(until - self.loop.time(), steps=1)
        if self.dead:
            return None
        if not task.done():
            raise self.world.broken(f"{coroutine} does not end")
        return task.result()

    def begin(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Start a coroutine in the background."""
        with self.loop.running():
            self.loop.create_task(coroutine)

    def kill(self) -> None:
        """kill -9"""
        self.store.dead = True

    def bury(self) -> None:
        self.store.dead = True
        if (capture := getattr(self.engine, "_capture", None)) is not None:
            capture.__exit__(None, None, None)
        self.loop.abandon()

    # -- observing operators, see `Stage` ------------------------------------------------

    def begins(self, context: Context, *, threaded: bool) -> None:
        if self.dead:
            return
        place = _place(context)
        key = place[1]
        execution = self.world.disk.executions[context.execution_id]
        task = execution.run(key)
        if place in self.world.begun and task.waiting is None:
            self._broken(f"attempt {place} ran twice")
        self.world.begun.add(place)
        if place in self.running:
            self._broken(f"attempt {place} looks twice at once")
        if task.state is not State.RUNNING or task.attempt != context.attempt:
            self._broken(f"attempt {place} ran, but {task.state} {task.attempt} is committed")
        results = {
            name: self.world.value(execution.id, result)
            for name, result in execution.results_for(context.task).items()
        }
        if isinstance(key, Item):
            planned = task.planned
            if (runs := execution.items_over(context.task)) is not None:
                result = runs[key.number].result
                has_item = result is not None
                encoded = (
                    b"null" if result is None else self.world.disk.result(execution.id, result)
                )
                parts: Any = (msgspec.json.decode(encoded),)
            elif (stream := execution.stream_over(context.task)) is not None:
                has_item = True
                parts = (self.world.rounds.item(execution, stream, key.number),)
            else:
                has_item = True
                lists = [_listed(results[over]) for over in planned.lists]
                combined = zip(*lists, strict=True) if planned.zipped else itertools.product(*lists)
                parts = next(itertools.islice(combined, key.number, None))
            results.update(zip(planned.lists, parts, strict=True))
            if not has_item:
                del results[planned.lists[0]]
            if context.item != (parts[0] if isinstance(planned.map_over, str) else list(parts)):
                self._broken(f"attempt {place} got the item {context.item!r}")
        spec = self.world.oracle.spec(execution, context.task)
        if spec is not None and spec.when is not None and not context.waited:
            known = self.world.results(execution, key)
            if self.world.holds(spec, execution, context.attempt, known) is False:
                self._broken(f"attempt {place} ran, though {spec.when} does not hold")
        if (told := context.outcome) is not None:
            failed = [one for one, run in execution.tasks.items() if run.state is State.FAILED]
            if (told.state, told.failed) != (execution.final_state, failed) or list(
                told.errors
            ) != failed:
                self._broken(f"hook {place} was told {told}; committed are {failed}")
        elif context.task in execution.hooks:
            self._broken(f"hook {place} was told nothing")
        # Upstream tasks that it does not wait for may have ended since it began.
        waits = task.planned.rule in WAITING
        if context.results != results and (waits or not _within(context.results, results)):
            self._broken(f"attempt {place} got {context.results}; committed are {results}")
        runner = self.engine.runners[execution.id]
        pool = Kind.POOL, runner.pool(context.task)
        limits = [limit for limit in runner.limits if limit[0] is Kind.JOB or limit == pool]
        self.running[place] = Running(context, threaded, frozenset(limits))
        # Hooks of an execution that was cancelled in the queue run at once.
        if execution.started_at is not None or context.task not in execution.hooks:
            self._check_overlap(execution)
        self._check_limits()

    def ends(self, context: Context) -> None:
        self.running.pop(_place(context), None)
        self.paused.discard(_place(context))

    def items(self, context: Context) -> tuple[list[Any], int]:
        return self.world.rounds.items(context)

    def pauses(self, context: Context) -> None:
        self.paused.add(_place(context))

    def goes_on(self, context: Context) -> None:
        self.paused.discard(_place(context))
        if not self.dead:
            self._check_limits()

    def acts(self, context: Context, end: Any) -> None:
        if not self.dead:
            self.world.acted[_place(context)] = end

    def dispatches(self, context: Context, action: Any) -> None:
        if not self.dead:
            self.world.actions.setdefault(_place(context), []).append(action)

    def dispatched(self, context: Context, action: Any) -> None:
        if self.dead:
            return
        self.world.acknowledged[_place(context)] += 1
        self._check_state(context, self.world.disk.states[context.execution_id])

    def reads(self, context: Context) -> None:
        if not self.dead:
            states = self.world.disk.states.get(context.execution_id, [])
            self._check_state(context, [None, *states])  # None is the first state

    def _check_state(self, context: Context, states: list[Any]) -> None:
        place, state = _place(context), context.state
        if state not in states:
            self._broken(f"attempt {place} has the state {state}; committed are {states}")

    def heard(self, state: Any, action: Any) -> None:
        if self.dead:
            return
        heard = self.world.heard.setdefault(action["id"], [])
        heard.append(state)
        states = iter(self.world.disk.states[action["id"]])
        if not all(one in states for one in heard):  # in their order, some left out
            self._broken(f"a subscriber heard of {heard}; committed are {states}")

    def told_of_retry(self, context: Context) -> None:
        if not self.dead:
            self.world.told_of_retry.add(_place(context))

    def said(self, context: Context, line: str) -> None:
        if not self.dead:
            self.world.said.setdefault(_place(context), []).append(line)

    def last(self, context: Context, seconds: float) -> None:
        self._lasting = seconds, lambda: self.ends(context)

    def _lasts(self) -> tuple[float, Callable[[], None]]:
        lasting, self._lasting = self._lasting, (0, lambda: None)
        return lasting

    def _check_overlap(self, execution: Execution) -> None:
        """Unless executions may overlap, each begins after all but `max_active` - 1 of those that
        were submitted or retried before it have ended."""
        disk, options = self.world.disk, self.world.jobs[execution.job].options
        if options.get("overlap", "allow") == "allow" or execution.cause == "backfill":
            return
        if execution.closing:  # a hook, which may have been retried alone
            return
        before = []
        for id in disk.unfinished:
            if id == execution.id:
                break
            other = disk.executions[id]
            if other.job == execution.job and other.cause != "backfill":
                before.append(id)
        if len(before) >= options.get("max_active", 1):
            self._broken(f"{execution.id} of job {execution.job!r} runs, after {before}")

    def _check_limits(self) -> None:
        running = [one for place, one in self.running.items() if place not in self.paused]
        taken = Counter(limit for one in running for limit in one.limits)
        for usage in self.engine.slots.usage():
            limit = usage.kind, usage.name
            # Tasks that ran when the limit was lowered, as far as they have not ended since.
            tolerated = min(self._tolerated.get(limit, 0), usage.taken)
            self._tolerated[limit] = tolerated
            most = max(usage.size, tolerated)
            if taken.pop(limit, 0) > most:
                self._broken(f"{running} run; of {limit} at most {most} may")
        if taken:
            self._broken(f"{taken} run, and there are no such limits")
        if len(running) > self.engine.options.max_running:
            self._broken(f"{running} run; the limit is {self.engine.options.max_running}")

    def _broken(self, problem: str) -> None:
        self.world.problems.append(problem)


def _listed(values: Any) -> list[Any]:
    """The items of a list or dict."""
    return [list(pair) for pair in values.items()] if isinstance(values, dict) else values


def _within(some: Mapping[str, Any], every: Mapping[str, Any]) -> bool:
    return all(name in every and every[name] == value for name, value in some.items())


def _place(context: Context) -> tuple[str, Key, int]:
    """The execution, the task or item, and the attempt of a context."""
    return context.execution_id, key_of(context.task, context.index), context.attempt
