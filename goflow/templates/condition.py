"""The condition of a task: an expression in the language of templates."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from goflow.errors import TaskFailed
from goflow.shown import tame
from goflow.templates.mistake import Mistake
from goflow.templates.template import Template

if TYPE_CHECKING:
    from goflow.templates.compiled import Compiled

SHOWN = 200  # characters of a condition in a message


@dataclass(frozen=True, repr=False)
class Condition(Template):
    """An expression, which holds or does not. Its text has no braces around it."""

    def compiled(self) -> "Compiled":
        from goflow.templates.compiled import compiled_condition

        return compiled_condition(self.text)

    @property
    def shown(self) -> str:
        return tame(self.text, SHOWN)

    async def holds(self, context: Any) -> bool:
        """Whether it is true for an attempt. Raises `TaskFailed`."""
        from goflow.templates.compiled import values_of
        from goflow.templates.fields import BRIEF
        from goflow.templates.spending import ALLOWANCE, TooMuch

        values = values_of(context)
        try:
            try:
                return self._evaluate(values, BRIEF)
            except TooMuch:
                try:
                    return await asyncio.to_thread(self._evaluate, values, ALLOWANCE)
                except RuntimeError:  # no thread is available: then the event loop waits
                    return self._evaluate(values, ALLOWANCE)
        except Mistake as mistake:
            told = f"the condition {self.shown!r} could not be evaluated: {mistake.message}"
            raise TaskFailed(told) from None

    def _evaluate(self, values: dict[str, Any], allowance: int) -> bool:
        value, _ = self.compiled().render(values, allowance, is_typed=True)
        return bool(value)
