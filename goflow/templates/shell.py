"""Finds the places of values in the shell text of a template, and has them quoted there.

The rule that must not be broken: each value is quoted for its place on every way through the
template's conditions and loops, unless it says `| raw`; or the template is refused.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from jinja2 import nodes, pass_context
from jinja2.exceptions import TemplateRuntimeError

from goflow.templates.mistake import Mistake
from goflow.templates.quoting import (
    State,
    Style,
    after_raw,
    after_value,
    is_closed,
    merged,
    quoted,
    read,
    style,
)

PASSES = 3  # over the body of a loop, until its state at both ends is the same
DEEPEST = 5  # loops within each other
READ = 10  # what reading a character of shell text takes


class Site(NamedTuple):
    """A place of a value in shell text. `style` is None for one that is not quoted; `is_followed`
    says whether another value may come after it."""

    state: State
    style: Style | None
    is_followed: bool


class Places:
    """The places of all values in a template that makes shell text. Raises `Mistake`.

    It marks the values in the tree with the number of their place in `sites`.
    """

    def __init__(self, tree: nodes.Template) -> None:
        self.sites: list[Site] = []
        self._found: dict[tuple[int, int], tuple[nodes.Output, int, State, bool]] = {}
        self._loops = 0
        self._body(tree.body, State())
        places = list(self._found.values())
        for number, (output, position, state, in_loop) in enumerate(places):
            output.nodes[position] = self._marked(
                output.nodes[position], state, in_loop or number < len(places) - 1
            )
        for node in tree.find_all(nodes.Filter):
            if node.name == "raw":
                raise Mistake(node.lineno, "raw must be the last filter of a value: {{ … | raw }}")

    def _marked(self, node: nodes.Expr, state: State, is_followed: bool) -> nodes.Expr:
        if isinstance(node, nodes.Filter) and node.name == "raw":
            assert node.node is not None
            return self._site(node.node, "_unquoted", Site(state, None, is_followed))
        found = style(state)
        if isinstance(found, str):
            raise Mistake(
                node.lineno, f"{found}; {{{{ value | raw }}}} inserts it as it is, without quotes"
            )
        return self._site(node, "_quoted", Site(state, found, is_followed))

    def _site(self, node: nodes.Expr, name: str, site: Site) -> nodes.Expr:
        self.sites.append(site)
        number = nodes.Const(len(self.sites) - 1, lineno=node.lineno)
        return filtered(node, name, number)

    def _body(self, body: Sequence[nodes.Node], state: State) -> State:
        for node in body:
            match node:
                case nodes.Output():
                    state = self._output(node, state)
                case nodes.If():
                    state = self._if(node, state)
                case nodes.For():
                    state = self._for(node, state)
                case nodes.With():
                    state = self._body(node.body, state)
        return state

    def _output(self, output: nodes.Output, state: State) -> State:
        for position, node in enumerate(output.nodes):
            if isinstance(node, nodes.TemplateData):
                state = read(node.data, state)
                continue
            self._found[id(output), position] = output, position, state, self._loops > 0
            is_raw = isinstance(node, nodes.Filter) and node.name == "raw"
            state = after_raw(state) if is_raw else after_value(state)
        return state

    def _if(self, node: nodes.If, state: State) -> State:
        where = f"the if in line {node.lineno}"
        ways = [node.body, *(one.body for one in node.elif_), node.else_]
        ends = [self._body(way, state) for way in ways]
        for end in ends[1:]:
            ends[0] = merged(ends[0], end, where)
        return ends[0]

    def _for(self, node: nodes.For, state: State) -> State:
        where = f"the loop in line {node.lineno}"
        begin = state
        self._loops += 1
        if self._loops > DEEPEST:
            raise Mistake(node.lineno, f"more than {DEEPEST} loops are within each other")
        for _ in range(PASSES):
            before, begin = begin, merged(begin, self._body(node.body, begin), where)
            if begin == before:
                break
        self._loops -= 1
        return merged(begin, self._body(node.else_, state), where)


def filtered(node: Any, name: str, *args: nodes.Expr) -> nodes.Filter:
    """The node `{{ node | name(…) }}`."""
    return nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)


@pass_context
def _quoted(context: Any, value: Any, number: int) -> str:
    site = context.sites[number]
    text = _shell_text(context, value)
    context.spend(len(text))
    return quoted(text, site.style)


@pass_context
def _unquoted(context: Any, value: Any, number: int) -> str:
    site = context.sites[number]
    text = _shell_text(context, value)
    if site.is_followed and not site.state.unclear:
        context.spend(READ * len(text))
        if not is_closed(text, site.state):
            raise TemplateRuntimeError(
                "a raw value leaves a quote, a parenthesis or a comment open, so the values after "
                "it cannot be quoted"
            )
    return text


def _shell_text(context: Any, value: Any) -> str:
    text: str = context.text(value)
    if "\0" in text:
        raise TemplateRuntimeError("a value has a NUL character, which shell text cannot have")
    return text


FILTERS = {"_quoted": _quoted, "_unquoted": _unquoted}
