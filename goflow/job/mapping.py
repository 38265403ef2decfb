"""The tasks that a task maps over: one, the product of several, or pairs."""

from collections.abc import Sequence

import msgspec

from goflow import checks
from goflow.checks import defining
from goflow.errors import InvalidJob
from goflow.shown import shown

LISTS = 10  # in one product


class Zipped(msgspec.Struct, frozen=True):
    """Names of tasks whose items are paired."""

    names: tuple[str, ...]


MapOver = str | Sequence[str] | Zipped


@defining("zipped")
def zipped(*names: str) -> Zipped:
    """Pair the items of several lists, for `Task(map_over=zipped("a", "b"))`.

    The first item of one list goes with the first of the others, and so on. Lists that are not
    equally long fail the task.

    Args:
        *names: Names of two or more upstream tasks.

    Returns:
        A value for `map_over`.

    Raises:
        InvalidJob: There are fewer than two names, or a name is invalid or repeated.

    Examples:
        >>> from goflow import Job, zipped
        >>> job = Job("sums")
        >>> @job.task
        ... def left():
        ...     return [1, 2]
        >>> @job.task
        ... def right():
        ...     return [10, 20]
        >>> @job.task(map_over=zipped("left", "right"))
        ... def add(left, right):
        ...     return left + right
        >>> job.run().tasks["add"].result
        [11, 22]
    """
    return Zipped(_several("zipped", names))


def mapped_over(where: str, given: object) -> tuple[str, ...]:
    """The names in `map_over`. Raises `InvalidJob`."""
    if isinstance(given, Zipped):
        return given.names
    if isinstance(given, str) and given:
        return (checks.name("task", given),)
    if isinstance(given, list | tuple):
        return _several(f"{where}: map_over", given)
    raise InvalidJob(
        f"{where}: map_over must be the name of a task, a list of names or zipped(…), "
        f"not {shown(given)}"
    )


def _several(where: str, given: Sequence[object]) -> tuple[str, ...]:
    names = tuple(checks.name(f"{where}: task", name) for name in given)
    if not 2 <= len(names) <= LISTS or len(set(names)) < len(names):
        raise InvalidJob(
            f"{where} must name 2 to {LISTS} different tasks, not {shown(list(names))}"
        )
    return names
