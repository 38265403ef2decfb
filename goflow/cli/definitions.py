"""`goflow list`, `check` and `graph`: the jobs in a user's file."""

from typing import Any

import click

from goflow import Goflow, Job, TriggerRule
from goflow.cli.program import NotLoaded, file_argument, find_job, load
from goflow.cli.terminal import FAILED, as_json, columns, print_json, rfc3339
from goflow.cli.tree import draw
from goflow.core.catchup import CatchUp, Overlap
from goflow.engine.clock import SystemClock


@click.command("list")
@file_argument
@as_json
def list_jobs(file: str, as_json: bool) -> None:
    """List the jobs in FILE and the next due times of active ones."""
    gf = load(file)
    jobs = [_described(gf, job) for job in gf.jobs]
    if as_json:
        print_json({"jobs": jobs})
        return
    rows = [["JOB", "SCHEDULE", "ACTIVE", "TASKS", "NEXT", "POLICY"]]
    for job in jobs:
        rows.append(
            [
                job["job"],
                job["schedule"] or (f"after {', '.join(job['after'])}" if job["after"] else "-"),
                "yes" if job["active"] else "no",
                str(len(job["tasks"])),
                job["next"] or "-",
                _policy(job),
            ]
        )
    if not any(row[-1] for row in rows[1:]):
        rows = [row[:-1] for row in rows]
    click.echo("\n".join(columns(rows)))


def _described(gf: Goflow, job: Job) -> dict[str, Any]:
    """A job with the keys of `GET /api/jobs/{name}`."""
    timing, now = job.timing_for(with_seconds=gf.engine.options.with_seconds), SystemClock().now()
    due = timing.begin(now).next(now) if timing and job.active else None
    return {
        "job": job.name,
        "description": job.description,
        "tags": job.tags,
        "schedule": job.schedule or "",
        "schedules": job.schedules,
        "after": job.after,
        "timezone": job.timezone if timing is None else timing.schedules[0].timezone,
        "overlap": job.overlap,
        "catchup": job.catchup.catchup,
        "active": job.active,
        "next": None if due is None else rfc3339(due),
        "params": job.params,
        "tasks": [task.name for task in job.tasks],
        "dag": job.plan.downstream,
        "hooks": _hooks(job),
    }


def _hooks(job: Job) -> list[dict[str, Any]]:
    return [{"name": hook.name, "on": hook.hook} for hook in job.hooks]


def _policy(job: dict[str, Any]) -> str:
    """The overlap and catch-up policies that differ from the defaults."""
    defaults = {"overlap": Overlap.ALLOW, "catchup": CatchUp.LATEST}
    return " ".join(f"{name}={job[name]}" for name in defaults if job[name] is not defaults[name])


@click.command()
@file_argument
@as_json
def check(file: str, as_json: bool) -> None:
    """Check the jobs in FILE.

    If one is invalid, prints one line per problem and exits with 1.
    """
    try:
        gf = load(file)
    except NotLoaded as error:
        if as_json:
            print_json({"valid": False, "problems": error.problems})
        else:
            error.show()
        raise click.exceptions.Exit(FAILED) from None
    if as_json:
        print_json({"valid": True, "problems": []})
        return
    if not gf.jobs:
        click.echo(f"{file}: valid, no jobs")
    for job in gf.jobs:
        counts = [_count(len(job.tasks), "task")]
        if templates := sum(len(task.templates) for task in job.tasks):
            counts.append(_count(templates, "template"))
        if job.hooks:
            counts.append(_count(len(job.hooks), "hook"))
        click.echo(f"{job.name}: valid, {', '.join(counts)}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"


@click.command()
@file_argument
@click.argument("job", required=False)
@click.option("--dot", "form", flag_value="dot", help="Print the graph in DOT, for Graphviz.")
@click.option("--mermaid", "form", flag_value="mermaid", help="Print the graph for Mermaid.")
@click.option("--json", "form", flag_value="json", help="Print JSON.")
def graph(file: str, job: str | None, form: str | None) -> None:
    """Draw the task graph of a job in FILE.

    JOB may be omitted if FILE has only one. Each task is drawn below one of its upstream tasks;
    the others are listed beside it.
    """
    found = find_job(load(file), file, job)
    match form:
        case "dot":
            click.echo(_dot(found))
        case "mermaid":
            click.echo(_mermaid(found))
        case "json":
            print_json({"job": found.name, "dag": found.plan.downstream, "hooks": _hooks(found)})
        case _:
            click.echo(_tree(found))


def _tree(job: Job) -> str:
    tasks = {task.name: task for task in job.tasks}
    lines = [job.name]
    for branch in draw({task.name: task.after for task in job.tasks}):
        task, notes = tasks[branch.task], ""
        if task.trigger_rule is not TriggerRule.ALL_SUCCESSFUL:
            notes += f"  [{task.trigger_rule}]"
        if task.branch:
            notes += "  (branch)"
        if task.when is not None:
            notes += f"  (when {' '.join(task.when.shown.split())})"
        if branch.also:
            notes += f"  (also after {', '.join(branch.also)})"
        lines.append(f"  {branch.lines}{branch.task}{notes}")
    lines += [f"  on {hook.hook}: {hook.name}" for hook in job.hooks]
    return "\n".join(lines)


def _dot(job: Job) -> str:
    lines = [f"digraph {_quoted(job.name)} {{"]
    lines += [
        f"  {_quoted(task.name)}{' [shape=diamond]' if task.branch else ''};" for task in job.tasks
    ]
    lines += [
        f"  {_quoted(upstream)} -> {_quoted(task.name)};"
        for task in job.tasks
        for upstream in task.after
    ]
    lines += [
        f"  {_quoted(hook.name)} [style=dashed, xlabel={_quoted(f'on {hook.hook}')}];"
        for hook in job.hooks
    ]
    return "\n".join([*lines, "}"])


def _quoted(name: str) -> str:
    """A DOT string. Backslashes are escaped because they begin escape sequences in labels."""
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _mermaid(job: Job) -> str:
    number = {task.name: place for place, task in enumerate(job.tasks)}
    lines = ["flowchart TD"]
    lines += [
        f'  t{number[task.name]}{{"{_entities(task.name)}"}}'
        if task.branch
        else f'  t{number[task.name]}["{_entities(task.name)}"]'
        for task in job.tasks
    ]
    lines += [
        f"  t{number[upstream]} --> t{number[task.name]}"
        for task in job.tasks
        for upstream in task.after
    ]
    lines += [
        f'  h{place}(["on {hook.hook}: {_entities(hook.name)}"])'
        for place, hook in enumerate(job.hooks)
    ]
    return "\n".join(lines)


def _entities(name: str) -> str:
    """A text for Mermaid, with all but letters, digits and a few others as character codes."""
    return "".join(one if one.isalnum() or one in " -_." else f"#{ord(one)};" for one in name)
