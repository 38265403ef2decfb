"""The keys of a mapped task's items, rendered by the template `item_key` before any item runs."""

import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from goflow.templates.template import Template

KEY_LIMIT = 250  # characters of a key
KEYS_LIMIT = 4 * 1024 * 1024  # characters of all keys of a task
PORTION = 500  # keys rendered at once
ALLOWANCE = 25_000  # for each key, of `goflow.templates.spending`


class BadKey(Exception):
    """A key that an item cannot have; the message says why."""


class ItemKeys:
    """Renders the keys of the items of one task. Any thread may call it, one at a time.

    `values` are those of the names of a template, `results` those of upstream tasks. `item`
    returns an item by its number, and its parts by the tasks that they are from.
    """

    def __init__(
        self,
        task: str,
        template: Template,
        number: int,
        values: Mapping[str, Any],
        results: Mapping[str, Any],
        item: Callable[[int], tuple[Any, dict[str, Any]]],
    ) -> None:
        self.keys: dict[str, int] = {}  # with the numbers of their items
        self._task = task
        self._template = template
        self._number = number
        self._values = values
        self._results = results
        self._item = item
        self._left = KEYS_LIMIT

    def some(self) -> bool:
        """Render the next keys; True once all are. Raises `BadKey`."""
        first = len(self.keys)
        end = min(first + PORTION, self._number)
        for number in range(first, end):
            self._render(number)
        return end == self._number

    def _render(self, number: int) -> None:
        # They import Jinja2, which most jobs do not need.
        from goflow.templates.compiled import item_values
        from goflow.templates.mistake import Mistake
        from goflow.templates.spending import TooMuch

        item, results = self._item(number)
        values = item_values(self._values, {**self._results, **results}, item, number)
        try:
            key, _ = self._template.compiled().render(values, ALLOWANCE)
        except TooMuch:
            self._refuse(number, "takes too long to render")
        except Mistake as mistake:
            self._refuse(number, f"cannot be rendered: line {mistake.line}: {mistake.message}")
        key = key.strip()
        if not key:
            self._refuse(number, "is empty")
        if len(key) > KEY_LIMIT:
            self._refuse(
                number,
                f"has {len(key):,} characters, more than {KEY_LIMIT}; shorten it, for example "
                "with the filter truncate",
            )
        if not key.isprintable() and any(unicodedata.category(one) in ("Cc", "Cs") for one in key):
            self._refuse(number, f"{key!r} has a control character or half a surrogate pair")
        if (other := self.keys.get(key)) is not None:
            raise BadKey(
                f"task {self._task!r}: items {other} and {number} have the same key {key!r}; "
                "item_key must give each item another one"
            )
        self._left -= len(key)
        if self._left < 0:
            self._refuse(number, f"and those before have more than {KEYS_LIMIT:,} characters")
        self.keys[key] = number

    def _refuse(self, number: int, why: str) -> NoReturn:
        raise BadKey(f"task {self._task!r}: item_key of item {number} {why}") from None
