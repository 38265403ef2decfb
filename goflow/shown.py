"""Formats users' values and errors for messages.

The rule that must not be broken: no function here raises, even if an object's own methods do, and
the result is a short text that can be encoded as UTF-8.
"""

LIMIT = 300  # characters of a value
REASON_LIMIT = 2000  # characters of an error's text


def shown(value: object, limit: int = LIMIT) -> str:
    """`repr(value)`, cut to `limit` characters; the type's name if `repr` fails."""
    try:
        text = repr(value)
    except BaseException as failure:  # __repr__ may raise anything, and a message must not fail
        return f"<{kind(value)}, whose repr raises {kind(failure)}>"
    return tame(text, limit)


def kind(value: object) -> str:
    """The name of a value's type."""
    return tame(type.__dict__["__name__"].__get__(type(value)), LIMIT)


def text_of(error: BaseException) -> str:
    """`str(error)` in full; a placeholder if `str` fails."""
    try:
        text = str(error)
    except BaseException as failure:
        return f"<its text is not available: {kind(failure)}>"
    return str.__str__(text)


def reason(error: BaseException) -> str:
    """An error's type, and its text if it has one."""
    text = text_of(error)
    return f"{kind(error)}: {tame(text, REASON_LIMIT)}" if text else kind(error)


def tame(text: str, limit: int) -> str:
    """The first `limit` characters, with an ellipsis after a cut, encodable as UTF-8."""
    exact = str.__str__(text)  # a subclass may override methods
    cut = exact if len(exact) <= limit else f"{exact[:limit]}…"
    return cut if cut.isascii() else cut.encode("utf-8", "backslashreplace").decode()
