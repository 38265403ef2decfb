"""`goflow version`."""

import click

from goflow import __version__
from goflow.cli.terminal import as_json, print_json


@click.command()
@as_json
def version(as_json: bool) -> None:
    """Print goflow's version."""
    if as_json:
        print_json({"version": __version__})
    else:
        click.echo(f"goflow {__version__}")
