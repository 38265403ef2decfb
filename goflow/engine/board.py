"""What is going on now: a fold of committed facts, one entry per unfinished execution.

The API and the stream read the board, never a runner's memory, so nobody is told what is
not yet true. It costs memory for unfinished executions only.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

import msgspec

from goflow.core.events import AnyFact
from goflow.core.graph import Plan
from goflow.core.summary import Standing, Summary, listed
from goflow.stores.base import Change, Created, Outcome, Record, Submit

_encoder = msgspec.json.Encoder()


class Entry:
    """An execution as last committed, encoded at most once per version."""

    __slots__ = ("_encoded", "_encoded_version", "plan", "standing", "summary", "version")

    def __init__(
        self, plan: Plan, summary: Summary, version: int, retries: Mapping[str, datetime]
    ) -> None:
        self.plan = plan
        self.summary = summary
        self.standing = Standing(summary, retries)
        self.version = version
        self._encoded = b""
        self._encoded_version = -1

    def encoded(self) -> bytes:
        """The summary as JSON, with the version."""
        if self._encoded_version != self.version:
            self._encoded = listed(_encoder.encode(self.summary), self.version)
            self._encoded_version = self.version
        return self._encoded

    def apply(self, facts: list[AnyFact], version: int) -> None:
        for fact in facts:
            self.standing.apply(self.plan, self.summary, fact)
            self.summary.apply(self.plan, fact)
        self.version = version


class Board:
    """Unfinished executions by id. `on_change` hears of every entry that changed."""

    def __init__(self, on_change: Callable[[Entry], None]) -> None:
        self._entries: dict[str, Entry] = {}
        self._on_change = on_change
        self.version = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def get(self, execution: str) -> Entry | None:
        return self._entries.get(execution)

    def adopt(
        self,
        plan: Plan,
        summary: Summary,
        version: int,
        retries: Mapping[str, datetime] | None = None,
    ) -> None:
        """Take up an execution whose facts were committed before; `retries` says when those
        of its tasks that are up for retry are tried again."""
        self._entries[summary.id] = Entry(plan, summary, version, retries or {})

    def drop(self, execution: str) -> None:
        """Forget an execution that was adopted but did not go on."""
        self._entries.pop(execution, None)

    def committed(self, change: Change, outcome: Outcome) -> None:
        """Take note of a change that is now durable."""
        match change, outcome:
            case Submit(), Created():
                summary = Summary.begin(change.plan, change.fact)
                entry = Entry(change.plan, summary, outcome.version, {})
                self._entries[change.fact.id] = entry
            case Record(), int():
                entry = self._entries[change.execution]
                if change.state.finished:  # first, so that nothing is left here whatever follows
                    del self._entries[change.execution]
                entry.apply(change.facts, outcome)
            case _:
                return
        self.version = entry.version
        self._on_change(entry)
