"""`goflow run`: run a job once in the terminal."""

import asyncio
import contextlib
import json
import signal
from collections.abc import Iterator, Sequence
from itertools import chain
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
from goflow.engine.attempts.under_way import CLEANUP
from goflow.engine.engine import Engine
from goflow.engine.process import loops
from goflow.engine.process.console import last_resort
from goflow.engine.process.signals import ended_by_signals
from goflow.operators.base import Asking
from goflow.run import FinishedExecution, run_job
from goflow.shown import tame

# Seconds between updates of the view. Each update costs in proportion to the number of tasks. The
# view reports changes between two updates, too.
PAUSE = 0.05
PAUSE_PER_TASK = 0.0002

STATE_SHOWN = 2000  # characters of the shared state at the end
STOP_SLACK = 10.0  # seconds to stop running attempts, in addition to their clean-up

PROBLEMS: dict[signal.Signals, type[Problem]] = {
    signal.SIGINT: Interrupted,
    signal.SIGTERM: Terminated,
    signal.SIGHUP: HungUp,
}


@click.command()
@file_argument
@click.argument("job", required=False)
@params_option
@click.option("--logs", "show_logs", is_flag=True, help="Print the log of each task at the end.")
@as_json
def run(
    file: str, job: str | None, params: tuple[str, ...], show_logs: bool, as_json: bool
) -> None:
    """Run a job in FILE once, in this terminal.

    JOB may be omitted if FILE has only one. The command needs no server and stores nothing. The
    exit code is 0 if the execution is successful, else 1. Ctrl-C stops running tasks and
    programs, and exits with 130.
    """
    gf = load(file)
    found = find_job(gf, file, job)
    values = read_params(params, found.params_schema)
    found.fill_params(values)  # raises for an invalid one before the view is drawn
    after = {task.name: task.after for task in found.tasks}
    hooks = [hook.name for hook in found.hooks]
    with choose_view(found.name, after, silent=as_json, local=True, hooks=hooks) as view:
        finished = loops.run(_run(found, values, view, _started_by(found, gf.jobs)))
        view.update(finished.state, [*finished.tasks.values(), *finished.hooks.values()])
    if as_json:
        print_json(as_listed(finished))
    else:
        _report(finished, show_logs, shares_state=found.reducer is not None)
    if finished.state is not State.SUCCESSFUL:
        raise click.exceptions.Exit(FAILED)


def _started_by(job: Job, jobs: Sequence[Job]) -> list[Job]:
    """The jobs that a job runs, directly or through others."""
    named = {one.name: one for one in jobs}
    found: dict[str, Job] = {job.name: job}
    pending = [job]
    while pending:
        operators = [task.operator for task in pending.pop().tasks]
        starters = [one for one in operators if isinstance(one, Asking) and one.starts]
        for name in chain.from_iterable(one.jobs() for one in starters):
            if name in named and name not in found:
                found[name] = named[name]
                pending.append(named[name])
    return [one for one in found.values() if one is not job]


async def _run(
    job: Job, params: dict[str, Any], view: View, others: Sequence[Job]
) -> FinishedExecution:
    import msgspec

    async def watch(engine: Engine, id: str) -> None:
        async with contextlib.aclosing(engine.broadcast.listen(job.name, None)) as changes:
            async for _ in changes:
                detail = await engine.reader.execution(id)
                tasks = [*detail.tasks, *detail.hooks]
                for task in tasks:
                    task.progress = engine.bars.of(id, task.name) or msgspec.UNSET
                view.update(detail.state, tasks)
                await asyncio.sleep(PAUSE + PAUSE_PER_TASK * len(detail.tasks))

    with _cancelled_by_signals(view):
        return await run_job(job, params, watch=watch, others=others)


@contextlib.contextmanager
def _cancelled_by_signals(view: View) -> Iterator[None]:
    """Cancels the current task at the first signal, and raises its `Problem` at the end."""
    running = asyncio.current_task()
    assert running is not None
    received: list[signal.Signals] = []

    def cancel(number: signal.Signals) -> None:
        received.append(number)
        running.cancel()

    with last_resort(), ended_by_signals(cancel, view.abandon, limit=CLEANUP + STOP_SLACK):
        try:
            yield
        except asyncio.CancelledError:
            if not received:
                raise
            problem = PROBLEMS[received[0]]
            raise problem(f"stopped by {received[0].name}") from None


def as_listed(finished: FinishedExecution) -> dict[str, Any]:
    """The execution with the keys of `GET /api/executions/{id}`, and the logs."""
    import msgspec

    tasks, hooks = list(finished.tasks.values()), list(finished.hooks.values())
    return {**msgspec.structs.asdict(finished), "tasks": tasks, "hooks": hooks}


def _report(finished: FinishedExecution, show_logs: bool, *, shares_state: bool) -> None:
    if show_logs:
        for task in [*finished.tasks.values(), *finished.hooks.values()]:
            if task.logs:
                click.echo(f"\n{task.name}, log:")
                click.echo(task.logs, nl=not task.logs.endswith("\n"))
    print_errors([*finished.tasks.values(), *finished.hooks.values()])
    if shares_state:
        click.echo(f"\nState: {tame(json.dumps(finished.shared_state), STATE_SHOWN)}")
    took = (finished.finished or finished.submitted) - finished.submitted
    click.echo(f"\n{finished.job} {finished.state} in {duration(took)}")
