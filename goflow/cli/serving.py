"""`goflow serve` and `demo`: serve a user's file or the example jobs."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from goflow.cli.terminal import Unusable

if TYPE_CHECKING:
    from goflow import Goflow

store_option: Callable[[Any], Any] = click.option(
    "--store",
    envvar="GOFLOW_STORE",
    show_envvar=True,
    metavar="PATH",
    help="Path of the SQLite store; goflow.db by default.",
)
host_option: Callable[[Any], Any] = click.option(
    "--host", help="Address to listen on; by default the one in FILE, else 127.0.0.1."
)
port_option: Callable[[Any], Any] = click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    help="Port to listen on, 0 for any free one; by default the one in FILE, else 8181.",
)


def _check_prefix(context: click.Context, option: click.Parameter, value: str) -> str:
    from goflow.web.prefix import parse_prefix

    try:
        return parse_prefix(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@host_option
@port_option
@store_option
def demo(host: str | None, port: int | None, store: str | None) -> None:
    """Serve the dashboard with the example jobs."""
    from goflow import Goflow
    from goflow.examples import flow, follower

    gf = Goflow(show_examples=True)
    gf.add_job(flow)
    gf.add_job(follower)
    _configure(gf, store)
    gf.serve(host=host, port=port)


@click.command()
@click.argument("file")
@host_option
@port_option
@store_option
@click.option(
    "--root-path",
    default="",
    metavar="PATH",
    callback=_check_prefix,
    help="Path prefix under which a proxy serves it, such as /goflow.",
)
@click.option(
    "--allowed-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="Host name to accept besides localhost and IP addresses; may be repeated.",
)
@click.option(
    "--trusted-proxy",
    "trusted_proxies",
    multiple=True,
    metavar="ADDRESS",
    help="Address or network of a proxy to trust X-Forwarded-* headers from; may be repeated.",
)
def serve(
    file: str,
    host: str | None,
    port: int | None,
    store: str | None,
    root_path: str,
    allowed_hosts: tuple[str, ...],
    trusted_proxies: tuple[str, ...],
) -> None:
    """Serve the jobs in FILE with the API and the dashboard.

    FILE defines a Goflow, or only jobs; `main.py:name` chooses one of several Goflow objects.
    SIGTERM and Ctrl-C stop the server gracefully; a second one stops it at once.
    """
    from goflow.cli.program import load

    gf = load(file)
    _configure(gf, store, allowed_hosts, trusted_proxies)
    gf.serve(host=host, port=port, root_path=root_path)


def _configure(
    gf: "Goflow",
    store: str | None,
    allowed_hosts: Sequence[str] = (),
    trusted_proxies: Sequence[str] = (),
) -> None:
    try:
        gf.configure(store=store, allowed_hosts=allowed_hosts, trusted_proxies=trusted_proxies)
    except ValueError as error:
        raise Unusable(str(error)) from None
