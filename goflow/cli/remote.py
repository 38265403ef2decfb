"""`goflow submit`, `toggle`, `cancel`, `retry`, `mark` and `logs`: commands for a server."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from goflow.cli.params import params_option, read_params
from goflow.cli.server import Server
from goflow.cli.terminal import FAILED, Problem, Unusable, as_json, print_answer, print_json

if TYPE_CHECKING:
    from goflow.core.detail import Detail

POLL = 0.3  # seconds between polls

server_option: Callable[[Any], Any] = click.option(
    "--server",
    "url",
    envvar="GOFLOW_SERVER",
    default="http://127.0.0.1:8181",
    show_default=True,
    show_envvar=True,
    metavar="URL",
    help="URL of the server.",
)
item_option: Callable[[Any], Any] = click.option(
    "--item",
    type=click.IntRange(0),
    metavar="N",
    help="Only this item of a mapped task; the first one is 0.",
)
key_option: Callable[[Any], Any] = click.option(
    "--key", metavar="KEY", help="Only the item of a mapped task with this key."
)


@click.command()
@click.argument("job")
@params_option
@click.option(
    "--idempotency-key", metavar="KEY", help="Repeats with the same KEY submit only once."
)
@click.option("--wait", is_flag=True, help="Wait until the execution has ended.")
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
    """Submit JOB on a server and print the id of the execution.

    With --wait, the exit code is 0 if the execution is successful, else 1; Ctrl-C stops the
    waiting, not the execution.
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
        else:
            print_answer(accepted, accepted["id"], as_json)


def _watch(server: Server, id: str, as_json: bool) -> None:
    from goflow.cli.view import choose_view, print_errors
    from goflow.core.states import State

    detail = find_execution(server, id)
    after, hooks = _upstream(detail.dag), [hook.name for hook in detail.hooks]
    with choose_view(detail.job, after, silent=as_json, local=False, hooks=hooks) as view:
        view.update(detail.state, [*detail.tasks, *detail.hooks])
        while not detail.state.finished:
            time.sleep(POLL)
            detail = find_execution(server, id)
            view.update(detail.state, [*detail.tasks, *detail.hooks])
    if as_json:
        print_json(detail)
    else:
        print_errors([*detail.tasks, *detail.hooks])
        click.echo(f"\n{detail.job} {detail.state}: {id}")
    if detail.state is not State.SUCCESSFUL:
        raise click.exceptions.Exit(FAILED)


def find_execution(server: Server, id: str) -> "Detail":
    """The execution in its current state."""
    import msgspec

    from goflow.core.detail import Detail

    try:
        return msgspec.json.decode(server.text("executions", id), type=Detail)
    except msgspec.DecodeError:
        raise server.foreign() from None


def _upstream(dag: dict[str, list[str]]) -> dict[str, Sequence[str]]:
    return {task: [one for one in dag if task in dag[one]] for task in dag}


@click.command()
@click.argument("job")
@click.option(
    "--on/--off",
    "active",
    default=None,
    help="The new state; by default the opposite of the current one.",
)
@server_option
@as_json
def toggle(job: str, active: bool | None, url: str, as_json: bool) -> None:
    """Switch the schedule of JOB on or off on a server."""
    with Server(url) as server:
        body = None if active is None else {"active": active}
        answer = server.post("jobs", job, "toggle", body=body)
    print_answer(answer, f"{job} is {'on' if answer['active'] else 'off'}", as_json)


@click.command()
@click.argument("id")
@click.option("--task", metavar="TASK", help="Cancel only this task; the others continue.")
@item_option
@key_option
@server_option
@as_json
def cancel(
    id: str, task: str | None, item: int | None, key: str | None, url: str, as_json: bool
) -> None:
    """Cancel the execution ID on a server, or one of its tasks or items.

    The command returns at once; the execution is cancelled when its running tasks have ended.
    Exits with 1 if it has already finished.
    """
    named = _named(task, item, key)
    place = ("executions", id) if task is None else ("executions", id, "tasks", task)
    with Server(url) as server:
        answer = server.post(*place, "cancel", body=named or None)
    what = f"execution {id}" if task is None else f"{_title(task, item, key)} of execution {id}"
    if answer["success"] or as_json:
        print_answer(answer, f"{what} is being cancelled", as_json)
    if not answer["success"]:
        if as_json:
            raise click.exceptions.Exit(FAILED)
        raise Problem(f"{what} has already finished")


