"""Reads shell text as a shell does, to know how a value must be quoted where it stands.

The rule that must not be broken: a value is the same text for the shell as it was before, whatever
characters it has, or the place is refused. Wherever shells differ, or the text cannot be followed,
the places after it are refused.

The rules are those of POSIX's Shell Command Language, 2.2 (quoting), 2.3 (tokens), 2.6 (expansions)
and 2.7.4 (here-documents), as dash and bash apply them.
"""

import enum
import re
from typing import NamedTuple

LONGEST = 1000  # characters of a here-document's delimiter

_NO_DELIMITER = "\0"  # a line that is too long to be one
_BLANKS = " \t"
_OPERATORS = ";&|<>()"
_DELIMITER = re.compile(r"""\\?([\w.+!-]+)|'([\w.+!-]+)'|"([\w.+!-]+)\"""", re.ASCII)


class Within(enum.Enum):
    """A construct that a place can be within."""

    SUBSTITUTION = "$(…)"
    SINGLE = "'…'"
    DOUBLE = '"…"'
    COMMENT = "a comment"
    EXPANSION = "${…}"
    ARITHMETIC = "$((…))"
    BACKTICKS = "`…`"
    DOCUMENT = "a here-document"


class Style(enum.Enum):
    """A way to quote a value."""

    BARE = "bare"
    SINGLE = "single"
    DOUBLE = "double"
    COMMENT = "comment"


_STYLES = {
    Within.SUBSTITUTION: Style.BARE,
    Within.SINGLE: Style.SINGLE,
    Within.DOUBLE: Style.DOUBLE,
    Within.COMMENT: Style.COMMENT,
}
_INSTEAD = "; assign the value to a shell variable first, or pass it in env"
_REFUSED = {
    Within.EXPANSION: f"a value within ${{…}} cannot be quoted{_INSTEAD}",
    Within.ARITHMETIC: f"a value within $((…)) cannot be quoted{_INSTEAD}",
    Within.BACKTICKS: "a value within `…` cannot be quoted; write $(…)",
    Within.DOCUMENT: (
        "a value in a here-document cannot be quoted; write printf '%s\\n' {{ value }} | program"
    ),
}


class Word(enum.Enum):
    """Whether a `#` would begin a comment: not within a word."""

    NO = enum.auto()
    YES = enum.auto()
    UNKNOWN = enum.auto()


class Document(NamedTuple):
    """A here-document that begins at the next line. With `<<-` it `strips` leading tabs; a quoted
    delimiter makes it `literal`."""

    delimiter: str
    strips: bool
    literal: bool


class State(NamedTuple):
    """The state of the reader at a place in shell text.

    `stack` has the constructs around the place, outermost first, with the number of open
    parentheses. `pending` has the characters whose meaning depends on the next one. `token` is the
    word so far. `line` is that of a here-document. `unclear` is the reason to refuse all places
    from here on.
    """

    stack: tuple[tuple[Within, int], ...] = ()
    word: Word = Word.NO
    pending: str = ""
    token: str = ""
    documents: tuple[Document, ...] = ()
    line: str = ""
    unclear: str = ""

    @property
    def within(self) -> Within | None:
        """The innermost construct around the place; None for the text itself."""
        return self.stack[-1][0] if self.stack else None


def style(state: State) -> Style | str:
    """The style of a value at this place, or the reason to refuse it."""
    if state.unclear:
        return state.unclear
    if state.pending == "\\":
        return "a value right after a backslash cannot be quoted"
    if state.pending == "$":
        return "a value right after a $ cannot be quoted"
    if state.pending.startswith("<<"):
        return "a value cannot be the delimiter of a here-document"
    for within, _ in state.stack:
        if within in _REFUSED:
            return _REFUSED[within]
    return Style.BARE if state.within is None else _STYLES[state.within]


def quoted(value: str, style: Style) -> str:
    """The value as text that the shell reads as this value."""
    match style:
        case Style.BARE:
            return "'" + value.replace("'", "'\\''") + "'"
        case Style.SINGLE:
            return value.replace("'", "'\\''")
        case Style.DOUBLE:
            return re.sub(r'([\\$`"])', r"\\\1", value)
        case Style.COMMENT:
            return re.sub(r"[\r\n]", " ", value)


