"""Common to all commands: errors, exit codes, JSON, columns and durations.

An error is one line on stderr that begins with "Error: ". Output goes to stdout.
"""

import os
import signal
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any, cast

import click

from goflow.cli import output
from goflow.errors import GoflowError, InvalidJob, InvalidRequest

FAILED = 1


class Problem(click.ClickException):
    """The command failed or was refused."""

    exit_code = FAILED


class Unusable(Problem):
    """Wrong usage, or an invalid file."""

    exit_code = 2


class Unreachable(Problem):
    """The server does not respond."""

    exit_code = 3


class Interrupted(Problem):
    """Ctrl-C. The exit codes of this and the next two classes follow the convention of shells."""

    exit_code = 128 + signal.SIGINT


class Terminated(Problem):
    """SIGTERM."""

    exit_code = 128 + signal.SIGTERM


class HungUp(Problem):
    """SIGHUP: the terminal was closed."""

    exit_code = 128 + signal.SIGHUP


class Imported(Mapping[str, click.Command]):
    """Commands by name, each imported when it is looked up. `places` has the module below
    `goflow.cli` and the function of each, as `times:next_times`."""

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = places

    def __getitem__(self, name: str) -> click.Command:
        module, _, function = self._places[name].partition(":")
        command: click.Command = getattr(import_module(f"goflow.cli.{module}"), function)
        return command

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class Commands(click.Group):
    """Lists commands in the order given, and turns goflow's errors and Ctrl-C into exit codes."""

    def __init__(self, *args: Any, places: Mapping[str, str], **options: Any) -> None:
        super().__init__(*args, **options)
        self.commands = cast("MutableMapping[str, click.Command]", Imported(places))

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Run as a program. Threads and processes left by tasks do not delay the exit, and an
        error of standard output is a failure."""
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


as_json: Callable[[Any], Any] = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def print_json(value: object) -> None:
    """Print a value as indented JSON, with times as RFC 3339 in UTC."""
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def print_answer(answer: object, text: str, as_json: bool) -> None:
    """Print the server's answer as JSON, or a text about it."""
    if as_json:
        print_json(answer)
    else:
        click.echo(text)


def rfc3339(instant: datetime) -> str:
    """An instant in UTC. Fractions of a second are shown only if there are any."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def duration(span: timedelta) -> str:
    """`0.4s`, `12.0s`, `2m05s`, `1h02m`. Never negative, even if two clocks disagree."""
    seconds = max(span.total_seconds(), 0.0)
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s"
    return f"{minutes // 60}h{minutes % 60:02}m"


def width(text: str) -> int:
    """The number of cells a text takes in a terminal."""
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1
        for one in text
    )


def padded(text: str, cells: int) -> str:
    return text + " " * (cells - width(text))


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines, with columns aligned to their widest text. All rows have the same length."""
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(padded, row, widths)).rstrip() for row in rows]
