"""Generates docs/states.md from the tables of the core.

    python -m tests.core.render_states

rewrites it; a test fails while it is out of date.
"""

import itertools
from pathlib import Path

from goflow.core.events import (
    AttemptFailed,
    CancelRequested,
    Finished,
    MarkedSkipped,
    MarkedSuccessful,
    Retried,
    TaskCancelled,
    TaskCancelRequested,
    TaskPostponed,
)
from goflow.core.progress import TABLE
from goflow.core.states import RULES, State, Tally, Verdict, verdict

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "states.md"

ENDS = (State.SUCCESSFUL, State.FAILED, State.SKIPPED, State.CANCELLED)
SHOWN = {Verdict.RUN: "run", Verdict.SKIP: "skip", Verdict.WAIT: "wait"}


def render() -> str:
    """The whole document."""
    return f"""# States

Generated from the tables in `goflow/core` by `python -m tests.core.render_states`. Do not edit.

## A task

An arrow is a fact (`goflow/core/events.py`). `apply` refuses every other fact and changes
nothing. Only a retry or a mark leaves the states `skipped`, `failed`, `cancelled` and
`successful`.

{_diagram()}

| state | fact | state after it |
|---|---|---|
{_transitions()}

Further rules:

- A task starts only if its trigger rule is met. It is skipped only if the rule cannot be met any
  more.
- Attempts are numbered from 1 without gaps, also after retries by hand.
  `{AttemptFailed.__name__}` uses up one of the task's retries, and `{Retried.__name__}` restores
  them.
- No task starts after `{CancelRequested.__name__}`, nor after its own
  `{TaskCancelRequested.__name__}`. Waiting tasks are cancelled at once. A running task is
  `{TaskCancelled.__name__}` when it has really stopped. If its attempt ends by itself first, that
  outcome counts.
- After `{TaskPostponed.__name__}` a task is running, but holds no slot until its operator looks
  again. The end of the server does not interrupt it. Only such a task can be marked while it runs.
- After `{MarkedSuccessful.__name__}` or `{MarkedSkipped.__name__}`, the trigger rules of
  downstream tasks that have not started are evaluated again. Other tasks do not change. A task
  cannot be marked while it is being cancelled.

## An execution

An execution is `notstarted` until its first task starts, then `running`. When every task has ended,
`{Finished.__name__}` sets its final state:

- `failed` if a task failed or the execution timed out;
- otherwise `cancelled` if the execution or a task was cancelled;
- otherwise `successful`.

Hooks run before that, when every task has ended. They are started and end by the same facts as
tasks, except for marks, and are not counted in the final state. The hooks for another end are
skipped. Meanwhile `{CancelRequested.__name__}` cancels only the hooks, and no task can be marked.
`{Retried.__name__}` resets all hooks.

A timeout counts from the first start after the submit or the last retry. When it ends,
`{CancelRequested.__name__}` cancels the execution, with the reason.

A mark in a finished execution changes its state by the same rules. When the last failed or
cancelled task is marked, the execution becomes `successful`, unless the whole execution was
cancelled or timed out.

`{Retried.__name__}` makes a finished execution `notstarted` again: with all tasks that did not
succeed, or with one task, alone or with those downstream of it.

## Trigger rules

The effect of each rule on a task with two upstream tasks, by their states; `…` has not ended yet.
A task without upstream tasks runs at once.

{_rules()}
"""


def _diagram() -> str:
    arrows = [f"    {before} --> {after}: {fact.__name__}" for before, fact, after in _rows()]
    return "\n".join(["```mermaid", "stateDiagram-v2", "    [*] --> notstarted", *arrows, "```"])


def _transitions() -> str:
    return "\n".join(
        f"| `{before}` | `{fact.__name__}` | `{after}` |" for before, fact, after in _rows()
    )


def _rows() -> list[tuple[State, type, State]]:
    return [
        (before, fact, after) for fact, row in TABLE.items() for before, after in row.moves.items()
    ]


def _rules() -> str:
    one = [(end,) for end in ENDS]
    both = list(itertools.combinations_with_replacement(ENDS, 2))
    cases: list[tuple[State, ...]] = [(), *one, *both]
    rows = [
        ["upstream", *(f"`{rule}`" for rule in RULES)],
        ["---"] * (len(RULES) + 1),
    ]
    for ends in cases:
        tally = Tally(2)
        for end in ends:
            tally.count(end)
        shown = ", ".join([*ends, *["…"] * (2 - len(ends))])
        rows.append([shown, *(SHOWN[verdict(rule, tally)] for rule in RULES)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(render(), encoding="utf-8")
