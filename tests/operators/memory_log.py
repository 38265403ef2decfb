"""A log in memory, and a context with it."""

import traceback
from datetime import UTC, datetime
from typing import Any

from goflow.operators.base import Context


class MemoryLog:
    """Implements `goflow.operators.base.Log`."""

    def __init__(self) -> None:
        self.text = ""

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    def __call__(self, message: object, /) -> None:
        self.write(f"{message}\n")

    def write(self, text: str, /) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        return

    async def drain(self) -> None:
        return

    def debug(self, message: object, *args: object) -> None:
        self(f"DEBUG {str(message) % args}")

    def info(self, message: object, *args: object) -> None:
        self(f"INFO {str(message) % args}")

    def warning(self, message: object, *args: object) -> None:
        self(f"WARNING {str(message) % args}")

    def error(self, message: object, *args: object) -> None:
        self(f"ERROR {str(message) % args}")

    def exception(self, message: object, *args: object) -> None:
        self(f"ERROR {str(message) % args}\n{traceback.format_exc()}")


def context_with(log: Any, **changes: Any) -> Context:
    """A context of attempt 1 of task "t" of job "j"."""
    fields: dict[str, Any] = {
        "job": "j",
        "task": "t",
        "execution_id": "0b1c",
        "attempt": 1,
        "params": {},
        "results": {},
        "scheduled_at": None,
        "submitted_at": datetime(2026, 1, 1, tzinfo=UTC),
        "log": log,
    }
    return Context(**(fields | changes))