def after_value(state: State) -> State:
    """The state after a quoted value."""
    if state.pending == "$(":
        state = _push(state._replace(pending=""), Within.SUBSTITUTION)
    return state._replace(pending="", word=Word.YES, token="?", line=f"{state.line}?")


def after_raw(state: State) -> State:
    """The state after a value that is not quoted, which `is_closed`. It may be empty."""
    if state.pending not in ("", "(", ">"):
        return _unclear(state, f"a raw value right after {state.pending}")
    state = state._replace(pending="")
    return state._replace(word=Word.UNKNOWN, token="?", line=f"{state.line}?")


def is_closed(text: str, state: State) -> bool:
    """Whether text that is not quoted leaves the quotes and parentheses as they were."""
    end = read(text, state)
    pending = end.pending.strip("(>")
    return _outline(end, pending) == _outline(state, "")


def _outline(state: State, pending: str) -> State:
    return state._replace(word=Word.NO, token="", line="", pending=pending)


def merged(one: State, other: State, where: str) -> State:
    """The state where two ways through a template meet."""
    if one.unclear or other.unclear:
        return one if one.unclear else other
    if one == other:
        return one
    word = one.word if one.word is other.word else Word.UNKNOWN
    both = [state._replace(word=word, token="?", line="?") for state in (one, other)]
    if both[0] != both[1]:
        return one._replace(
            unclear=f"{where} leaves quotes or parentheses open in one case and not in another, "
            "so a value after it cannot be quoted"
        )
    return both[0]


def read(text: str, state: State) -> State:
    """The state after some more text."""
    for letter in text:
        if state.unclear:
            break
        state = _read(state, letter)
    return state


def _read(state: State, letter: str) -> State:
    match state.within:
        case Within.SINGLE:
            return _pop(state) if letter == "'" else state
        case Within.COMMENT:
            return _read(_pop(state)._replace(word=Word.NO), letter) if letter == "\n" else state
        case Within.BACKTICKS:
            if state.pending:
                return state._replace(pending="")
            if letter == "\\":
                return state._replace(pending=letter)
            return _pop(state) if letter == "`" else state
        case Within.DOCUMENT:
            return _read_document(state, letter)
    if state.pending:
        return _read_pending(state._replace(pending=""), state.pending, letter)
    if letter in "\\$":
        return state._replace(pending=letter)
    if letter == "`":
        if state.within is Within.ARITHMETIC:
            return _unclear(state, "`…` within $((…))")
        return _push(state, Within.BACKTICKS)
    match state.within:
        case Within.DOUBLE:
            return _pop(state) if letter == '"' else state
        case Within.EXPANSION:
            return _read_expansion(state, letter)
        case Within.ARITHMETIC:
            return _read_arithmetic(state, letter)
    return _read_command(state, letter)


def _read_pending(state: State, pending: str, letter: str) -> State:
    if pending == "\\":
        is_joined = letter == "\n" and state.within is not Within.DOUBLE
        return state if is_joined else state._replace(word=Word.YES, token="?")
    if letter == "\\":  # at the end of a line it would join what is before and after it
        return _unclear(state, f"a backslash right after {pending}")
    if pending == "$":
        if letter == "(":
            return state._replace(pending="$(")
        if letter == "{":
            return _push(state, Within.EXPANSION)
        if letter == "'" and state.within is not Within.DOUBLE:
            return _unclear(state, "$'…', which is not the same for all shells,")
        if letter == "[":
            return _unclear(state, "$[…], which is not the same for all shells,")
        return _read(state._replace(word=Word.YES, token="?"), letter)
    if pending == "$(":
        if letter == "(":
            return _push(state, Within.ARITHMETIC, 2)
        return _read(_push(state, Within.SUBSTITUTION), letter)
    if pending in "<>" and letter == "(":
        return _unclear(state, f"{pending}(…), which not all shells know,")
    if pending == "(" and letter == "(":
        return _unclear(state, "((…)), which is not the same for all shells,")
    if pending == "<" and letter == "<":
        return state._replace(pending="<<")
    if pending.startswith("<<"):
        return _read_delimiter(state, pending, letter)
    return _read(state, letter)


