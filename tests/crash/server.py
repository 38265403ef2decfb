"""A server that tests kill: `python server.py STORE PORT EFFECTS`.

Its tasks write a line for each effect to the file EFFECTS, outside the store, so that a test sees
which tasks really ran.
"""

import os
import sys
import time
from dataclasses import dataclass
from typing import Any

from goflow import Command, Context, Goflow, Job, Task

STORE, PORT, EFFECTS = sys.argv[1:]


@dataclass(frozen=True)
class Effect:
    """Reports its start and its end, `seconds` apart."""

    seconds: float

    def run(self, context: Context) -> Any:
        self._say("begin", context)
        time.sleep(self.seconds)
        self._say("end", context)
        print("the last words of", context.task)
        print("of attempt", context.attempt)

    def _name(self, context: Context) -> str:
        return context.task

    def _say(self, what: str, context: Context) -> None:
        line = f"{what} {context.execution_id} {self._name(context)} {context.attempt}\n"
        out = os.open(EFFECTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(out, line.encode())
        os.close(out)


def chain() -> Job:
    """Each task waits for the previous one. One retry is enough for any number of
    interruptions."""
    job = Job("chain", schedule="* * * * * *", active=True)
    tasks = [job.add(Task(f"t{n}", Effect(0.02), retries=1)) for n in range(3)]
    tasks[0] >> tasks[1] >> tasks[2]
    return job


def objects() -> Job:
    """Its first task leaves an object and a file; the last one needs the object."""
    job = Job("objects")

    @job.task(result="pickle")
    def make(context: Context) -> Any:
        context.artifact("made.txt").write_text(context.execution_id)
        return {1, 2}

    pause = job.add(Task("pause", Effect(0.5), after=["make"], retries=1))

    @job.task(after=["pause"])
    def check(make: Any) -> bool:
        return bool(make == {1, 2})

    assert pause.name in check.after
    return job


def fragile() -> Job:
    """No retries: an interruption fails it."""
    return Job("fragile", tasks=[Task("t", Effect(0.1))])


@dataclass(frozen=True)
class Numbers:
    """A list that is large enough to be kept apart from its fact."""

    many: int

    def run(self) -> list[str]:
        return [f"{number:0200}" for number in range(self.many)]


@dataclass(frozen=True)
class ItemEffect(Effect):
    """The same for each item of a list; the result is its number."""

    def run(self, context: Context) -> int:
        super().run(context)
        return int(context.item)

    def _name(self, context: Context) -> str:
        return f"{context.task}/{context.index}"


def mapped() -> Job:
    """No more than five of its items run at once."""
    job = Job("mapped", tasks=[Task("list", Numbers(40))])
    job.add(Task("each", ItemEffect(0.05), map_over="list", max_parallel=5, retries=1))
    return job


def chained() -> Job:
    """The same, and a second task runs item by item after the first."""
    job = Job("chained", tasks=[Task("list", Numbers(40))])
    job.add(Task("first", ItemEffect(0.05), map_over="list", max_parallel=5, retries=1))
    job.add(Task("second", ItemEffect(0.05), map_over="first", max_parallel=5, retries=1))
    return job


def long() -> Job:
    return Job("long", tasks=[Task("t", Effect(3600))])


def program() -> Job:
    """A program that reports its pid and continues, ignoring SIGTERM."""
    line = f"trap '' TERM; echo pid $$ >> '{EFFECTS}'; while :; do sleep 0.1; done"
    return Job("program", tasks=[Task("t", Command.shell(line))])


gf = Goflow(STORE, with_seconds=True, ui_path=None, stop_timeout=0.5)
for job in (chain, fragile, long, program, mapped, chained, objects):
    gf.add_job(job)

if __name__ == "__main__":
    gf.run(f"127.0.0.1:{PORT}")
