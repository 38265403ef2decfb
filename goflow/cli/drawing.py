"""Drawings of a job, with what its tasks wait for and the jobs around it."""

from collections.abc import Sequence
from typing import Any

from goflow import Job, Task, TriggerRule
from goflow.cli.awaited import runs_job, waits_for
from goflow.cli.tree import draw
from goflow.shown import kind


def as_json(job: Job, followers: Sequence[str]) -> dict[str, Any]:
    """A job with the jobs that run after it."""
    return {
        "job": job.name,
        "after": job.after,
        "followers": followers,
        "dag": job.plan.downstream,
        "tasks": [
            {
                "name": task.name,
                "operator": kind(task.operator),
                "trigger_rule": task.trigger_rule,
                "branch": task.branch,
                "when": None if task.when is None else task.when.shown,
                "map_over": task.lists,
                "zipped": task.zipped,
                "max_parallel": task.max_parallel,
                "stream": task.name in job.plan.streams,
                "waits_for": waits_for(task.operator),
                "runs": runs_job(task.operator),
            }
            for task in job.tasks
        ],
        "hooks": [{"name": hook.name, "on": hook.hook} for hook in job.hooks],
    }


def as_tree(job: Job, followers: Sequence[str]) -> str:
    """A tree in which each task stands below one of its upstream tasks."""
    tasks = {task.name: task for task in job.tasks}
    lines = [job.name + (f"  (after {', '.join(job.after)})" if job.after else "")]
    for branch in draw({task.name: task.after for task in job.tasks}):
        task, notes = tasks[branch.task], ""
        if task.trigger_rule is not TriggerRule.ALL_SUCCESSFUL:
            notes += f"  [{task.trigger_rule}]"
        if task.branch:
            notes += "  (branch)"
        if task.lists:
            notes += f"  ({_mapping(task)})"
        if task.name in job.plan.streams:
            notes += "  (yields items)"
        if (awaited := waits_for(task.operator)) is not None:
            notes += f"  (waits for {awaited})"
        if (other := runs_job(task.operator)) is not None:
            notes += f"  (runs job {other})"
        if task.when is not None:
            notes += f"  (when {' '.join(task.when.shown.split())})"
        if branch.also:
            notes += f"  (also after {', '.join(branch.also)})"
        lines.append(f"  {branch.lines}{branch.task}{notes}")
    lines += [f"  on {hook.hook}: {hook.name}" for hook in job.hooks]
    if followers:
        lines.append(f"  then: {', '.join(followers)}")
    return "\n".join(lines)


def _mapping(task: Task) -> str:
    """The items that a mapped task runs for."""
    each = "pair" if task.zipped else "item" if len(task.lists) == 1 else "combination"
    limit = f", {task.max_parallel} at once" if task.max_parallel else ""
    return f"for each {each} of {', '.join(task.lists)}{limit}"


def as_dot(job: Job, followers: Sequence[str]) -> str:
    """DOT, for Graphviz."""
    lines = [f"digraph {_quoted(job.name)} {{"]
    lines += [f"  {_quoted(task.name)}{_dot_look(task)};" for task in job.tasks]
    lines += [
        f"  {_quoted(upstream)} -> {_quoted(task.name)}{_dot_arrow(job, upstream, task)};"
        for task in job.tasks
        for upstream in task.after
    ]
    lines += [
        f"  {_quoted(hook.name)} [style=dashed, xlabel={_quoted(f'on {hook.hook}')}];"
        for hook in job.hooks
    ]
    lines += [
        f"  {_quoted(f'job {other}')} [shape=plaintext];" for other in [*job.after, *followers]
    ]
    return "\n".join([*lines, "}"])


def _dot_arrow(job: Job, upstream: str, task: Task) -> str:
    """A dashed arrow if items go along it while the upstream task yields them."""
    return " [style=dashed]" if _is_passed_on(job, upstream, task) else ""


def _is_passed_on(job: Job, upstream: str, task: Task) -> bool:
    """Whether a task runs on the items of an upstream task while that yields them."""
    passed_on = {planned.name for planned in job.plan.tasks if planned.by_item}
    return upstream in job.plan.streams and task.name in passed_on and upstream in task.lists


def _dot_look(task: Task) -> str:
    """The shape of a task: of a branch, of one that waits, and of a mapped one."""
    if task.branch:
        return " [shape=diamond]"
    if waits_for(task.operator) is not None:
        return " [shape=octagon]"
    if runs_job(task.operator) is not None:
        return " [shape=component]"
    return " [peripheries=2]" if task.lists else ""


def _quoted(name: str) -> str:
    """A DOT string. Backslashes are escaped because they begin escape sequences in labels."""
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def as_mermaid(job: Job, followers: Sequence[str]) -> str:
    """A flowchart of Mermaid."""
    number = {task.name: place for place, task in enumerate(job.tasks)}
    lines = ["flowchart TD"]
    for task in job.tasks:
        opening, closing = _mermaid_look(task)
        lines.append(f'  t{number[task.name]}{opening}"{_entities(task.name)}"{closing}')
    lines += [
        f"  t{number[upstream]} {_mermaid_arrow(job, upstream, task)} t{number[task.name]}"
        for task in job.tasks
        for upstream in task.after
    ]
    lines += [
        f'  h{place}(["on {hook.hook}: {_entities(hook.name)}"])'
        for place, hook in enumerate(job.hooks)
    ]
    lines += [
        f'  j{place}["job {_entities(other)}"]:::job'
        for place, other in enumerate([*job.after, *followers])
    ]
    return "\n".join(lines)


def _mermaid_arrow(job: Job, upstream: str, task: Task) -> str:
    return "-.->" if _is_passed_on(job, upstream, task) else "-->"


def _mermaid_look(task: Task) -> tuple[str, str]:
    """The shape of a task: of a branch, of one that waits, of one that runs a job, and of a mapped
    one."""
    if task.branch:
        return "{", "}"
    if waits_for(task.operator) is not None:
        return "{{", "}}"
    if runs_job(task.operator) is not None:
        return ">", "]"
    return ("[[", "]]") if task.lists else ("[", "]")


def _entities(name: str) -> str:
    """A text for Mermaid, with all but letters, digits and a few others as character codes."""
    return "".join(one if one.isalnum() or one in " -_." else f"#{ord(one)};" for one in name)
