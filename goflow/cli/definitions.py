"""`goflow list`, `check` and `graph`: the jobs in a user's file."""

from typing import Any

import click

from goflow import Goflow, Job
from goflow.cli.program import NotLoaded, file_argument, find_job, load
from goflow.cli.terminal import FAILED, as_json, columns, print_json, rfc3339
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
    from goflow.cli import drawing

    gf = load(file)
    found = find_job(gf, file, job)
    followers = [other.name for other in gf.jobs if found.name in other.after]
    match form:
        case "dot":
            click.echo(drawing.as_dot(found, followers))
        case "mermaid":
            click.echo(drawing.as_mermaid(found, followers))
        case "json":
            print_json(drawing.as_json(found, followers))
        case _:
            click.echo(drawing.as_tree(found, followers))