@click.command()
@click.argument("id")
@click.option("--task", metavar="TASK", help="Run this task and all downstream of it.")
@click.option("--only", is_flag=True, help="With --task: without its downstream tasks.")
@item_option
@key_option
@params_option
@click.option(
    "--definition",
    type=click.Choice(["same", "newest"]),
    default="same",
    show_default=True,
    help="Run by the job's definition that the execution has, or by the newest one.",
)
@server_option
@as_json
def retry(
    id: str,
    task: str | None,
    only: bool,
    item: int | None,
    key: str | None,
    params: tuple[str, ...],
    definition: str,
    url: str,
    as_json: bool,
) -> None:
    """Run the unsuccessful tasks of the finished execution ID again.

    With --task, runs that task and all tasks downstream of it. --param changes a parameter of the
    execution; the others are kept. With --definition newest, tasks that the job no longer has are
    dropped, new ones run too, and those that succeeded keep their results.
    """
    if only and task is None:
        raise Unusable("--only requires --task")
    named = _named(task, item, key)
    body: dict[str, Any] = {} if task is None else {"task": task, "following": not only, **named}
    if definition != "same":  # an older server does not know it
        body["definition"] = definition
    with Server(url) as server:
        if params:
            execution = server.get("executions", id)
            schema = server.get("jobs", execution["job"])["params_schema"]
            body["params"] = execution["params"] | read_params(params, schema)
        answer = server.post("executions", id, "retry", body=body)
    print_answer(answer, f"{id} runs again", as_json)


@click.command()
@click.argument("id")
@click.argument("task")
@click.argument("state", type=click.Choice(["successful", "skipped"]))
@item_option
@key_option
@server_option
@as_json
def mark(
    id: str,
    task: str,
    state: str,
    item: int | None,
    key: str | None,
    url: str,
    as_json: bool,
) -> None:
    """Mark TASK of the execution ID as successful or skipped.

    The task must not be running. Waiting downstream tasks continue; those already skipped stay
    skipped until a retry.
    """
    body: dict[str, Any] = {"state": state, **_named(task, item, key)}
    with Server(url) as server:
        answer = server.post("executions", id, "tasks", task, "mark", body=body)
    print_answer(answer, f"{_title(task, item, key)} of execution {id} is {state}", as_json)


def _named(task: str | None, item: int | None, key: str | None) -> dict[str, Any]:
    """The fields of a request that name an item."""
    if item is None and key is None:
        return {}
    if task is None:
        raise Unusable("--item and --key require --task")
    if item is not None and key is not None:
        raise Unusable("--item and --key both name an item; give one of them")
    return {"key": key} if item is None else {"item": item}


def _title(task: str, item: int | None, key: str | None) -> str:
    if key is not None:
        return f"item {key!r} of task {task!r}"
    return f"task {task!r}" if item is None else f"item {item} of task {task!r}"


def _number(server: Server, id: str, task: str, item: int | None, key: str | None) -> int | None:
    """The number of the item that is named."""
    if not _named(task, item, key) or key is None:
        return item
    cursor: str | None = None
    while True:
        page = server.get(
            "executions", id, "tasks", task, "items", key=key, cursor=cursor, limit=1000
        )
        for one in page["items"]:
            if one["key"] == key:
                number: int = one["index"]
                return number
        if (cursor := page["next"]) is None:
            raise Problem(f"task {task!r} of execution {id} has no item {key!r}")


