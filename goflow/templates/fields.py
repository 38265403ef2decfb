"""The templates in an operator's fields: finds, checks and renders them.

The rule that must not be broken: an operator runs with plain values only, checked like those of a
definition, and the log of the attempt begins with them.
"""

import asyncio
import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from goflow.errors import InvalidJob, TaskFailed
from goflow.shown import shown
from goflow.templates.mistake import Mistake
from goflow.templates.template import ShellTemplate, Template

BRIEF = 25_000  # the allowance on the event loop; a template that takes more gets a thread
LOGGED = 8 * 1024  # characters of the rendered texts in the log of an attempt
VISITED = 10_000  # values in an operator's fields whose templates are checked at once
COPIED = 1_000_000  # values in a field that has templates
DEEPEST = 100  # levels of lists and dicts

T = TypeVar("T")
Fill = Callable[[str, Template], Any]

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Field(NamedTuple):
    """A template in a field of an operator.

    `place` is its path, such as `args[0]`, and `shown` its text as everybody may see it.
    """

    place: str
    template: Template
    shown: str


class Rendered(NamedTuple):
    """A rendered template; `values` are the texts of its expressions."""

    place: str
    text: str
    values: tuple[str, ...]


# -- when a job is defined -----------------------------------------------------------


def templates_of(operator: object) -> tuple[Field, ...]:
    """The templates in an operator's fields, in lists and dicts too.

    An operator whose `_has_templates` is False is known to have none. One whose templates may hold
    secrets has a method `shown_template(place, text)`, which masks them.
    """
    if getattr(operator, "_has_templates", None) is False:
        return ()
    show = getattr(operator, "shown_template", lambda place, text: text)
    if dataclasses.is_dataclass(operator):
        names: Iterable[str] = [one.name for one in dataclasses.fields(operator)]
    else:
        names = getattr(operator, "__dict__", ())
    found: list[Field] = []
    left = VISITED
    for name in names:
        value = getattr(operator, name, None)
        if not isinstance(value, Template | list | tuple | dict):
            continue
        for place, one in _within(value, name, 0):
            left -= 1
            if left < 0:  # the rest is checked when it is rendered
                return tuple(found)
            if isinstance(one, Template):
                found.append(Field(place, one, show(place, one.text)))
    return tuple(found)


def has_templates(*values: object) -> bool:
    """Whether some value is a template, or a list or dict with one in it."""
    pending = list(values)
    for _ in range(COPIED):
        if not pending:
            return False
        one = pending.pop()
        if isinstance(one, Template):
            return True
        if isinstance(one, dict):
            pending.extend(one.values())
        elif isinstance(one, list | tuple):
            pending.extend(one)
    return False


def check(field: Field, where: str, *, is_mapped: bool, is_hook: bool = False) -> None:
    """Refuse an invalid template. Raises `InvalidJob`; `where` begins the message. `is_mapped`
    tells whether its task is, and `is_hook` whether that is a hook."""
    try:
        compiled = field.template.compiled()
        use = compiled.of_item
        if use is not None and not is_mapped:
            raise Mistake(use.line, f"{use.name!r} exists only in a task with map_over")
        if compiled.of_outcome is not None and not is_hook:
            raise Mistake(compiled.of_outcome.line, "'outcome' exists only in a hook")
    except Mistake as mistake:
        raise InvalidJob(f"{where}: {_told(field.place, mistake)}") from None


def check_key(field: Field, where: str) -> None:
    """Refuse an invalid template of the keys of items. Raises `InvalidJob`."""
    check(field, where, is_mapped=True)
    compiled = field.template.compiled()
    if compiled.of_attempt is not None:
        told = "'attempt' does not exist yet: keys are known before any item runs"
        raise InvalidJob(f"{where}: {_told(field.place, Mistake(compiled.of_attempt.line, told))}")
    if compiled.of_item is None:
        raise InvalidJob(
            f"{where}: item_key must use item or index, since each item needs a key of its own; "
            f"not {shown(field.template.text)}"
        )


def check_results(field: Field, upstream: Iterable[str], where: str) -> None:
    """Refuse a template that names the result of a task that is not directly upstream."""
    for result in field.template.compiled().results:
        if result.name not in upstream:
            known = ", ".join(map(shown, upstream)) or "no tasks"
            raise InvalidJob(
                f"{where}: {field.place}, line {result.line}: results has no {result.name!r}: "
                f"the task runs after {known}, and only their results are known"
            )


