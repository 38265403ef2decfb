"""Actions of the shared state, as an attempt dispatches them."""

from collections.abc import Generator
from typing import Any

from goflow.errors import TaskFailed
from goflow.plain import Unfit, encode
from goflow.shown import reason

ACTION_LIMIT = 64 * 1024  # bytes of JSON


class Done:
    """An awaitable that is done."""

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield


def encoded(action: Any) -> bytes:
    """An action as JSON. Raises `TaskFailed`."""
    try:
        made = encode(action)
    except Unfit as error:
        raise TaskFailed(
            f"an action that JSON cannot hold: {error.path('action')}: {error.reason}"
        ) from None
    except Exception as error:
        raise TaskFailed(f"an action that raises {reason(error)}") from None
    if len(made) > ACTION_LIMIT:
        raise TaskFailed(
            f"an action of {len(made):,} bytes as JSON, more than the {ACTION_LIMIT:,} that one "
            "may have; write large values to files or a database"
        )
    return made