@click.command()
@click.argument("id")
@click.argument("task")
@item_option
@key_option
@click.option("--attempt", type=click.IntRange(1), help="Attempt number; the last by default.")
@click.option("--follow", "-f", is_flag=True, help="Keep printing new lines until the task ends.")
@click.option("--timestamps", is_flag=True, help="Begin each line with its time in UTC.")
@server_option
def logs(
    id: str,
    task: str,
    item: int | None,
    key: str | None,
    attempt: int | None,
    follow: bool,
    timestamps: bool,
    url: str,
) -> None:
    """Print the log of TASK in the execution ID. The log of a mapped task is in its items.

    --follow continues with the next attempt when one fails, unless --attempt is given.
    """
    with Server(url) as server:
        item = _number(server, id, task, item, key)
        if follow:
            _follow(server, id, task, item, attempt, timestamps)
        else:
            log = server.log(id, task, attempt, item=item, timestamps=timestamps)
            click.echo(log.text, nl=False)


@click.command()
@click.argument("id")
@click.argument("task")
@click.argument("name", required=False)
@item_option
@click.option(
    "--attempt",
    type=click.IntRange(1),
    metavar="N",
    help="An attempt; the last successful one by default.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Write the artifact to FILE.",
)
@server_option
@as_json
def artifacts(
    id: str,
    task: str,
    name: str | None,
    item: int | None,
    attempt: int | None,
    output: str | None,
    url: str,
    as_json: bool,
) -> None:
    """List the artifacts of TASK in the execution ID, or write the one called NAME to standard
    output."""
    with Server(url) as server:
        path = ("executions", id, "tasks", task, "artifacts")
        if name is None:
            if output is not None:
                raise Unusable("--output needs the NAME of an artifact")
            found = server.get(*path, item=item, attempt=attempt)
            lines = [f"{one['name']}  {one['size']}" for one in found["artifacts"]]
            print_answer(found, "\n".join(lines) or "no artifacts", as_json)
            return
        body = server.content(*path, name, item=item, attempt=attempt)
        if output is None:
            click.echo(body, nl=False)
            return
        try:
            with open(output, "wb") as file:
                file.write(body)
        except OSError as error:
            raise Problem(f"{output} cannot be written: {error}") from None


class Progress(NamedTuple):
    """The attempts of a task or item: the numbers of those that have begun, in order, and of
    those that have ended. `waits` says that none has begun since a retry; `over`, that none will
    follow."""

    begun: list[int]
    ended: set[int]
    waits: bool
    over: bool


def _progress(server: Server, id: str, task: str, item: int | None) -> Progress:
    from goflow.core.states import State

    detail = find_execution(server, id)
    named = {one.name: one for one in (*detail.hooks, *detail.tasks)}
    found = named.get(task)
    if found is None:
        raise Problem(f"execution {id} has no task {task!r}")
    over = found.state.finished
    if item is None:
        begun = [one.attempt for one in found.attempts]
        ended = {one.attempt for one in found.attempts if one.finished is not None}
        return Progress(begun, ended, found.state is State.NOTSTARTED, over)
    page = server.get("executions", id, "tasks", task, "items", cursor=str(item), limit=1)
    if not page["items"]:
        if over:
            raise Problem(f"task {task!r} of execution {id} has no item {item}")
        return Progress([], set(), True, over)  # the items are not known yet
    state, last = State(page["items"][0]["state"]), page["items"][0]["attempts"]
    ended = set(range(1, last + (state is not State.RUNNING)))
    begun = list(range(1, last + 1))
    return Progress(begun, ended, state is State.NOTSTARTED, over or state.finished)


def _follow(
    server: Server, id: str, task: str, item: int | None, chosen: int | None, timestamps: bool
) -> None:
    attempt, following, begun_line = chosen, 0, ""
    while True:
        # The state is read before the log: an attempt that has ended adds no lines.
        begun, ended, waits, over = _progress(server, id, task, item)
        if attempt is None and begun:
            # After a retry and before its first attempt, the last attempt is an old one.
            attempt = begun[-1] + waits
        if attempt in begun:
            text, following = server.log(
                id, task, attempt, following, item=item, timestamps=timestamps
            )
            # An unfinished line comes again with its continuation.
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
