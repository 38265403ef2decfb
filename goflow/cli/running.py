"""Run a job once, here in the terminal."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

import click

from goflow import Job, State
from goflow.cli.params import params_option, read_params
from goflow.cli.program import file_argument, find_job, load
from goflow.cli.terminal import (
    FAILED,
    HungUp,
    Interrupted,
    Problem,
    Terminated,
    as_json,
    duration,
    print_json,
)
from goflow.cli.view import View, choose_view, print_errors
from goflow.engine.engine import Engine
from goflow.run import FinishedExecution, run_job

# Seconds between two looks. Each costs in proportion to the tasks, so it may be this long;
# what came and went between two is told all the same.
PAUSE = 0.05
PAUSE_PER_TASK = 0.0002

SIGNALS: dict[int, type[Problem]] = {
    signal.SIGINT: Interrupted,
    signal.SIGTERM: Terminated,
    signal.SIGHUP: HungUp,
}


@click.command()
@file_argument
@click.argument("job", required=False)
@params_option
@click.option("--logs", "show_logs", is_flag=True, help="Print each task's log at the end.")
@as_json
def run(
    file: str, job: str | None, params: tuple[str, ...], show_logs: bool, as_json: bool
) -> None:
    """Run a job of FILE once, in this terminal.

    JOB may be left out if there is only one. Nothing is kept and no server is needed. Exits
    with 0 if the execution is successful and with 1 if it is not. Ctrl-C ends what runs,
    programs included, and exits with 130.
    """
    found = find_job(load(file), file, job)
    values = read_params(params, found.params)
    found.fill_params(values)  # a bad one is refused before anything is drawn
    after = {task.name: task.after for task in found.tasks}
    with choose_view(found.name, after, silent=as_json, local=True) as view:
        finished = asyncio.run(_run(found, values, view))
        view.update(finished.state, list(finished.tasks.values()))
    if as_json:
        print_json(as_listed(finished))
    else:
        _report(finished, show_logs)
    if finished.state is not State.SUCCESSFUL:
        raise click.exceptions.Exit(FAILED)


async def _run(job: Job, params: dict[str, Any], view: View) -> FinishedExecution:
    async def watch(engine: Engine, id: str) -> None:
        async with contextlib.aclosing(engine.broadcast.listen(job.name, None)) as changes:
            async for _ in changes:
                detail = await engine.reader.execution(id)
                view.update(detail.state, detail.tasks)
                await asyncio.sleep(PAUSE + PAUSE_PER_TASK * len(detail.tasks))

    with _ended_by_signals(view):
        return await run_job(job, params, watch=watch)


@contextlib.contextmanager
def _ended_by_signals(view: View) -> Iterator[None]:
    """The first signal cancels what runs, in order; the second one ends the process at once."""
    loop, running = asyncio.get_running_loop(), asyncio.current_task()
    assert running is not None
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) == 1:
            loop.call_soon_threadsafe(running.cancel)
        else:
            view.abandon()
            os._exit(128 + number)

    # nohup has SIGHUP ignored, and that is meant
    heeded = [n for n in SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in heeded}
    try:
        yield
    except asyncio.CancelledError:
        if not received:
            raise
        name = signal.Signals(received[0]).name
        raise SIGNALS[received[0]](f"stopped by {name}; what ran was ended") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def as_listed(finished: FinishedExecution) -> dict[str, Any]:
    """The execution in the keys of `GET /api/executions/{id}`, with the logs."""
    import msgspec

    return {**msgspec.structs.asdict(finished), "tasks": list(finished.tasks.values())}


def _report(finished: FinishedExecution, show_logs: bool) -> None:
    if show_logs:
        for task in finished.tasks.values():
            if task.logs:
                click.echo(f"\n{task.name}, log:")
                click.echo(task.logs, nl=not task.logs.endswith("\n"))
    print_errors(finished.tasks.values())
    took = (finished.finished or finished.submitted) - finished.submitted
    click.echo(f"\n{finished.job} {finished.state} in {duration(took)}")
