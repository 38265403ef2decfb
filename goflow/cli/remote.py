"""Commands for a running server: submit, toggle, cancel, retry, logs."""

import re
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from goflow.cli.params import params_option, read_params
from goflow.cli.server import Server
from goflow.cli.terminal import FAILED, Problem, as_json, print_json

if TYPE_CHECKING:
    from goflow.core.summary import Detail

POLL = 0.3  # seconds between two looks at what is still going on

server_option: Callable[[Any], Any] = click.option(
    "--server",
    "url",
    envvar="GOFLOW_SERVER",
    default="http://127.0.0.1:8181",
    show_default=True,
    show_envvar=True,
    metavar="URL",
    help="Where the server is.",
)


@click.command()
@click.argument("job")
@params_option
@click.option("--idempotency-key", metavar="KEY", help="Repeated with the same key: submits once.")
@click.option("--wait", is_flag=True, help="Watch it to its end; the exit code tells how it went.")
@server_option
@as_json
def submit(
    job: str,
    params: tuple[str, ...],
    idempotency_key: str | None,
    wait: bool,
    url: str,
    as_json: bool,
) -> None:
    """Submit JOB on a server and print the execution's id.

    With --wait, exits with 0 if the execution is successful and with 1 if it is not; Ctrl-C
    ends the watching, not the execution.
    """
    with Server(url) as server:
        body = None
        if params:
            defaults = server.get("jobs", job).get("params")
            body = {"params": read_params(params, defaults)}
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        accepted = server.post("jobs", job, "submit", body=body, headers=headers)
        if wait:
            _watch(server, accepted["id"], as_json)
        elif as_json:
            print_json(accepted)
        else:
            click.echo(accepted["id"])


def _watch(server: Server, id: str, as_json: bool) -> None:
    from goflow.cli.view import choose_view, print_errors
    from goflow.core.states import State

    detail = _execution(server, id)
    with choose_view(detail.job, _upstream(detail.dag), silent=as_json, local=False) as view:
        view.update(detail.state, detail.tasks)
        while not detail.state.finished:
            time.sleep(POLL)
            detail = _execution(server, id)
            view.update(detail.state, detail.tasks)
    if as_json:
        print_json(detail)
    else:
        print_errors(detail.tasks)
        click.echo(f"\n{detail.job} {detail.state}: {id}")
    if detail.state is not State.SUCCESSFUL:
        raise click.exceptions.Exit(FAILED)


def _execution(server: Server, id: str) -> "Detail":
    import msgspec

    from goflow.core.summary import Detail

    return msgspec.json.decode(server.text("executions", id), type=Detail)


def _upstream(dag: dict[str, list[str]]) -> dict[str, Sequence[str]]:
    return {task: [one for one in dag if task in dag[one]] for task in dag}


@click.command()
@click.argument("job")
@click.option("--on/--off", "active", default=None, help="Set it so; without, switch it over.")
@server_option
@as_json
def toggle(job: str, active: bool | None, url: str, as_json: bool) -> None:
    """Switch the schedule of JOB on or off on a server."""
    with Server(url) as server:
        body = None if active is None else {"active": active}
        answer = server.post("jobs", job, "toggle", body=body)
    if as_json:
        print_json(answer)
    else:
        click.echo(f"{job} is {'on' if answer['active'] else 'off'}")


@click.command()
@click.argument("id")
@server_option
@as_json
def cancel(id: str, url: str, as_json: bool) -> None:
    """Stop the execution ID on a server.

    Exits with 1 if it had finished already.
    """
    with Server(url) as server:
        answer = server.post("executions", id, "cancel")
    if as_json:
        print_json(answer)
    elif answer["success"]:
        click.echo(f"{id} is cancelled")
    if not answer["success"]:
        if as_json:
            raise click.exceptions.Exit(FAILED)
        raise Problem(f"execution {id} had finished already")


@click.command()
@click.argument("id")
@server_option
@as_json
def retry(id: str, url: str, as_json: bool) -> None:
    """Run again what did not succeed in an execution."""
    with Server(url) as server:
        answer = server.post("executions", id, "retry")
    if as_json:
        print_json(answer)
    else:
        click.echo(f"{id} runs again")


@click.command()
@click.argument("id")
@click.argument("task")
@click.option("--attempt", type=click.IntRange(1), help="Which attempt; the last by default.")
@click.option("--follow", "-f", is_flag=True, help="Print what is added, until the task ends.")
@server_option
def logs(id: str, task: str, attempt: int | None, follow: bool, url: str) -> None:
    """Print the log of TASK in the execution ID.

    --follow goes on to the next attempt when one fails, unless --attempt chose one.
    """
    with Server(url) as server:
        if follow:
            _follow(server, id, task, attempt)
        else:
            text = server.text("executions", id, "tasks", task, "logs", attempt=attempt)
            click.echo(text, nl=False)


def _follow(server: Server, id: str, task: str, chosen: int | None) -> None:
    attempt, printed = chosen, 0
    while True:
        # Looked at before the log is read: what has ended by now, adds nothing after.
        found = next((one for one in _execution(server, id).tasks if one.name == task), None)
        if found is None:
            raise Problem(f"execution {id} has no task {task!r}")
        begun = [one.attempt for one in found.attempts]
        ended = {one.attempt for one in found.attempts if one.finished is not None}
        over = found.state.finished
        if attempt is None and begun:
            attempt = begun[-1]
        if attempt in begun:
            done = attempt in ended or over
            text = server.text(
                "executions", id, "tasks", task, "logs", attempt=attempt, after=printed
            )
            whole = text if done else text[: text.rfind("\n") + 1]
            click.echo(whole, nl=False)
            printed += _lines(whole)
            if done and chosen is not None:
                return
            if done and attempt + 1 in begun:
                attempt, printed = attempt + 1, 0
                continue
        if over:
            return
        time.sleep(POLL)


LEFT_OUT = re.compile(r"^\[… ([\d,]+) lines left out …\]$", re.MULTILINE)


def _lines(text: str) -> int:
    """How many lines of the log these are, those it says it left out included."""
    left_out = sum(int(one[1].replace(",", "")) - 1 for one in LEFT_OUT.finditer(text))
    return text.count("\n") + left_out
