"""Commands for a running server: submit, toggle, cancel, retry, mark, logs."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from goflow.cli.params import params_option, read_params
from goflow.cli.server import Server
from goflow.cli.terminal import FAILED, Problem, Unusable, as_json, print_json

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
            schema = server.get("jobs", job)["params_schema"]
            body = {"params": read_params(params, schema)}
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

    detail = find_execution(server, id)
    with choose_view(detail.job, _upstream(detail.dag), silent=as_json, local=False) as view:
        view.update(detail.state, detail.tasks)
        while not detail.state.finished:
            time.sleep(POLL)
            detail = find_execution(server, id)
            view.update(detail.state, detail.tasks)
    if as_json:
        print_json(detail)
    else:
        print_errors(detail.tasks)
        click.echo(f"\n{detail.job} {detail.state}: {id}")
    if detail.state is not State.SUCCESSFUL:
        raise click.exceptions.Exit(FAILED)


def find_execution(server: Server, id: str) -> "Detail":
    """The execution as it is now."""
    import msgspec

    from goflow.core.summary import Detail

    try:
        return msgspec.json.decode(server.text("executions", id), type=Detail)
    except msgspec.DecodeError:
        raise server.foreign() from None


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
@click.option("--task", metavar="TASK", help="Stop this task only; the others go on.")
@server_option
@as_json
def cancel(id: str, task: str | None, url: str, as_json: bool) -> None:
    """Stop the execution ID on a server, or one task of it.

    Exits with 1 if it had finished already. It is cancelled when what it runs has ended.
    """
    place = ("executions", id) if task is None else ("executions", id, "tasks", task)
    with Server(url) as server:
        answer = server.post(*place, "cancel")
    what = f"execution {id}" if task is None else f"task {task!r} of execution {id}"
    if as_json:
        print_json(answer)
    elif answer["success"]:
        click.echo(f"{what} is being cancelled")
    if not answer["success"]:
        if as_json:
            raise click.exceptions.Exit(FAILED)
        raise Problem(f"{what} had finished already")


@click.command()
@click.argument("id")
@click.option("--task", metavar="TASK", help="From this task on, whatever became of it.")
@click.option("--only", is_flag=True, help="With --task: not what comes after it.")
@params_option
@server_option
@as_json
def retry(
    id: str, task: str | None, only: bool, params: tuple[str, ...], url: str, as_json: bool
) -> None:
    """Run again what did not succeed in the finished execution ID.

    With --task, that task and all that come after it. With --param the execution has that
    value from now on, and keeps the others.
    """
    if only and task is None:
        raise Unusable("--only needs --task: it says which one")
    body: dict[str, Any] = {} if task is None else {"task": task, "following": not only}
    with Server(url) as server:
        if params:
            execution = server.get("executions", id)
            schema = server.get("jobs", execution["job"])["params_schema"]
            body["params"] = execution["params"] | read_params(params, schema)
        answer = server.post("executions", id, "retry", body=body)
    if as_json:
        print_json(answer)
    else:
        click.echo(f"{id} runs again")


@click.command()
@click.argument("id")
@click.argument("task")
@click.argument("state", type=click.Choice(["successful", "skipped"]))
@server_option
@as_json
def mark(id: str, task: str, state: str, url: str, as_json: bool) -> None:
    """Let TASK of the execution ID count as successful or skipped, by hand.

    For a task that does not run. What waits for it goes on; what has been skipped because
    of it stays so, until a retry.
    """
    with Server(url) as server:
        answer = server.post("executions", id, "tasks", task, "mark", body={"state": state})
    if as_json:
        print_json(answer)
    else:
        click.echo(f"task {task!r} of execution {id} is {state}")


@click.command()
@click.argument("id")
@click.argument("task")
@click.option("--attempt", type=click.IntRange(1), help="Which attempt; the last by default.")
@click.option("--follow", "-f", is_flag=True, help="Print what is added, until the task ends.")
@click.option("--timestamps", is_flag=True, help="Each line after the time when it began, in UTC.")
@server_option
def logs(id: str, task: str, attempt: int | None, follow: bool, timestamps: bool, url: str) -> None:
    """Print the log of TASK in the execution ID.

    --follow goes on to the next attempt when one fails, unless --attempt chose one.
    """
    with Server(url) as server:
        if follow:
            _follow(server, id, task, attempt, timestamps)
        else:
            click.echo(server.log(id, task, attempt, timestamps=timestamps).text, nl=False)


def _follow(server: Server, id: str, task: str, chosen: int | None, timestamps: bool) -> None:
    from goflow.core.states import State

    attempt, following, begun_line = chosen, 0, ""
    while True:
        # Looked at before the log is read: what has ended by now, adds nothing after.
        found = next((one for one in find_execution(server, id).tasks if one.name == task), None)
        if found is None:
            raise Problem(f"execution {id} has no task {task!r}")
        begun = [one.attempt for one in found.attempts]
        ended = {one.attempt for one in found.attempts if one.finished is not None}
        over = found.state.finished
        if attempt is None and begun:
            # Sent round again and not begun yet: what there is, is of the round before.
            attempt = begun[-1] + (found.state is State.NOTSTARTED)
        if attempt in begun:
            text, following = server.log(id, task, attempt, following, timestamps=timestamps)
            # A line that had not ended comes again, with more of it.
            if text.startswith(begun_line):
                click.echo(text.removeprefix(begun_line), nl=False)
            else:
                click.echo(f"\n{text}", nl=False)
            begun_line = text[text.rfind("\n") + 1 :]
            done = attempt in ended or over
            if done and chosen is not None:
                return
            if done and attempt + 1 in begun:
                attempt, following, begun_line = attempt + 1, 0, ""
                continue
        if over:
            return
        time.sleep(POLL)
