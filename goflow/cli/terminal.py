"""What every command says the same way: errors, exit codes, JSON, columns, durations.

An error is one line on stderr that begins with "Error: "; an answer goes to stdout.
"""

import os
import signal
import sys
import unicodedata
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from goflow.cli import output
from goflow.errors import GoflowError, InvalidJob, InvalidRequest

FAILED = 1


class Problem(click.ClickException):
    """It was tried and did not succeed, or was refused."""

    exit_code = FAILED


class Unusable(Problem):
    """Wrong usage, or a file that cannot be used."""

    exit_code = 2


class Unreachable(Problem):
    """The server does not answer."""

    exit_code = 3


class Interrupted(Problem):
    """Ctrl-C. This code and the next two are what a shell reports of a program so ended."""

    exit_code = 128 + signal.SIGINT


class Terminated(Problem):
    """SIGTERM, as `kill` sends it."""

    exit_code = 128 + signal.SIGTERM


class HungUp(Problem):
    """SIGHUP: the terminal was closed."""

    exit_code = 128 + signal.SIGHUP


class Commands(click.Group):
    """The commands in the order added; goflow's own errors and Ctrl-C as exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def __call__(self, *args: Any, **options: Any) -> Any:
        """As a program: what tasks have left running does not keep it from ending, and an answer
        that does not get out fails."""
        if os.getpid() == 1:
            from goflow.engine.process.process_one import stand_aside

            stand_aside()
        output.check()
        try:
            try:
                return self.main(*args, **options)
            finally:
                output.flush()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else FAILED
        except output.Unwritable as error:
            code = output.give_up(error)
        if (leaving := sys.modules.get("goflow.engine.process.leaving")) is not None:
            leaving.depart(code)
        sys.exit(code)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (InvalidJob, InvalidRequest) as error:
            raise Unusable(str(error)) from error
        except GoflowError as error:
            raise Problem(str(error)) from error
        except KeyboardInterrupt:
            raise Interrupted("stopped by Ctrl-C") from None


as_json: Callable[[Any], Any] = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, for programs."
)


def print_json(value: object) -> None:
    """The value as indented JSON; times as RFC 3339 in UTC."""
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def rfc3339(instant: datetime) -> str:
    """An instant in UTC, to the second, and finer only if it is not a whole one."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def duration(span: timedelta) -> str:
    """`0.4s`, `12.0s`, `2m05s`, `1h02m`; never below zero, though two clocks may disagree."""
    seconds = max(span.total_seconds(), 0.0)
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s"
    return f"{minutes // 60}h{minutes % 60:02}m"


def width(text: str) -> int:
    """Cells that a text takes in a terminal."""
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1
        for one in text
    )


def padded(text: str, cells: int) -> str:
    return text + " " * (cells - width(text))


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of equally many texts, each column as wide as its widest text, none cut."""
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(padded, row, widths)).rstrip() for row in rows]
