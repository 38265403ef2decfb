"""Checks a template when its job is defined, and renders it.

The rule that must not be broken: a template that is accepted fails only by its values.

A template is parsed by Jinja2. What has no place in a short text (macros, blocks, includes) is
refused. Then each operation that could take long is replaced by one that pays; see `spending`.
"""

import functools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from jinja2 import nodes
from jinja2.exceptions import TemplateRuntimeError, TemplateSyntaxError
from jinja2.meta import TrackingCodeGenerator
from jinja2.visitor import NodeTransformer

from goflow.shown import reason
from goflow.templates import shell
from goflow.templates.mistake import Mistake
from goflow.templates.operations import ATTRIBUTES
from goflow.templates.sandbox import GLOBALS, Results, Sandbox
from goflow.templates.spending import ALLOWANCE, LOOP_STEP, STEP, Rendering, TooMuch

NAMES = (
    "params",
    "results",
    "scheduled_at",
    "submitted_at",
    "execution_id",
    "attempt",
    "job",
    "task",
    "item",
    "index",
    "interval_start",
    "interval_end",
    "outcome",
)
METHODS = ATTRIBUTES[dict]  # of `results`, unless a task has that name
OUTPUT_LIMIT = 1024 * 1024  # characters
KEPT = 1000  # compiled templates; others are compiled again

_REFUSED: dict[type[nodes.Node], str] = {
    nodes.Macro: "macro",
    nodes.CallBlock: "call",
    nodes.FilterBlock: "filter",
    nodes.Block: "block",
    nodes.Extends: "extends",
    nodes.Include: "include",
    nodes.Import: "import",
    nodes.FromImport: "from",
    nodes.ScopedEvalContextModifier: "autoescape",
}


class Use(NamedTuple):
    """The use of a name in a line."""

    name: str
    line: int


class Compiled:
    """A template that can be rendered. Raises `Mistake`.

    With `in_shell`, each value is quoted for the place where it stands in shell text.
    """

    def __init__(self, text: str, in_shell: bool) -> None:
        tree = _parsed(text)
        names = _check(tree)
        self.results = tuple(_results(tree))
        self.of_item = next(_loads(tree, names & {"item", "index"}), None)
        self.of_outcome = next(_loads(tree, names & {"outcome"}), None)
        self.of_attempt = next(_loads(tree, names & {"attempt"}), None)
        sole = _sole(tree)
        self._sites = tuple(shell.Places(tree).sites) if in_shell else ()
        _Priced().visit(tree)
        self._template = _compiled(tree)
        self._expression = None
        if sole is not None and not in_shell:
            name = nodes.Name("value", "store", lineno=1)
            sole = tree.body[0].nodes[0]  # type: ignore[attr-defined] # as it was replaced
            value = shell.filtered(sole, "_plain")
            body = [nodes.Assign(name, value, lineno=1)]
            self._expression = _compiled(nodes.Template(body, lineno=1))

    def render(
        self, values: Mapping[str, Any], allowance: int = ALLOWANCE, *, is_typed: bool = False
    ) -> tuple[Any, tuple[str, ...]]:
        """The text, and the texts of the expressions in it.

        With `is_typed`, a template that is one expression gives its value, of JSON's types.
        Raises `Mistake`, and `TooMuch` if it takes more than an allowance that is not all of it.
        """
        if not is_typed or self._expression is None:
            context, parts = self._run(self._template, values, allowance)
            return "".join(parts), tuple(context.made)
        context, _ = self._run(self._expression, values, allowance)
        return context.vars["value"], ()

    def _run(
        self, template: Any, values: Mapping[str, Any], allowance: int
    ) -> tuple[Rendering, list[str]]:
        context: Rendering = template.new_context(values)
        context.sites = self._sites
        context.left = allowance
        context.made = []
        try:
            parts = list(template.root_render_func(context))
        except Exception as error:
            if isinstance(error, TooMuch) and allowance < ALLOWANCE:
                raise
            raise Mistake(_line(template, error), _told(error)) from None
        if (size := sum(map(len, parts))) > OUTPUT_LIMIT:
            raise Mistake(
                1, f"it makes {size:,} characters, more than the {OUTPUT_LIMIT:,} allowed"
            )
        return context, parts


