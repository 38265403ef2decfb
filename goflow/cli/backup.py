"""Copy a store, in use or not."""

from pathlib import Path

import click

from goflow.cli.serving import store_option
from goflow.cli.terminal import Unusable, as_json, print_json


@click.command()
@click.argument("file")
@store_option
@as_json
def backup(file: str, store: str | None, as_json: bool) -> None:
    """Copy a store to the new FILE, whole, while its server runs or not.

    The server goes on meanwhile. FILE is a store like any other: serve it with --store.
    """
    from goflow.app import find_store
    from goflow.stores.sqlite import SqliteStore

    try:
        source = find_store(store)
    except ValueError as error:
        raise Unusable(str(error)) from None
    assert isinstance(source, SqliteStore)  # a path or URL names no other kind
    source.backup_unopened(file)
    size = Path(file).stat().st_size
    if as_json:
        print_json({"file": file, "store": store or "goflow.db", "bytes": size})
    else:
        click.echo(f"{file} is a copy of {store or 'goflow.db'}, {size:,} bytes")
