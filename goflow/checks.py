"""Checks the values that users give: counts, numbers, durations, choices, texts, names, lists.

The rule that must not be broken: whatever a value's own methods raise, a check raises `InvalidJob`
(or the error its caller asks for), and names what was being defined.

Each check takes a `subject`, the words that begin the message ("task 'load': retries"), and returns
the value as an exact builtin: a subclass may behave in any way, and JSON may not know it.
"""

import enum
import functools
import math
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice
from typing import Any, ParamSpec, TypeGuard, TypeVar

from goflow.errors import GoflowError, InvalidJob
from goflow.shown import reason, shown

P = ParamSpec("P")
T = TypeVar("T")
Choice = TypeVar("Choice", bound=enum.StrEnum)
Error = type[ValueError]

NAME_LIMIT = 250  # characters
COUNT_LIMIT = 1_000_000
LIST_LIMIT = 1_000_000  # items; an iterable may have no end


# -- numbers -----------------------------------------------------------------------


def flag(subject: str, value: object, *, error: Error = InvalidJob) -> bool:
    """True or False, and nothing that is merely true or false."""
    if not isinstance(value, bool):
        raise error(f"{subject} must be True or False, not {shown(value)}")
    return value


def count(
    subject: str, value: object, least: int, most: int | None = None, *, error: Error = InvalidJob
) -> int:
    """A whole number from `least` to `most`, both included; None for no upper limit."""
    if _is_int(value) and value >= least and (most is None or value <= most):
        return int.__int__(value)
    limits = f"{least} or more" if most is None else f"{least} to {most}"
    raise error(f"{subject} must be a whole number, {limits}, not {shown(value)}")


def number(
    subject: str, value: object, least: float, most: float, *, error: Error = InvalidJob
) -> float:
    """A number from `least` to `most`, both included. An int stays an int."""
    if not _is_number(value):
        raise error(f"{subject} must be a number, not {shown(value)}")
    if not least <= value <= most:
        raise error(f"{subject} must be from {_limit(least)} to {_limit(most)}, not {shown(value)}")
    return int.__int__(value) if isinstance(value, int) else float.__float__(value)


def seconds(
    subject: str, value: object, most: float = math.inf, *, error: Error = InvalidJob
) -> float:
    """A finite number of seconds above 0, up to `most`."""
    if not _is_number(value):
        raise error(f"{subject} must be a number of seconds, not {shown(value)}")
    if not 0 < value < math.inf:
        raise error(f"{subject} must be above 0 seconds and finite, not {shown(value)}")
    if value > most:
        raise error(f"{subject} must be at most {most:.0f} seconds, not {shown(value)}")
    try:
        return float(value)
    except OverflowError:  # an int beyond what a float can hold
        raise error(f"{subject} must be above 0 seconds and finite, not {shown(value)}") from None


def _limit(value: float) -> str:
    return f"{value:.0f}" if abs(value) < 1e15 and value == int(value) else f"{value:g}"


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


# -- texts and names ---------------------------------------------------------------


def text(subject: str, value: object, *, error: Error = InvalidJob) -> str:
    """A str."""
    if not isinstance(value, str):
        raise error(f"{subject} must be a str, not {shown(value)}")
    return str.__str__(value)


def os_text(subject: str, value: object) -> str:
    """A str that the operating system can take: without NUL, and encodable."""
    value = text(subject, value)
    if "\0" in value:
        raise InvalidJob(f"{subject} must not contain a NUL character: {shown(value)}")
    try:
        value.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        raise InvalidJob(
            f"{subject} has characters that cannot be encoded: {shown(value)}"
        ) from None
    return value


def name(kind: str, value: object) -> str:
    """The name of a job, a task or a pool; `kind` says which."""
    if not isinstance(value, str):
        raise InvalidJob(f"a {kind}'s name must be a string, not {shown(value)}")
    value = str.__str__(value)
    if not 1 <= len(value) <= NAME_LIMIT:
        start = value if len(value) <= 40 else f"{value[:40]}…"
        raise InvalidJob(
            f"{kind} name {start!r} has {len(value)} characters; it must have 1 to {NAME_LIMIT}"
        )
    if not value.isprintable() and any(unicodedata.category(one) in ("Cc", "Cs") for one in value):
        raise InvalidJob(f"{kind} name {value!r} has a control character or half a surrogate pair")
    if value in (".", ".."):
        raise InvalidJob(f"{kind} name {value!r} cannot be part of a web address; choose another")
    return value