def replaced(value: Any, fill: Fill, place: str = "") -> Any:
    """A copy of a value, with something else for each template in it. Raises `InvalidJob`."""
    left = COPIED

    def copy(value: Any, place: str, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth > DEEPEST:  # it may hold itself
            raise InvalidJob(f"{place[:100]}: there is too much beside the templates")
        if isinstance(value, Template):
            return fill(place, value)
        if isinstance(value, dict):
            return {
                key: copy(one, f"{place}{part}", depth + 1)
                for key, (part, one) in zip(value, _parts(value), strict=True)
            }
        if isinstance(value, list | tuple):
            return [copy(one, f"{place}{part}", depth + 1) for part, one in _parts(value)]
        return value

    return copy(value, place, 0)


def _within(value: Any, place: str, depth: int) -> Iterator[tuple[str, Any]]:
    yield place, value
    if depth < DEEPEST and isinstance(value, list | tuple | dict):
        for part, one in _parts(value):
            inside = "script" if isinstance(one, ShellTemplate) else f"{place}{part}"
            yield from _within(one, inside, depth + 1)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """The items of a list or dict, each with its part of the path."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield f"[{key!r}]", one
    else:
        for number, one in enumerate(value):
            yield f"[{number}]", one


def _told(place: str, mistake: Mistake) -> str:
    return f"{place}, line {mistake.line}: {mistake.message}"


# -- when an attempt begins ----------------------------------------------------------


async def rendered(
    operator: T, context: Any, *, typed: Iterable[str] = ()
) -> tuple[T, list[Rendered]]:
    """A copy of an operator, a dataclass, with its templates rendered.

    In the fields named `typed` a template that is one expression becomes its value, which need
    not be text. Raises `TaskFailed`.
    """
    from goflow.templates.compiled import values_of
    from goflow.templates.spending import ALLOWANCE, TooMuch

    values = values_of(context)
    try:
        fields, texts = _render(operator, values, frozenset(typed), BRIEF)
    except TooMuch:
        arguments = (operator, values, frozenset(typed), ALLOWANCE)
        try:
            fields, texts = await asyncio.to_thread(_render, *arguments)
        except RuntimeError:  # no thread is available: then the event loop waits
            fields, texts = _render(*arguments)
    try:
        return dataclasses.replace(operator, **fields), texts  # type: ignore[type-var]
    except InvalidJob as error:
        raise TaskFailed(str(error)) from None


def _render(
    operator: Any, values: Mapping[str, Any], typed: frozenset[str], allowance: int
) -> tuple[dict[str, Any], list[Rendered]]:
    texts: list[Rendered] = []

    def fill(place: str, template: Template) -> Any:
        name = place.partition("[")[0]
        place = "script" if isinstance(template, ShellTemplate) else place
        try:
            made, parts = template.compiled().render(values, allowance, is_typed=name in typed)
        except Mistake as mistake:
            raise TaskFailed(_told(place, mistake)) from None
        texts.append(Rendered(place, made if isinstance(made, str) else repr(made), parts))
        return made

    fields = {}
    for field in dataclasses.fields(operator):
        value = getattr(operator, field.name)
        if field.init and has_templates(value):
            fields[field.name] = replaced(value, fill, field.name)
    return fields, texts


def log(write: Callable[[str], object], texts: Iterable[Rendered]) -> None:
    """Write rendered texts to the log of the attempt, cut to `LOGGED` characters in all."""
    left = LOGGED
    for place, text, _ in texts:
        cut = _cut(text, left)
        left -= len(cut)
        lines = [_CONTROLS.sub(_escaped, line) for line in cut.split("\n")]
        if len(lines) == 1:
            write(f"rendered {place}: {lines[0]}")
        else:
            write("\n".join([f"rendered {place}:", *(f"  {line}" for line in lines)]))


def _escaped(control: "re.Match[str]") -> str:
    return repr(control[0])[1:-1]


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    half = max(limit, 0) // 2
    end = text[len(text) - half :]
    return f"{text[:half]}… {len(text) - 2 * half:,} characters left out …{end}"
