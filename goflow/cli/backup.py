"""Copy a store, whether or not it is in use."""

from pathlib import Path

import click

from goflow.cli.serving import store_option
from goflow.cli.terminal import Unusable, as_json, print_json


@click.command()
@click.argument("file")
@store_option
@as_json
def backup(file: str, store: str | None, as_json: bool) -> None:
    """Copy a store to the new FILE, whether or not its server runs.

    The server continues meanwhile. FILE is a store like any other: serve it with --store.
    """
    from goflow.stores.registry import DEFAULT, find_store

    try:
        found = find_store(store)
    except ValueError as error:
        raise Unusable(str(error)) from None
    found.backup_unopened(file)
    source = store or DEFAULT
    size = Path(file).stat().st_size
    if as_json:
        print_json({"file": file, "store": source, "bytes": size})
    else:
        click.echo(f"{file} is a copy of {source}, {size:,} bytes")
