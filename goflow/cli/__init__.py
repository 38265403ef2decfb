"""The command `goflow`.

Only this package reads settings from the environment. Each command imports its slow dependencies
(rich, the HTTP client, the server) itself, so that the others start at once.
"""

import click

from goflow import __version__
from goflow.cli.terminal import Commands

# The module and function of each command, imported when the command is used, so that `serve` does
# not load the others.
COMMANDS = {
    "demo": "serving:demo",
    "serve": "serving:serve",
    "run": "running:run",
    "list": "definitions:list_jobs",
    "check": "definitions:check",
    "graph": "definitions:graph",
    "next": "times:next_times",
    "submit": "remote:submit",
    "toggle": "remote:toggle",
    "cancel": "remote:cancel",
    "retry": "remote:retry",
    "mark": "remote:mark",
    "artifacts": "remote:artifacts",
    "logs": "remote:logs",
    "ticks": "ledger:ticks",
    "upcoming": "ledger:upcoming",
    "backfill": "backfill:backfill",
    "backup": "backup:backup",
    "version": "version:version",
}


@click.group(
    cls=Commands,
    places=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=(
        "Exit codes: 0 success, 1 failed or refused, 2 wrong usage or an invalid file, "
        "3 the server does not respond, 130 stopped by Ctrl-C."
    ),
)
@click.version_option(__version__, "--version", message="goflow %(version)s")
def main() -> None:
    """A DAG scheduler and live dashboard in one Python process."""


__all__ = ["main"]
