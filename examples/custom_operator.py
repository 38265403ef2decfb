"""A custom operator is any object with a `run` method, sync or async.

    goflow run examples/custom_operator.py count-words
    goflow run examples/custom_operator.py count-words --param text="to be or not to be"

Without --param the job counts the words of its default text.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass

from goflow import Context, ExponentialBackoff, Goflow, Job, Task
from goflow.errors import TaskFailed


@dataclass(frozen=True)
class WordCount:
    """Counts the words of a parameter. The result is {word: count}, the most frequent first.

    Fields hold the operator's settings; the context holds the parameters of the execution. The
    result must be JSON, and downstream tasks receive it.
    """

    param: str
    at_most: int = 10

    def run(self, context: Context) -> dict[str, int]:
        words = context.params[self.param].lower().split()
        if not words:
            raise TaskFailed(f"parameter {self.param!r} holds no words")
        context.log(f"{len(words)} words")
        return dict(Counter(words).most_common(self.at_most))


@dataclass(frozen=True)
class Flaky:
    """Fails on the first `failures` attempts, like a service that is still starting."""

    failures: int

    async def run(self, context: Context) -> str:
        await asyncio.sleep(0)  # an async operator must not block the event loop, which it shares
        if context.attempt <= self.failures:
            raise ConnectionError(f"not ready yet, attempt {context.attempt}")
        return f"ready on attempt {context.attempt}"


def count_words() -> Job:
    job = Job("count-words", params={"text": "the cat and the hat and the bat"})
    ready = job.add(
        Task("wait-until-ready", Flaky(2), retries=3, retry_delay=ExponentialBackoff(initial=0.1))
    )
    count = job.add(Task("count", WordCount("text", at_most=3)))
    ready >> count
    return job


gf = Goflow()
gf.add_job(count_words)

if __name__ == "__main__":
    gf.run(":8181")
