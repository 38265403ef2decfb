"""The greatest of what was measured since somebody last looked; costs nothing to speak of."""


class Peak:
    """`note` values, none below 0; one reader takes the greatest, and how many there were."""

    __slots__ = ("_count", "_greatest")

    def __init__(self) -> None:
        self._greatest = 0.0
        self._count = 0

    def note(self, value: float) -> None:
        self._count += 1
        if value > self._greatest:
            self._greatest = value

    def take(self) -> tuple[float, int]:
        """The greatest value since the last take, 0 if there was none, and the count."""
        taken = self._greatest, self._count
        self._greatest, self._count = 0.0, 0
        return taken
