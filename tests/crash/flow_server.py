"""A server that tests kill: `python flow_server.py STORE PORT EFFECTS`.

Its jobs branch, map, yield, wait, keep objects and files, start each other, dispatch, and have
hooks. Each task and hook writes a line for each of its effects to the file EFFECTS, outside the
store.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from goflow import Context, Goflow, Job, Later, RunJob, Task, TaskFailed, Template

STORE, PORT, EFFECTS = sys.argv[1:]


@dataclass(frozen=True)
class Effect:
    """Calls a function for about `seconds`; reports the start and the end of that."""

    function: Callable[[Context], Any]
    seconds: float = 0.05

    def run(self, context: Context) -> Any:
        say("begin", context)
        time.sleep(self.seconds)
        result = self.function(context)
        say("end", context)
        return result


def say(what: str, context: Context) -> None:
    item = "" if context.index is None else f"/{context.index}"
    line = f"{what} {context.execution_id} {context.task}{item} {context.attempt}\n"
    out = os.open(EFFECTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(out, line.encode())
    os.close(out)


def summed(state: Any, action: Any) -> Any:
    return {**state, action["of"]: state.get(action["of"], 0) + action["by"]}


def item(context: Context) -> str:
    if context.index == 1 and context.attempt == 1:
        raise ValueError("the second item fails once")
    context.dispatch({"of": "items", "by": context.index + 1})
    return f"{context.item}{context.index}"


def acts(context: Context) -> int:
    for number in range(3):
        context.dispatch({"of": context.task, "by": 10**number})
        time.sleep(0.02)
    if context.attempt == 1:
        raise ValueError("fails after its actions, and repeats them")
    return int(context.state[context.task])


def waits(context: Context) -> str:
    if context.waited < 0.5:
        raise Later(0.1, "no file" if context.waited < 0.25 else "an empty file")
    return "there"


def makes(context: Context) -> Any:
    context.artifact("made.txt").write_text(context.execution_id)
    return {1, 2, 3}


def broken(context: Context) -> None:
    raise TaskFailed("on purpose", final=True)


def told(context: Context) -> str:
    assert context.outcome is not None
    return f"{context.outcome.state} {context.outcome.failed}"


def told_late(context: Context) -> str:
    if context.attempt == 1:
        raise ValueError("a hook that fails once")
    return told(context)


def flow() -> Job:
    """Everything at once. Each task has a retry, so an interruption ends none."""
    job = Job("flow", params={"n": 3}, state=summed, initial={})

    def add(name: str, function: Callable[[Context], Any], *after: str, **options: Any) -> Task:
        return job.add(Task(name, Effect(function), after=after, retries=1, **options))

    add("list", lambda context: ["a", "b", "c"])
    add("each", item, "list", map_over="list", max_parallel=2)

    @job.task(retries=1)
    def yields(context: Context) -> Iterator[int]:
        say("begin", context)
        for number in range(6):
            time.sleep(0.03)  # so that kills come between two items, too
            yield number
            if number == 3 and context.attempt == 1:
                raise ValueError("fails midway, and yields the same items again")

    add("works", lambda context: context.item * 2, "yields", map_over="yields", max_parallel=2)
    add("adds", lambda context: context.item + 1, "works", map_over="works")
    add("joined", lambda context: "-".join(context.results["each"]), "each")
    add("fork", lambda context: "left", "list").branch = True
    add("left", lambda context: ["deep"], "fork").branch = True
    add("right", lambda context: 1, "fork")
    add("after_right", lambda context: 1, "right")
    add("deep", lambda context: "deep", "left")
    add("shallow", lambda context: 1, "left")
    add("join", lambda context: dict(context.results), "deep", "right", trigger_rule="noneFailed")
    add("unwanted", lambda context: 1, "list", when="params.n > 3")
    add("waits", waits)
    add("acts", acts)
    add("isolated", acts, isolation="process")
    add("makes", makes, result="pickle")
    add("uses", lambda context: sorted(context.results["makes"]), "makes")
    doubled = {"n": Template("{{ params.n * 2 }}")}
    job.add(Task("child", RunJob("child", params=doubled), after=["list"]))
    job.add(Task("alone", RunJob("leaf", params={"n": 100}, wait=False)))
    job.on_success(Task("succeeded", Effect(told), retries=1))
    job.on_failure(Task("failed", Effect(told), retries=1))
    job.on_finish(Task("finished", Effect(told_late), retries=1))
    return job


def child() -> Job:
    job = Job("child", params={"n": 1})
    double = Effect(lambda context: context.params["n"] * 2, 0.2)
    job.add(Task("double", double, retries=1))
    more = {"n": Template("{{ results.double + 1 }}")}
    job.add(Task("go", RunJob("leaf", params=more), after=["double"]))
    return job


def leaf() -> Job:
    number = Effect(lambda context: context.params["n"])
    return Job("leaf", params={"n": 1}, tasks=[Task("n", number, retries=1)])


def bad() -> Job:
    """It fails, and tells its hook."""
    job = Job("bad", tasks=[Task("b", Effect(broken), retries=3)])
    job.add(Task("next", Effect(lambda context: 1), after=["b"]))
    job.add(
        Task("tidy", Effect(lambda context: 1), after=["b"], trigger_rule="oneFailed", retries=1)
    )
    job.on_failure(Task("failed", Effect(told), retries=1))
    job.on_success(Task("succeeded", Effect(told), retries=1))
    return job


def after() -> Job:
    return Job("after", after="flow", tasks=[Task("t", Effect(lambda context: 1), retries=1)])


gf = Goflow(STORE, ui_path=None, stop_timeout=0.5)
for make in (flow, child, leaf, bad, after):
    gf.add_job(make)

if __name__ == "__main__":
    gf.run(f"127.0.0.1:{PORT}")
