"""A cheap gauge of the maximum since it was last read."""


class MaxGauge:
    """`note` records values of 0 or more; one reader takes their maximum and number."""

    __slots__ = ("_count", "_greatest")

    def __init__(self) -> None:
        self._greatest = 0.0
        self._count = 0

    def note(self, value: float) -> None:
        self._count += 1
        if value > self._greatest:
            self._greatest = value

    def take(self) -> tuple[float, int]:
        """The maximum since the last take (0 without values), and the number of values."""
        taken = self._greatest, self._count
        self._greatest, self._count = 0.0, 0
        return taken
