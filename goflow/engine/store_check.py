"""Checks the store periodically, since its files may vanish or change without a write."""

from collections.abc import Sequence

from goflow.engine.clock import Clock
from goflow.engine.health import Health
from goflow.engine.journal import Journal
from goflow.engine.reader import Reader
from goflow.errors import StoreUnavailable
from goflow.stores.base import Remark, Store

EVERY = 1.0  # seconds between two checks


def report(remarks: Sequence[Remark], health: Health) -> None:
    """Report the store's remarks to the operators."""
    for remark in remarks:
        health.notice(remark.text)
        if remark.lost:
            health.lost = remark.text


class StoreCheck:
    """`run` checks the store until it is cancelled."""

    def __init__(
        self, store: Store, reader: Reader, journal: Journal, health: Health, clock: Clock
    ) -> None:
        self._store = store
        self._reader = reader
        self._journal = journal
        self._health = health
        self._clock = clock

    async def run(self) -> None:
        while True:
            await self._clock.sleep(EVERY)
            try:
                report(await self._reader.read(self._store.check), self._health)
            except StoreUnavailable as error:
                self._journal.doubt(error)
