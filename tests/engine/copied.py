"""A store that is copied after each commit, so that a test can restart from any of them."""

from collections.abc import Sequence
from pathlib import Path

from goflow import SqliteStore
from goflow.stores.base import Change, Outcome


class Copied(SqliteStore):
    """Keeps a copy of the store after each commit."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path / "goflow.db"))
        self.path = path
        self.copies: list[str] = []

    def commit(self, batch: Sequence[Change]) -> list[Outcome]:
        outcomes = super().commit(batch)
        self.copies.append(str(self.path / f"{len(self.copies)}.db"))
        self.backup(self.copies[-1])
        return outcomes
