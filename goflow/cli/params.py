"""The option `--param name=value`."""

from collections.abc import Callable, Sequence
from typing import Any

import click

from goflow.cli.terminal import Unusable

params_option: Callable[[Any], Any] = click.option(
    "-p",
    "--param",
    "params",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter of the job, as JSON or text; may be repeated.",
)


def read_params(given: Sequence[str], schema: dict[str, Any] | None) -> dict[str, Any]:
    """The values by name. A value is parsed as JSON if the job's schema allows a result other
    than text; else it is text."""
    import msgspec

    from goflow.job.params import kind_of, kinds_of

    known = {} if schema is None else schema.get("properties", {})
    values: dict[str, Any] = {}
    for each in given:
        name, separator, text = each.partition("=")
        if not separator or not name:
            raise Unusable(f"--param {each!r} must be name=value")
        if name in values:
            raise Unusable(f"--param {name!r} is given more than once")
        values[name] = text
        kinds = kinds_of(schema or {}, known.get(name, {}))
        if kinds != {"string"}:
            try:
                value = msgspec.json.decode(text)
            except (msgspec.DecodeError, UnicodeEncodeError):
                continue
            if kinds is None or "string" not in kinds or kind_of(value) in kinds:
                values[name] = value
    return values
