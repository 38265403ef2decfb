"""A main.py with programs, a custom operator and functions.

    goflow serve examples/main.py                     the dashboard, on http://localhost:8181
    goflow run examples/main.py greet-people          one job, once, in the terminal
    goflow run examples/main.py greet-people --param greeting=Servus

goflow checks each job when this file is loaded. An invalid one stops the program with an error.
"""

from dataclasses import dataclass

from goflow import Command, ConstantDelay, Context, ExponentialBackoff, Goflow, Job, Task
from goflow.examples import complex_analytics, custom_operator


# 1. Programs, with dependencies.
def disk_report() -> Job:
    """Runs at 06:30 in Berlin, before and after clock changes."""
    job = Job("disk-report", schedule="30 6 * * *", active=True, timezone="Europe/Berlin")
    disk = job.add(Task("disk", Command("df", ["-P", "/"], timeout=10)))
    largest = job.add(
        Task(
            "largest",
            Command.shell("du -sk /etc/* 2>/dev/null | sort -rn | head -5"),
            retries=2,
            retry_delay=ConstantDelay(5),
        )
    )
    done = job.add(Task("done", Command("echo", ["reported"]), trigger_rule="allDone"))
    [disk, largest] >> done
    return job


# 2. A custom operator: any object with a `run` method.
@dataclass(frozen=True)
class Fibonacci:
    n: int

    def run(self, context: Context) -> int:
        before, current = 0, 1
        for _ in range(self.n):
            before, current = current, before + current
        context.log(f"number {self.n} is {before}")
        return before


def fibonacci() -> Job:
    job = Job("fibonacci", schedule="@every 5m", active=True)
    job.add(Task("tenth", Fibonacci(10)))
    job.add(Task("hundredth", Fibonacci(100), after=["tenth"]))
    return job


# 3. Functions. A parameter named like a task receives its result, and the function's task runs
#    after that one. A parameter named like a job parameter receives its value, and `context` the
#    context.
greetings = Job(
    "greet-people",
    schedule="0 9 * * MON-FRI",
    params={"greeting": "Hello", "people": ["Ada", "Grace"]},
    description="Function tasks with parameters",
)


@greetings.task(retries=3, retry_delay=ExponentialBackoff(jitter=0.5))
def find_people(people: list[str]) -> list[str]:
    return sorted(people)


@greetings.task
def greet(find_people: list[str], greeting: str) -> list[str]:
    return [f"{greeting}, {name}!" for name in find_people]


@greetings.task
async def say(greet: list[str], context: Context) -> int:
    for line in greet:
        print(line)  # goes to this task's log
    context.log.info("said %d greetings", len(greet))
    return len(greet)


gf = Goflow()
gf.add_job(complex_analytics)
gf.add_job(custom_operator)
gf.add_job(disk_report)
gf.add_job(fibonacci)
gf.add_job(greetings)

if __name__ == "__main__":
    gf.run(":8181")
