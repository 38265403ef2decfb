"""A gauge that keeps the greatest value since it was last read; it costs next to nothing."""


class MaxGauge:
    """`note` values, none below 0; one reader takes the greatest, and their number."""

    __slots__ = ("_count", "_greatest")

    def __init__(self) -> None:
        self._greatest = 0.0
        self._count = 0

    def note(self, value: float) -> None:
        self._count += 1
        if value > self._greatest:
            self._greatest = value

    def take(self) -> tuple[float, int]:
        """The greatest value since the last take, 0 if there was none, and the number of values."""
        taken = self._greatest, self._count
        self._greatest, self._count = 0.0, 0
        return taken
