"""The two example jobs of Go's goflow, for `goflow demo` and `Goflow(show_examples=True)`.

The rule: they need no network and no files, so that they behave the same on every machine. Names,
commands and graphs are those of Go's goflow. Only the schedules differ: they have five fields
instead of six, and both are on from the start.
"""

import random
from dataclasses import dataclass

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