def choice(subject: str, choices: type[Choice], value: Any) -> Choice:
    """A member of an enum, given as itself or by its value."""
    try:
        return choices(value)
    except (ValueError, TypeError):
        known = ", ".join(choices)
        raise InvalidJob(f"{subject} must be one of {known}; not {shown(value)}") from None


# -- collections -------------------------------------------------------------------


def items(subject: str, of: str, value: Any, *, error: Error = InvalidJob) -> list[Any]:
    """The items of an iterable; `of` says what they are. A str is not a list of its letters."""
    if isinstance(value, str | bytes):
        raise error(f"{subject} must be a list of {of}, not the text {shown(value)}")
    try:
        listed = list(islice(value, LIST_LIMIT + 1))
    except KeyboardInterrupt:
        raise
    except BaseException as failure:  # not iterable, or an iterable of the user's that fails
        raise error(
            f"{subject} must be a list of {of}, not {shown(value)}: {reason(failure)}"
        ) from None
    if len(listed) > LIST_LIMIT:
        raise error(f"{subject} must list at most {LIST_LIMIT} {of}")
    return listed


def texts(subject: str, of: str, value: Any, *, error: Error = InvalidJob) -> list[str]:
    """The items of an iterable of str."""
    listed = items(subject, of, value, error=error)
    for item in listed:
        if not isinstance(item, str):
            raise error(f"{subject} must be a list of {of}, and {shown(item)} is not a str")
    return list(map(str.__str__, listed))


def mapping(subject: str, value: object, *, error: Error = InvalidJob) -> dict[Any, Any]:
    """A copy of a mapping; an empty one for None."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise error(f"{subject} must be a mapping, not {shown(value)}")
    return dict(value)


def options(subject: str, given: Iterable[str], known: Collection[str]) -> None:
    """Check the names of options that a decorator passes on."""
    for name in given:
        if name not in known:
            from difflib import get_close_matches  # slow to import, and seldom used

            close = "".join(f"; did you mean {one!r}?" for one in get_close_matches(name, known, 1))
            raise InvalidJob(f"{subject} has no option {shown(name)}{close}")


# -- around a definition -----------------------------------------------------------


def defining(kind: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorate a method that makes or checks a definition of this kind ("job", "task").

    Whatever a user's value raises in it is raised as `InvalidJob`, with the cause.
    """

    def of_method(method: Callable[P, T]) -> Callable[P, T]:
        # The frame has a constructor's name, so that `Source.of_caller` skips it.
        @functools.wraps(method)
        def __init__(*args: P.args, **kwargs: P.kwargs) -> T:
            self = args[0]
            try:
                return method(*args, **kwargs)
            except (GoflowError, KeyboardInterrupt):
                raise
            except BaseException as error:
                if error.__traceback__ is not None and error.__traceback__.tb_next is None:
                    raise  # wrong arguments: the method has not begun
                where = f"{kind}{_name_of(self, args[1:], kwargs)}"
                raise InvalidJob(f"{where}: what it was given raises {reason(error)}") from error

        return __init__

    return of_method


def _name_of(self: object, args: tuple[object, ...], kwargs: dict[str, object]) -> str:
    """The name of what is being defined, and of the task an argument is about, for a message."""
    known = getattr(self, "__dict__", {}).get("name")
    name = known if known is not None else kwargs.get("name", args[0] if args else None)
    about = [] if known is None else [getattr(one, "__dict__", {}).get("name") for one in args]
    tasks = "".join(f", task {shown(task)}" for task in about if _is_text(task))
    return (f" {shown(name)}" if _is_text(name) else "") + tasks


def _is_text(value: object) -> bool:
    return issubclass(
        type(value), str
    )  # isinstance asks the value's own __class__, which may raise
