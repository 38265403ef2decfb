"""How long does a server need to start, and what does it cost while idle?

`bare` is a web server of starlette and uvicorn with one route and SQLite.
"""

from pathlib import Path

from benchmarks.harness import (
    Client,
    Report,
    Server,
    at_most,
    bare,
    goflow,
    median,
    new_folder,
)

ONE_JOB = """\
from goflow import Command, Goflow, Job, Task

gf = Goflow()
gf.add_job(Job("hello", tasks=[Task("hello", Command("echo", ["hello"]))]))
"""

# With a schedule that does not fire during the run, except at New Year.
MANY_JOBS = """\
from goflow import Command, Goflow, Job, Task

gf = Goflow()
for n in range({jobs}):
    job = Job(f"job-{{n}}", schedule="0 0 1 1 *", active=True)
    for task in range(3):
        job.add(Task(f"t{{task}}", Command("true"), after=[f"t{{task - 1}}"] if task else []))
    gf.add_job(job)
"""


def main(report: Report, repeat: int = 15, jobs: int = 1000, seconds: float = 10.0) -> None:
    """`seconds` is how long each idle server is measured."""
    report.title("startup: ms from the start of the process to its first 200")
    with new_folder() as folder:
        # Alternately, so that conditions are the same. The first start compiles the bytecode.
        runs = [(_start(folder), _start_bare(folder)) for _ in range(repeat + 1)][1:]
        ours = [run[0] for run in runs]
        limit = [run[1] for run in runs]
        report.row("start to first 200, median", median(ours), "ms", None, median(limit))
        report.row("start to first 200, best", min(ours), "ms", None, min(limit))
        ratio = median(run[0] / run[1] for run in runs)
        report.row("compared with bare, median of pairs", ratio, "times", at_most(1.35))

        report.title(f"idle: {jobs:,} jobs registered, schedules on, {seconds:g} s")
        with bare(folder) as server:
            share, memory = _idle(server, seconds)
        with goflow(folder, MANY_JOBS.format(jobs=jobs)) as server:
            report.row("start to first 200", server.seconds_to_answer * 1000, "ms")
            our_share, our_memory = _idle(server, seconds)
        report.row("processor, of one core", our_share, "%", at_most(1), share)
        report.row("memory", our_memory, "MiB", None, memory)
        report.row("memory above bare", our_memory - memory, "MiB", at_most(30))


def _start(folder: Path) -> float:
    with goflow(folder, ONE_JOB) as server:
        return server.seconds_to_answer * 1000


def _start_bare(folder: Path) -> float:
    with bare(folder) as server:
        return server.seconds_to_answer * 1000


def _idle(server: Server, seconds: float) -> tuple[float, float]:
    """Percent of a core and MiB of a server that has answered a few requests."""
    with Client(server.port) as client:
        for _ in range(20):
            client.get("/api/health")
    return server.idle_share(seconds), server.memory()


if __name__ == "__main__":
    main(Report())
