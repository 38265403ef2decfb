"""After a restart: what was under way goes on, and nothing finished runs again.

Replay the unfinished executions' facts, mark what was running as interrupted, and hand
each to a runner. A tick or a submit that was acknowledged is among them, by definition.

The rule that must not be broken: one damaged history keeps neither the others nor the server
from going on. Its execution fails visibly, and says why.
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from goflow.core.events import AnyFact
from goflow.core.execution import Execution
from goflow.core.progress import Salvaged
from goflow.engine.attempts.settling import settle_hinted
from goflow.engine.board import Board
from goflow.engine.clock import Clock
from goflow.engine.hints import Hint
from goflow.job import Job
from goflow.stores.base import History, Record, Store


def recover(
    store: Store,
    board: Board,
    clock: Clock,
    notice: Callable[[str], None],
    jobs: Mapping[str, Job],
    hints: Sequence[Hint],
) -> list[Execution]:
    """The unfinished executions in the order in which they go on, with nothing left running;
    committed. `notice` hears of those that are damaged, which are not among them.

    Those that have begun come before those that wait; of either, each after those that were
    submitted or sent round again before it. So what waits for whom is as it was.

    To be called before the journal starts: until then this is the one writer.
    """
    ended: dict[str, list[Hint]] = {}
    for hint in hints:
        ended.setdefault(hint.execution, []).append(hint)
    executions = []
    opened: dict[str, int] = {}
    records = []
    for id in store.unfinished():
        history = store.history(id)
        assert history is not None
        execution, _, damage = salvage(history)
        board.adopt(history.plan, execution.summary(), history.version, execution.retries)
        if damage is None:
            job = jobs.get(execution.job)
            facts = settle_hinted(execution, job, ended.get(id, ()), clock.now())
            facts += execution.interrupt(clock.now())
            executions.append(execution)
            opened[id] = history.opened
        else:
            facts = execution.abort(clock.now(), f"its history is damaged: {damage}")
            notice(f"execution {id} of job {execution.job!r} cannot go on: {execution.reason}")
        if facts:
            records.append(record_of(execution, facts))
    if records:
        for record, version in zip(records, store.commit(records), strict=True):
            board.committed(record, version)
    # As the store put it down: the time at which they were opened is what a clock said.
    return sorted(executions, key=lambda one: (one.started_at is None, opened[one.id]))


def salvage(history: History) -> Salvaged[Execution]:
    """The execution that a history led to, as far as it can be so."""
    found = Execution.salvage(history.plan, history.facts)
    return found if history.damage is None else found._replace(damage=history.damage)


def record_of(execution: Execution, facts: Sequence[AnyFact]) -> Record:
    """The change that writes down facts which the execution has taken note of."""
    return Record(
        execution.id,
        list(facts),
        execution.state,
        execution.modified_at,
        msgspec.json.encode(execution.summary()) if execution.finished else None,
        execution.started_at,
        execution.finished_at,
    )