@functools.lru_cache(KEPT)
def compiled(text: str, in_shell: bool) -> Compiled:
    return Compiled(text, in_shell)


@functools.lru_cache(KEPT)
def compiled_condition(text: str) -> Compiled:
    """The expression as a template that gives true or false. Raises `Mistake`."""
    # In a list, since parentheses would match those of "a) or (b".
    match _sole(_parsed("{{ [" + text + "] }}")):
        case nodes.List(items=[_]):
            return Compiled("{{ not not (" + text + ") }}", in_shell=False)
    raise Mistake(1, "it must be one expression")


def values_of(context: Any) -> dict[str, Any]:
    """The values of the names that a template may use, from the context of an attempt."""
    values = {name: getattr(context, name) for name in NAMES if hasattr(context, name)}
    if values.get("index") is None:  # the task is not mapped
        values.pop("item", None)
        values.pop("index", None)
    if (outcome := values.get("outcome")) is None:  # the task is no hook
        values.pop("outcome", None)
    else:
        told = {name: getattr(outcome, name) for name in outcome.__struct_fields__}
        values["outcome"] = told | {"state": str(outcome.state)}
    values["params"] = dict(values["params"])
    values["results"] = Results(values["results"])
    return values


def item_values(
    values: Mapping[str, Any], results: Mapping[str, Any], item: Any, index: int
) -> dict[str, Any]:
    """The values for the key of an item, before it has an attempt."""
    return {**values, "results": Results(results), "item": item, "index": index}


# -- when it is defined ------------------------------------------------------------


@functools.cache
def _sandbox() -> Sandbox:
    sandbox = Sandbox()
    sandbox.filters |= shell.FILTERS
    return sandbox


def _parsed(text: str) -> nodes.Template:
    try:
        return _sandbox().parse(text)
    except TemplateSyntaxError as error:
        message = error.message or "invalid syntax"
        if "end of comment" in message:
            message += (
                "; '{#' begins a comment of the template. Write shell's ${#name} as "
                "{% raw %}${#name}{% endraw %}"
            )
        raise Mistake(error.lineno, message) from None
    except RecursionError:
        raise Mistake(1, "it is nested too deeply") from None


def _compiled(tree: nodes.Template) -> Any:
    try:
        return _sandbox().from_string(tree)
    except TemplateSyntaxError as error:
        raise Mistake(error.lineno, error.message or "invalid syntax") from None
    except (SyntaxError, RecursionError, MemoryError):  # of the generated code
        raise Mistake(1, "it is nested too deeply") from None


def _check(tree: nodes.Template) -> set[str]:
    """Refuse what a template must not have. Returns the names that it does not set itself."""
    for node in _all(tree):
        if type(node) in _REFUSED:
            tag = _REFUSED[type(node)]
            raise Mistake(node.lineno, f"a template cannot use {{% {tag} %}}")
        match node:
            case nodes.For(recursive=True):
                raise Mistake(node.lineno, "a loop cannot be recursive")
            case nodes.Filter(name=name) if name not in _public(_sandbox().filters):
                known = ", ".join(sorted(_public(_sandbox().filters)))
                raise Mistake(node.lineno, f"there is no filter {name!r}; there are {known}")
            case nodes.Test(name=name) if name not in _sandbox().tests:
                known = ", ".join(sorted(one for one in _sandbox().tests if one[0].isalpha()))
                raise Mistake(node.lineno, f"there is no test {name!r}; there are {known}")
    names = _undeclared(tree)
    unknown = names - {*NAMES, *GLOBALS}
    unknown |= {"self"} - {node.name for node in tree.find_all(nodes.Name) if node.ctx == "store"}
    for name, line in _loads(tree, unknown):
        raise Mistake(line, f"unknown name {name!r}; a template knows {', '.join(NAMES)}")
    return names


