"""The example jobs: the two of Go's goflow, for `Goflow(show_examples=True)`, and two more for
`goflow demo`.

The rule: they need no network and no files, so that they behave the same on every machine. Names,
commands and graphs of the first two are those of Go's goflow. Only the schedules differ: they have
five fields instead of six, and both are on from the start.
"""

import random
from dataclasses import dataclass
from datetime import timedelta

from goflow.core.retry import ConstantDelay, ExponentialBackoff
from goflow.errors import TaskFailed
from goflow.job import Job, Task
from goflow.operators.command import Command


def complex_analytics() -> Job:
    """Parallel branches, retries, a skipped task, and one that runs in any case.

    It always ends `failed`, on purpose: the program `whoops` does not exist, so both tasks
    that call it fail after their retries, `totally-skippable` is skipped, and `clean-up` still
    runs.
    """
    job = Job(
        "example-complex-analytics",
        schedule="* * * * *",
        active=True,
        description="Retries, a skipped task and a clean-up; fails on purpose",
        tags=["example"],
    )
    job.add(Task("sleep-one", Command("sleep", ["1"])))
    job.add(Task("add-one-one", Command("sh", ["-c", "echo $((1 + 1))"])))
    job.add(Task("sleep-two", Command("sleep", ["2"])))
    job.add(Task("add-two-four", Command("sh", ["-c", "echo $((2 + 4))"])))
    job.add(Task("add-three-four", Command("sh", ["-c", "echo $((3 + 4))"])))
    # Six attempts, a second apart, which delay no other task.
    job.add(
        Task(
            "whoops-with-constant-delay",
            Command("whoops"),
            retries=5,
            retry_delay=ConstantDelay(1),
        )
    )
    job.add(
        Task(
            "whoops-with-exponential-backoff",
            Command("whoops"),
            retries=1,
            retry_delay=ExponentialBackoff(),
        )
    )
    # The default rule: it runs only if all tasks directly upstream succeeded.
    job.add(
        Task(
            "totally-skippable",
            Command("sh", ["-c", "echo 'everything succeeded'"]),
            trigger_rule="allSuccessful",
        )
    )
    job.add(
        Task(
            "clean-up",
            Command("sh", ["-c", "echo 'cleaning up now'"]),
            trigger_rule="allDone",
        )
    )

    job.set_downstream(job.task("sleep-one"), job.task("add-one-one"))
    job.set_downstream(job.task("add-one-one"), job.task("sleep-two"))
    job.set_downstream(job.task("sleep-two"), job.task("add-two-four"))
    job.set_downstream(job.task("add-one-one"), job.task("add-three-four"))
    job.set_downstream(job.task("sleep-one"), job.task("whoops-with-constant-delay"))
    job.set_downstream(job.task("sleep-one"), job.task("whoops-with-exponential-backoff"))
    job.set_downstream(job.task("whoops-with-constant-delay"), job.task("totally-skippable"))
    job.set_downstream(job.task("whoops-with-exponential-backoff"), job.task("totally-skippable"))
    job.set_downstream(job.task("totally-skippable"), job.task("clean-up"))
    return job


@dataclass(frozen=True)
class PositiveAddition:
    """Adds two non-negative numbers: a minimal operator."""

    a: int
    b: int

    def run(self) -> int:
        if self.a < 0 or self.b < 0:
            raise ValueError("can't add negative numbers")
        return self.a + self.b


@dataclass(frozen=True)
class RandomFailure:
    """Fails once in `n` runs on average; otherwise its result is a number below `n - 1`."""

    n: int

    def run(self) -> int:
        drawn = random.randrange(self.n)
        if drawn == self.n - 1:
            # A failure with a known reason: shown without a traceback.
            raise TaskFailed("unlucky")
        return drawn


def custom_operator() -> Job:
    """Custom operators: any object with a `run` method."""
    job = Job(
        "example-custom-operator",
        schedule="* * * * *",
        active=True,
        description="Operators written in Python, one of which fails now and then",
        tags=["example"],
    )
    job.add(Task("positive-addition", PositiveAddition(5, 6)))
    job.add(Task("random-failure", RandomFailure(4)))
    job.set_downstream(job.task("positive-addition"), job.task("random-failure"))
    return job


def flow() -> Job:
    """A task per page, a branch that chooses a report, a wait and a hook."""
    from goflow.operators.waits import WaitUntil
    from goflow.templates.template import Template

    job = Job(
        "example-flow",
        schedule="*/5 * * * *",
        active=True,
        params={"pages": 12, "full": False},
        description="A task per page, a branch, a wait and a hook",
        tags=["example"],
    )

    @job.task
    def list_pages(pages: int) -> list[str]:
        return [f"page-{number}" for number in range(1, pages + 1)]

    @job.task(map_over="list_pages", max_parallel=4, item_key="{{ item }}", retries=1)
    def measure(list_pages: str) -> int:
        print(f"measuring {list_pages}")
        return len(list_pages)

    @job.branch(after=["measure"])
    def choose(full: bool) -> str:
        return "full-report" if full else "short-report"

    total = Template("{{ results.measure | sum }} characters")
    job.add(Task("short-report", Command("echo", [total]), after=["choose", "measure"]))
    job.add(Task("full-report", Command("echo", [total, "and more"]), after=["choose", "measure"]))
    job.add(Task("pause", WaitUntil(timedelta(seconds=20)), after=["list_pages"]))
    job.add(
        Task(
            "publish",
            Command("echo", ["published"]),
            after=["short-report", "full-report", "pause"],
            trigger_rule="noneFailedMinOneSuccessful",
        )
    )

    @job.on_finish
    def tidy() -> None:
        print("tidied up")

    return job


def follower() -> Job:
    """Runs after `flow`."""
    job = Job(
        "example-follower",
        after="example-flow",
        description="Runs when example-flow has succeeded",
        tags=["example"],
    )
    job.add(Task("tell", Command("echo", ["example-flow has succeeded"])))
    return job
