"""How fast are the pages that a dashboard loads, with many jobs?

`bare` is a web server that responds with as many prepared bytes.
"""

from functools import partial

from benchmarks.harness import (
    Client,
    Report,
    at_most,
    bare,
    goflow,
    median,
    milliseconds,
    new_folder,
    quantile,
)
from benchmarks.seeding import seed
from goflow import Command, Job, Task
from goflow.app import DASHBOARD

MAIN = """\
from goflow import Command, Goflow, Job, Task

gf = Goflow(keep_days=None)
for n in range({jobs}):
    gf.add_job(Job(f"job-{{n}}", schedule="@hourly", tasks=[Task("t", Command("true"))]))
"""


def main(report: Report, jobs: int = 1000, each: int = 100, times: int = 100) -> None:
    """`each` is the number of kept executions of each job."""
    report.title(f"pages: ms with {jobs:,} jobs, {each} executions of each")
    with new_folder() as folder:
        seed(
            folder / "goflow.db",
            [Job(f"job-{n}", tasks=[Task("t", Command("true"))]) for n in range(jobs)],
            jobs * each,
        )
        pages = {
            "/ui/": at_most(20),
            "/ui/jobs/job-1": at_most(20),
            "/api/jobs": at_most(20),
            "/api/jobs/job-1": at_most(20),
            "/api/overview?last=1": None,
            "/api/overview": None,
            "/api/overview?last=100": at_most(200),
            "/api/jobs/job-1/calendar": at_most(50),
            "/openapi.json": None,
        }
        with (
            bare(folder) as limit,
            Client(limit.port) as plain,
            goflow(folder, MAIN.format(jobs=jobs)) as server,
            Client(server.port) as client,
        ):
            for page, target in pages.items():
                if page.startswith("/ui/") and not (DASHBOARD / "index.html").is_file():
                    report.title(f"  {page}: the dashboard is not built; `make ui` does it")
                    continue
                size = len(client.get(page))
                took = milliseconds(partial(client.get, page), times)
                ready = milliseconds(partial(plain.get, f"/bytes/{size}"), times)
                what = f"{page} ({size:,} bytes)"
                report.row(what, median(took), "ms", target, median(ready))
                report.row("  99 of 100 within", quantile(took, 0.99), "ms")


if __name__ == "__main__":
    main(Report())