def _loads(tree: nodes.Template, names: set[str]) -> Iterator[Use]:
    """The uses of names, in order."""
    for node in _all(tree):
        if isinstance(node, nodes.Name) and node.ctx == "load" and node.name in names:
            yield Use(node.name, node.lineno)


def _undeclared(tree: nodes.Template) -> set[str]:
    """As `jinja2.meta.find_undeclared_variables`, which would also compute constants, unpaid."""
    generator = TrackingCodeGenerator(_sandbox())
    generator.optimizer = None
    try:
        generator.visit(tree)
    except RecursionError:
        raise Mistake(1, "it is nested too deeply") from None
    return generator.undeclared_identifiers


def _public(names: Mapping[str, Any]) -> set[str]:
    return {name for name in names if not name.startswith("_")}


def _all(tree: nodes.Node) -> Iterator[nodes.Node]:
    pending: list[nodes.Node] = [tree]
    while pending:
        node = pending.pop()
        yield node
        pending.extend(reversed(list(node.iter_child_nodes())))


def _sole(tree: nodes.Template) -> nodes.Expr | None:
    """The expression of a template that is nothing else."""
    match tree.body:
        case [nodes.Output(nodes=[one])] if not isinstance(one, nodes.TemplateData):
            return one
    return None


def _results(tree: nodes.Template) -> Iterator[Use]:
    """The uses of results by name; none if the template sets `results` itself."""
    everything = list(_all(tree))
    names = (node for node in everything if isinstance(node, nodes.Name))
    if any((node.name, node.ctx) == ("results", "store") for node in names):
        return
    for node in everything:
        match node:
            case nodes.Getattr(node=nodes.Name(name="results"), attr=task) if task not in METHODS:
                yield Use(task, node.lineno)
            case nodes.Getitem(node=nodes.Name(name="results"), arg=nodes.Const(value=str(task))):
                yield Use(task, node.lineno)


class _Priced(NodeTransformer):
    """Replaces operations by those that pay."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        weight = sum(map(_weight, _all(node)))
        self.generic_visit(node)
        node.iter = shell.filtered(node.iter, "_each", nodes.Const(weight, lineno=node.lineno))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return shell.filtered(node.nodes[0], "_concat", *node.nodes[1:])

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        rest: list[nodes.Expr] = []
        for operand in node.ops:
            rest += [nodes.Const(operand.op, lineno=node.lineno), operand.expr]
        return shell.filtered(node.expr, "_compare", *rest)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            return node
        parts = (node.arg.start, node.arg.stop, node.arg.step)
        none = nodes.Const(None, lineno=node.lineno)
        return shell.filtered(node.node, "_slice", *(none if one is None else one for one in parts))


def _weight(node: nodes.Node) -> int:
    """What a node in the body of a loop costs each time."""
    match node:
        case nodes.TemplateData(data=data):
            return len(data)
        case nodes.Getattr() | nodes.Getitem():
            return STEP
    return LOOP_STEP


# -- when it is rendered -----------------------------------------------------------


def _told(error: Exception) -> str:
    match error:
        case TemplateRuntimeError():
            return error.message or "it could not be rendered"
        case RecursionError():
            return "it is nested too deeply"
        case MemoryError():
            return "there is no memory for it"
    return reason(error)


def _line(template: Any, error: BaseException) -> int:
    """The line in the template at which an error was raised."""
    line = 1
    trace = error.__traceback__
    code = template.root_render_func.__code__.co_filename
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == code:
            line = template.get_corresponding_lineno(trace.tb_lineno)
        trace = trace.tb_next
    return line
