"""The command `goflow`.

Only this package reads the environment. Each command imports its slow dependencies (rich, the HTTP
client, the server) itself, so that the others start at once.
"""

import click

from goflow import __version__
from goflow.cli.backfill import backfill
from goflow.cli.backup import backup
from goflow.cli.definitions import check, graph, list_jobs
from goflow.cli.ledger import ticks, upcoming
from goflow.cli.remote import cancel, logs, mark, retry, submit, toggle
from goflow.cli.running import run
from goflow.cli.serving import demo, serve
from goflow.cli.terminal import Commands
from goflow.cli.times import next_times
from goflow.cli.version import version


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=(
        "Exit codes: 0 success, 1 failed or refused, 2 wrong usage or an invalid file, "
        "3 the server does not respond, 130 stopped by Ctrl-C."
    ),
)
@click.version_option(__version__, "--version", message="goflow %(version)s")
def main() -> None:
    """A DAG scheduler and live dashboard in one Python process."""


for command in (
    demo,
    serve,
    run,
    list_jobs,
    check,
    graph,
    next_times,
    submit,
    toggle,
    cancel,
    retry,
    mark,
    logs,
    ticks,
    upcoming,
    backfill,
    backup,
    version,
):
    main.add_command(command)

__all__ = ["main"]
