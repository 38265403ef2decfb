"""The limit on running attempts: whoever waits gets the next free slot, in turn."""

from typing import Protocol


class Waiter(Protocol):
    def wake(self) -> None:
        """A slot may be free now: ask again."""
        ...


class Slots:
    """`size` slots. A waiter that got fewer than it wanted is woken when its turn comes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.taken = 0
        self._queue: dict[Waiter, None] = {}

    def take(self, waiter: Waiter, wanted: int) -> int:
        """Up to `wanted` slots, at once; 0 while others have waited longer."""
        first = next(iter(self._queue), waiter)
        if first is not waiter:
            if wanted:
                self._queue[waiter] = None
            return 0
        self._queue.pop(waiter, None)
        free = self.size - self.taken
        # An equal share: who wants many does not take all while others wait.
        granted = min(wanted, free, max(1, free // (len(self._queue) + 1)))
        self.taken += granted
        if granted < wanted:
            self._queue[waiter] = None
        self._wake_first()
        return granted

    def release(self, count: int = 1) -> None:
        """Give slots back."""
        self.taken -= count
        self._wake_first()

    def leave(self, waiter: Waiter) -> None:
        """Stop waiting."""
        if waiter in self._queue:
            del self._queue[waiter]
            self._wake_first()

    def _wake_first(self) -> None:
        if self._queue and self.taken < self.size:
            next(iter(self._queue)).wake()
