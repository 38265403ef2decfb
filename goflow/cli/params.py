"""Parameters of a job, written as `--param name=value`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from goflow.cli.terminal import Unusable

params_option: Callable[[Any], Any] = click.option(
    "-p",
    "--param",
    "params",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter of the job, as JSON or as text; may be repeated.",
)


def read_params(given: Sequence[str], defaults: Mapping[str, Any] | None) -> dict[str, Any]:
    """The values by name: JSON if the text is JSON and the default is not a text, else text."""
    import msgspec

    values: dict[str, Any] = {}
    for each in given:
        name, separator, text = each.partition("=")
        if not separator or not name:
            raise Unusable(f"--param {each!r} must be name=value")
        if name in values:
            raise Unusable(f"--param {name!r} is given twice")
        values[name] = text
        if not isinstance((defaults or {}).get(name), str):
            try:
                values[name] = msgspec.json.decode(text)
            except (msgspec.DecodeError, UnicodeEncodeError):
                continue
    return values
