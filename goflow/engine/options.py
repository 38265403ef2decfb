"""The engine's options, checked when they are created."""

import msgspec

from goflow import checks
from goflow.engine.attempts.dependencies import Limits
from goflow.engine.retention import Keep

DAY = 86_400  # seconds


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The engine's options.

    - `max_running`: the limit on attempts that run at once, over all executions.
    - `max_unfinished`: the limit on unfinished executions; further submits are refused. While
      any schedule is on, a tenth of it is reserved for schedules.
    - `pools`: maps the name of each pool to the number of its tasks that may run at once.
    - `stop_timeout`: seconds that running attempts may take to end at a stop.
    - `with_seconds`: whether cron may have six fields, the first one seconds.
    - `artifacts`: the folder of artifacts, or a URL; None for one beside the store.
    - `limits`: see `Limits`; `keep`: see `Keep`.

    Raises `ValueError` for an invalid option.
    """

    with_seconds: bool = False
    max_running: int = 128
    max_unfinished: int = 10_000
    pools: dict[str, int] = {}
    stop_timeout: float = 5.0
    limits: Limits = Limits()
    artifacts: str | None = None
    keep: Keep = Keep()

    def __post_init__(self) -> None:
        for name in ("max_running", "max_unfinished"):
            checks.count(name, getattr(self, name), 1, error=ValueError)
        for pool, size in checks.mapping("pools", self.pools, error=ValueError).items():
            checks.count(f"pools: {checks.name('pool', pool)!r}", size, 1, error=ValueError)
        checks.number("stop_timeout", self.stop_timeout, 0, DAY, error=ValueError)
        checks.flag("with_seconds", self.with_seconds, error=ValueError)
