"""Recovery after a crash or a stop: replay, end orphans, settle, resume.

Every unfinished execution is replayed from its facts. Attempts that were running are settled by
their hints. For the others recovery asks the executor: those that still run continue, and the rest
are settled as interrupted. Processes left by a crashed server are ended, except those of attempts
that continue. Then runners resume the executions. Finished executions are not read at all, and no
finished task runs again.

The rule that must not be broken: a damaged history stops neither other executions nor the server.
Its execution fails visibly, with the reason.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from goflow.core.execution import Execution
from goflow.core.keys import Key, described, item_of, task_of
from goflow.engine.attempts.dependencies import Dependencies
from goflow.engine.attempts.of_task import Found
from goflow.engine.attempts.settling import commit_ends, hinted_lines, settle_hinted
from goflow.engine.clock import Clock
from goflow.engine.health import Health
from goflow.engine.hints import Hint
from goflow.engine.journal import Journal
from goflow.engine.lineup import Lineup
from goflow.engine.live import LiveExecution, LiveState
from goflow.engine.registry import Registry
from goflow.engine.replay import record_of, salvage
from goflow.engine.runner import Runner
from goflow.engine.runners import Runners
from goflow.job import Task
from goflow.operators import process_tag
from goflow.operators.process_tag import ProcessTag
from goflow.shown import reason
from goflow.stores.base import Store
from goflow.stores.logs import AppendLog

FoundRuns = dict[str, dict[Key, Found]]  # by execution, and task or item
Place = tuple[str, Key, int]  # of an attempt: execution, task or item, number


class Replayed(NamedTuple):
    """An unfinished execution, replayed from its facts."""

    execution: Execution
    opened: int  # the version at which it was submitted or retried
    damage: str | None


class Recovery:
    """`run` recovers all unfinished executions, once, when the journal has started."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        live: LiveState,
        registry: Registry,
        runners: Runners,
        lineup: Lineup,
        dependencies: Dependencies,
        health: Health,
        clock: Clock,
    ) -> None:
        self._store = store
        self._journal = journal
        self._live = live
        self._registry = registry
        self._runners = runners
        self._lineup = lineup
        self._dependencies = dependencies
        self._health = health
        self._clock = clock

    async def run(self) -> None:
        replayed = self._replay()
        # The attempts whose ends are hinted.
        hinted = {(one.execution, one.key, one.attempt) for one in self._dependencies.hints.found}
        found = await self._find(replayed, hinted)
        await self._end_orphans(replayed, found, hinted)
        for execution in await self._settle(replayed, found):
            self._resume(execution, found.get(execution.id, {}))
        for job in self._registry.jobs.values():
            self._lineup.replace_again(job)

    def _replay(self) -> dict[str, Replayed]:
        """All unfinished executions, oldest first."""
        replayed = {}
        for id in self._store.unfinished():
            history = self._store.history(id)
            assert history is not None
            execution, _, damage = salvage(history)
            self._live.add(LiveExecution.replayed(execution, history.version))
            replayed[id] = Replayed(execution, history.opened, damage)
        return replayed

    async def _find(self, replayed: dict[str, Replayed], hinted: set[Place]) -> FoundRuns:
        """The attempts that their executors find still running."""
        found: FoundRuns = {}
        for id, (execution, _, damage) in replayed.items():
            job = self._registry.jobs.get(execution.job)
            if damage is not None or job is None:
                continue
            for key in execution.running:
                attempt = execution.run(key).attempt
                task = job.find(task_of(key))
                if task is None or (id, key, attempt) in hinted:
                    continue
                if (run := await self._find_run(execution, task, key, attempt)) is not None:
                    found.setdefault(id, {})[key] = run
        return found

    async def _find_run(
        self, execution: Execution, task: Task, key: Key, attempt: int
    ) -> Found | None:
        given, logs = self._dependencies, self._store.logs
        tagged = process_tag.task_key(key)
        tag = ProcessTag(given.epoch, given.server, execution.id, tagged, attempt)
        try:
            run = await given.executors.of(task).find(tag)
        except Exception as error:  # of an executor, which may be anybody's code
            self._health.notice(
                f"execution {execution.id}: whether attempt {attempt} of {described(key)} still "
                f"runs is unknown, so it is interrupted: {reason(error)}"
            )
            return None
        if run is None:
            return None
        place, item = (execution.id, task.name, attempt), item_of(key)
        unfinished = logs.unfinished(*place, item)
        return Found(run, logs.end(*place, item), "" if unfinished is None else unfinished.text)

    async def _end_orphans(
        self, replayed: dict[str, Replayed], found: FoundRuns, hinted: set[Place]
    ) -> None:
        """End the processes of attempts that a crash interrupted, before these are retried.

        An attempt that had ended left its processes running on purpose, so they stay. Its end may
        be no more than a hint yet.
        """
        names: dict[str, dict[str, str]] = {}  # names of tasks by key, for each execution

        def find(tag: ProcessTag) -> Key | None:
            """The task or item whose interrupted attempt has this tag; None if there is none."""
            if tag.store != self._store.epoch or tag.execution not in replayed:
                return None
            if not process_tag.has_gone(tag.server):  # it serves a copy of this store
                return None
            execution = replayed[tag.execution].execution
            if execution.id not in names:
                names[execution.id] = process_tag.tasks_by_key(execution.named)
            key = process_tag.key_in(tag.task, names[execution.id])
            if tag.attempt == 0:  # of an on_retry, which is called again
                return key if key is not None and execution.is_untold(key) else None
            if key in found.get(execution.id, ()) or (execution.id, key, tag.attempt) in hinted:
                return None
            return key if execution.is_attempting(key, tag.attempt) else None

        if not replayed:
            return
        for one in await self._dependencies.end_orphans(lambda tag: find(tag) is not None):
            self._health.notice(
                f"process {one.pid} was left over from {_call_of(one.tag)} of "
                f"{described(find(one.tag) or '')}, execution {one.tag.execution}; it was ended"
            )

    async def _settle(self, replayed: dict[str, Replayed], found: FoundRuns) -> list[Execution]:
        """Commit the ends of attempts that do not continue: as hinted, or else interrupted.
        Returns the executions to resume, in order.

        Started executions come before waiting ones, each in the order in which the store opened
        them. So the executions of a job keep their order.
        """
        commits = []
        ended = _by_execution(self._dependencies.hints.found)
        for id, (execution, _, damage) in replayed.items():
            hints = _that_count(ended.get(id, ()), execution)
            last_lines = [lines for one in hints if (lines := self._last_lines(one))]
            if damage is None:
                job = self._registry.jobs.get(execution.job)
                facts = settle_hinted(execution, job, hints, self._clock.now())
                facts += execution.interrupt(self._clock.now(), found.get(id, ()))
            else:
                facts = execution.abort(self._clock.now(), f"its history is damaged: {damage}")
                self._health.notice(
                    f"execution {id} of job {execution.job!r} cannot go on: {execution.reason}"
                )
            if facts:
                record = record_of(execution, facts)
                commits.append(commit_ends(self._journal.commit, [record], last_lines))
        await asyncio.gather(*commits)
        self._dependencies.hints.cut()
        intact = [one for one in replayed.values() if one.damage is None]
        intact.sort(key=lambda one: (one.execution.started_at is None, one.opened))
        return [one.execution for one in intact]

    def _last_lines(self, hint: Hint) -> AppendLog | None:
        """The last lines of a hinted attempt that are not in its log yet. Without them its outcome
        is the same."""
        try:
            return hinted_lines(self._store.logs, hint)
        except Exception as error:
            self._health.notice(
                f"the last lines of attempt {hint.attempt} of {described(hint.key)}, execution "
                f"{hint.execution}, are lost: its log cannot be read: {reason(error)}"
            )
            return None

    def _resume(self, execution: Execution, found: Mapping[Key, Found]) -> None:
        job = self._registry.jobs.get(execution.job)
        before = self._lineup.before_resumed(execution, job)
        places = self._lineup.places(job, execution.cause)
        runner = Runner(execution, job, None, self._dependencies, before, found, places)
        self._runners.drive(runner, for_schedule=execution.cause in ("schedule", "after"))


def _call_of(tag: ProcessTag) -> str:
    return f"attempt {tag.attempt}" if tag.attempt else "on_retry"


def _that_count(hints: Sequence[Hint], execution: Execution) -> Sequence[Hint]:
    """The hints of attempts whose ends are not committed. An attempt that ended after a look in
    vain has a hint of each."""
    counting = [one for one in hints if execution.is_attempting(one.key, one.attempt)]
    looks = [one for one in counting if one.seconds is not None]
    found = {one.key: one for one in looks if execution.run(one.key).waiting is None}
    found |= {one.key: one for one in counting if one.seconds is None}
    return list(found.values())


def _by_execution(hints: Sequence[Hint]) -> Mapping[str, Sequence[Hint]]:
    found: dict[str, list[Hint]] = {}
    for hint in hints:
        found.setdefault(hint.execution, []).append(hint)
    return found
