"""Draws docs/states.md from the tables the core runs on.

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
)
from goflow.core.progress import TRANSITIONS
from goflow.core.states import RULES, State, Tally, Verdict, verdict

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "states.md"

ENDS = (State.SUCCESSFUL, State.FAILED, State.SKIPPED, State.CANCELLED)
SHOWN = {Verdict.RUN: "run", Verdict.SKIP: "skip", Verdict.WAIT: "wait"}


def render() -> str:
    """The whole document."""
    return f"""# States

Drawn from the tables in `goflow/core` by `python -m tests.core.render_states`; do not edit.

## A task

An arrow is a fact (`goflow/core/events.py`). A fact that has no arrow here cannot have
happened: it is refused, and changes nothing. From `skipped`, `failed`, `cancelled` and
`successful` only a retry or a mark by hand leads on.

{_diagram()}

| state | fact | state after it |
|---|---|---|
{_transitions()}

What the table cannot say:

- A task starts only when its trigger rule is met, and is skipped only when the rule can no
  longer be met.
- Attempts are numbered from 1 without a gap, over all rounds. `{AttemptFailed.__name__}` takes
  one of the task's retries, and `{Retried.__name__}` gives them back.
- Nothing starts after `{CancelRequested.__name__}`, and a task does not start after its
  `{TaskCancelRequested.__name__}`. What waits is cancelled at once; what runs is
  `{TaskCancelled.__name__}` only when it has really stopped, and if its attempt ends by itself
  before that, it ends as the attempt did.
- `{MarkedSuccessful.__name__}` and `{MarkedSkipped.__name__}` let those who wait for the task be
  judged anew, if they have not started; those that have ended, or run, stay as they are. What
  was asked to stop cannot be marked before it has.

## An execution

`notstarted` until its first task starts, then `running`. When every task has ended,
`{Finished.__name__}` says how:

- `failed` if any task failed, whatever ran after it, or if its time was over;
- otherwise `cancelled` if it was asked to stop or a task was cancelled;
- otherwise `successful`.

Its time, if it has a limit, runs from the first start of the round. When it is over, and tasks
have not ended, the execution is cancelled by `{CancelRequested.__name__}`, with the reason.

In a finished execution a mark changes the state by the same three lines: when the last failed
or cancelled task is marked, it is `successful`, unless the whole of it was cancelled or its
time was over.

`{Retried.__name__}` makes a finished execution `notstarted` again: with all tasks that did not
succeed, or with one task, alone or with all that follow it.

## Trigger rules

What a task does that waits for two others, by how these ended; `…` is one that has not ended
yet. A task that waits for none runs at once, whatever its rule.

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
    return [(before, fact, after) for (before, fact), after in TRANSITIONS.items()]


def _rules() -> str:
    one = [(end,) for end in ENDS]
    both = list(itertools.combinations_with_replacement(ENDS, 2))
    cases: list[tuple[State, ...]] = [(), *one, *both]
    rows = [
        ["the two ended", *(f"`{rule}`" for rule in RULES)],
        ["---"] * (len(RULES) + 1),
    ]
    for ends in cases:
        tally = Tally(2)
        for end in ends:
            tally = tally.counting(end)
        shown = ", ".join([*ends, *["…"] * (2 - len(ends))])
        rows.append([shown, *(SHOWN[verdict(rule, tally)] for rule in RULES)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(render(), encoding="utf-8")
