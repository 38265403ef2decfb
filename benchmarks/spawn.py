"""How much overhead does goflow add to the start of a program? A job runs `true` 200 times.

`bare` is an asyncio program that starts the same number, with pipes and the same parallelism.
"""

import subprocess
import sys
from datetime import datetime

from benchmarks.harness import PATIENCE, Client, Report, at_least, goflow, new_folder

AT_A_TIME = 128  # goflow's default

MAIN = """\
from goflow import Command, Goflow, Job, Task

job = Job("programs", tasks=[Task(f"t{{n}}", Command("true")) for n in range({programs})])
gf = Goflow()
gf.add_job(job)
"""

BARE = """\
import asyncio, sys, time
from asyncio.subprocess import PIPE

async def one(slots):
    async with slots:
        process = await asyncio.create_subprocess_exec("true", stdout=PIPE, stderr=PIPE)
        await process.communicate()
        assert process.returncode == 0

async def main(programs, at_a_time):
    slots = asyncio.Semaphore(at_a_time)
    begin = time.perf_counter()
    await asyncio.gather(*(one(slots) for _ in range(programs)))
    print(time.perf_counter() - begin)

asyncio.run(main(*map(int, sys.argv[1:])))
"""


def main(report: Report, programs: int = 200, repeat: int = 10) -> None:
    report.title("spawn: programs started and ended, per second, best run")
    with (
        new_folder() as folder,
        goflow(folder, MAIN.format(programs=programs)) as server,
        Client(server.port) as client,
    ):
        # Alternately, so that both run under the same conditions.
        runs = [(_run(client), _run_bare(programs)) for _ in range(repeat)]
    ours, bare = min(run[0] for run in runs), min(run[1] for run in runs)
    report.row(f'{programs} Command("true") in one job', programs / ours, "/s", None,
               programs / bare)  # fmt: skip
    report.row("rate, compared with bare", bare / ours, "times", at_least(0.8))


def _run(client: Client) -> float:
    client.submit("programs")
    client.wait_until_idle()
    execution = client.json("/api/executions?limit=1")["executions"][0]
    if execution["state"] != "successful":
        raise RuntimeError(f"the execution ended {execution['state']}")
    started, ended = (datetime.fromisoformat(execution[key]) for key in ("started", "finished"))
    return (ended - started).total_seconds()


def _run_bare(programs: int) -> float:
    command = [sys.executable, "-c", BARE, str(programs), str(AT_A_TIME)]
    return float(subprocess.run(command, check=True, stdout=-1, timeout=PATIENCE).stdout)


if __name__ == "__main__":
    main(Report())
