"""What users' values and errors say of themselves, as a part of a message.

The rule that must not be broken: nothing here raises, whatever an object's own methods do,
and what comes out is a short text that UTF-8 can hold.
"""

LIMIT = 300  # characters of a value
REASON_LIMIT = 2000  # characters of an error's text


def shown(value: object, limit: int = LIMIT) -> str:
    """`repr(value)`, cut to `limit` characters; its type where it has none that can be had."""
    try:
        text = repr(value)
    except BaseException as failure:  # it may raise anything, and is only needed for a message
        return f"<{kind(value)}, whose repr raises {kind(failure)}>"
    return tame(text, limit)


def kind(value: object) -> str:
    """The name of a value's type."""
    return tame(type.__dict__["__name__"].__get__(type(value)), LIMIT)


def text_of(error: BaseException) -> str:
    """`str(error)`, however long; a remark where that cannot be had."""
    try:
        text = str(error)
    except BaseException as failure:
        return f"<its text could not be made: {kind(failure)}>"
    return str.__str__(text)


def reason(error: BaseException) -> str:
    """An error in one line or a few: its type, and its text if it has one."""
    text = text_of(error)
    return f"{kind(error)}: {tame(text, REASON_LIMIT)}" if text else kind(error)


def tame(text: str, limit: int) -> str:
    """At most `limit` characters of a text and a mark of the cut, as UTF-8 can hold them."""
    exact = str.__str__(text)  # of a subclass, which may have methods of its own
    cut = exact if len(exact) <= limit else f"{exact[:limit]}…"
    return cut if cut.isascii() else cut.encode("utf-8", "backslashreplace").decode()
