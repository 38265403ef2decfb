"""After a restart: what was under way goes on, and nothing finished runs again.

Replay the unfinished executions' facts, mark what was running as interrupted, and hand
each to a runner. A tick or a submit that was acknowledged is among them, by definition.
"""

from goflow.core.execution import Execution
from goflow.engine.board import Board
from goflow.engine.clock import Clock
from goflow.engine.runner import record_of
from goflow.stores.base import Store


def recover(store: Store, board: Board, clock: Clock) -> list[Execution]:
    """The unfinished executions in the order in which they go on, with nothing left running;
    committed.

    Those that have begun come before those that wait; of either, each after those that were
    submitted or sent round again before it. So what waits for whom is as it was.

    To be called before the journal starts: until then this is the one writer.
    """
    executions = []
    opened: dict[str, int] = {}
    records = []
    for id in store.unfinished():
        history = store.history(id)
        assert history is not None
        execution = Execution.replay(history.plan, history.facts)
        board.adopt(history.plan, execution.summary(), history.version, execution.retries)
        executions.append(execution)
        opened[id] = history.opened
        if facts := execution.interrupt(clock.now()):
            records.append(record_of(execution, facts))
    if records:
        for record, version in zip(records, store.commit(records), strict=True):
            board.committed(record, version)
    # As the store put it down: the time at which they were opened is what a clock said.
    return sorted(executions, key=lambda one: (one.started_at is None, opened[one.id]))