def _read_delimiter(state: State, pending: str, letter: str) -> State:
    """After `<<`: an optional `-`, blanks, and the delimiter, all kept in `pending`."""
    given = pending[2:]
    strips = given.startswith("-")
    name = given.removeprefix("-").lstrip(_BLANKS)
    if pending == "<<" and letter == "<":  # a here-string, in shells that know it
        return state
    is_blank = not name and letter in _BLANKS
    if len(pending) <= 2 * LONGEST and (is_blank or letter not in f"{_BLANKS}{_OPERATORS}\n"):
        return state._replace(pending=pending + letter)
    if len(name) > LONGEST or (found := _DELIMITER.fullmatch(name)) is None:
        return _unclear(state, "a here-document with an unusual delimiter")
    delimiter = next(one for one in found.groups() if one)
    document = Document(delimiter, strips, literal=name != delimiter)
    return _read(state._replace(documents=(*state.documents, document)), letter)


def _read_document(state: State, letter: str) -> State:
    if letter != "\n":
        is_longer = len(state.line) > 2 * LONGEST
        line = _NO_DELIMITER + state.line[-1:] if is_longer else state.line
        return state._replace(line=line + letter)
    document, *following = state.documents
    if state.line.endswith("\\") and not document.literal:
        return _unclear(state, "a here-document with a backslash at the end of a line")
    line = state.line.lstrip("\t") if document.strips else state.line
    state = state._replace(line="")
    if line != document.delimiter:
        return state
    state = state._replace(documents=tuple(following))
    return state if following else _pop(state)._replace(word=Word.NO)


def _read_expansion(state: State, letter: str) -> State:
    if letter == "}":
        return _pop(state)
    if letter in "'\"":
        if any(within is Within.DOUBLE for within, _ in state.stack):
            return _unclear(state, 'a quote within "${…}", which is not the same for all shells,')
        return _push(state, Within.SINGLE if letter == "'" else Within.DOUBLE)
    return state


def _read_arithmetic(state: State, letter: str) -> State:
    if letter in "'\"#;\n":
        return _unclear(state, f"{letter!r} within $((…))")
    if letter in "()":
        depth = state.stack[-1][1] + (1 if letter == "(" else -1)
        if depth == 0:
            return _pop(state)
        return state._replace(stack=(*state.stack[:-1], (Within.ARITHMETIC, depth)))
    return state


def _read_command(state: State, letter: str) -> State:
    if letter in f"{_BLANKS}\n{_OPERATORS}":
        return _end_word(state, letter)
    if letter in "'\"":
        return _push(state, Within.SINGLE if letter == "'" else Within.DOUBLE)
    if letter == "#":
        if state.word is Word.UNKNOWN:
            return _unclear(state, "a # that may begin a comment or not,")
        if state.word is Word.NO:
            return _push(state, Within.COMMENT)
    return state._replace(word=Word.YES, token=f"{state.token}{letter}"[-8:])


def _end_word(state: State, letter: str) -> State:
    if state.within is Within.SUBSTITUTION and state.token == "case":
        return _unclear(state, "a case within $(…)")
    if state.token == "[[":
        return _unclear(state, "[[ … ]], which not all shells know,")
    if state.word is Word.UNKNOWN and letter == "(":
        return _unclear(state, "a ( right after a raw value")
    state = state._replace(word=Word.NO, token="")
    if letter == "\n":
        if not state.documents:
            return state
        return _push(state, Within.DOCUMENT)._replace(line="")
    if letter in "<>(":
        state = state._replace(pending=letter)
    if state.within is Within.SUBSTITUTION and letter in "()":
        depth = state.stack[-1][1]
        if letter == ")" and depth == 0:
            if state.documents:
                return _unclear(state, "a here-document that does not end within its $(…)")
            return _pop(state)
        depth += 1 if letter == "(" else -1
        return state._replace(stack=(*state.stack[:-1], (Within.SUBSTITUTION, depth)))
    return state


def _push(state: State, within: Within, depth: int = 0) -> State:
    if within is Within.SUBSTITUTION and state.documents:
        return _unclear(state, "a $(…) between a here-document and its text")
    word = Word.NO if within is Within.SUBSTITUTION else state.word
    token = "" if within is Within.SUBSTITUTION else "?"
    return state._replace(stack=(*state.stack, (within, depth)), word=word, token=token)


def _pop(state: State) -> State:
    return state._replace(stack=state.stack[:-1], word=Word.YES, token="?")


def _unclear(state: State, what: str) -> State:
    return state._replace(unclear=f"a value after {what} cannot be quoted")
