"""How fast are other schedulers, where they are installed: APScheduler and DBOS?

Each runs in a separate process with a database on the same disk: `pip install apscheduler
sqlalchemy dbos`. Missing ones are left out.
"""

import json
import os
import subprocess
import sys
import time
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

from benchmarks.harness import Client, Report, goflow, median, new_folder

PATIENCE = 300  # seconds for one program

MAIN = """\
from goflow import Goflow, Job, Task

class Nothing:
    def run(self): pass

gf = Goflow()
gf.add_job(Job("one", tasks=[Task("t", Nothing())]))
"""

# Prints the milliseconds from a submit to the start of its function, and functions per second.
APSCHEDULER = """\
import json, sys, threading, time
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore

started, done, total = [], threading.Event(), 0

def work(index):
    started.append((index, time.perf_counter()))
    if len(started) >= total:
        done.set()

def main(submits, many):
    global total
    scheduler = BackgroundScheduler(
        jobstores={"default": SQLAlchemyJobStore(url="sqlite:///apscheduler.db")},
        job_defaults={"misfire_grace_time": None},
    )
    scheduler.start()
    waits = []
    for index in range(submits):
        started.clear(); done.clear(); total = 1
        begin = time.perf_counter()
        scheduler.add_job(work, args=[index])
        done.wait(60)
        waits.append((started[0][1] - begin) * 1000)
    started.clear(); done.clear(); total = many
    begin = time.perf_counter()
    for index in range(many):
        scheduler.add_job(work, args=[index])
    done.wait(240)
    rate = len(started) / (time.perf_counter() - begin)
    print(json.dumps([sorted(waits)[len(waits) // 2], rate]))
    scheduler.shutdown()

if __name__ == "__main__":
    sys.modules["peer"] = sys.modules["__main__"]
    work.__module__ = "peer"
    main(int(sys.argv[1]), int(sys.argv[2]))
"""

DBOS = """\
import json, sys, time
from dbos import DBOS

DBOS(config={"name": "peer", "system_database_url": "sqlite:///dbos.db", "log_level": "ERROR",
             "run_admin_server": False})

@DBOS.workflow()
def work():
    return time.perf_counter()

@DBOS.step()
def step():
    pass

@DBOS.workflow()
def steps(count):
    for _ in range(count):
        step()

def main(submits, many):
    DBOS.launch()
    waits = []
    for _ in range(submits):
        begin = time.perf_counter()
        waits.append((DBOS.start_workflow(work).get_result() - begin) * 1000)
    begin = time.perf_counter()
    for handle in [DBOS.start_workflow(work) for _ in range(many)]:
        handle.get_result()
    rate = many / (time.perf_counter() - begin)
    print(json.dumps([sorted(waits)[len(waits) // 2], rate]))
    DBOS.destroy()

main(int(sys.argv[1]), int(sys.argv[2]))
"""


def main(report: Report, submits: int = 20, many: int = 300) -> None:
    """`many` one-task jobs are submitted at once for the rate."""
    report.title(f"peers: submit to start, and {many} one-task jobs, each submit durable")
    with new_folder() as folder:
        with goflow(folder, MAIN) as server, Client(server.port) as client:
            waits = [_submit_to_start(client) for _ in range(submits)]
            begin = time.perf_counter()
            for _ in range(many):
                client.submit("one")
            client.wait_until_idle()
            rate = many / (time.perf_counter() - begin)
        report.row("goflow, over HTTP: submit to start, median", median(waits), "ms")
        report.row("goflow, over HTTP: tasks", rate, "/s")
        for name, needs, text in (
            ("APScheduler", ("apscheduler", "sqlalchemy"), APSCHEDULER),
            ("DBOS", ("dbos",), DBOS),
        ):
            if missing := [module for module in needs if find_spec(module) is None]:
                report.say(f"{name}: {', '.join(missing)} not installed")
                continue
            wait, rate = _run(folder, text, submits, many)
            report.row(f"{name}, in its process: submit to start, median", wait, "ms")
            report.row(f"{name}, in its process: tasks", rate, "/s")


def _submit_to_start(client: Client) -> float:
    begin = time.time()
    id = client.submit("one")
    client.wait_until_idle()
    started = client.json(f"/api/executions/{id}")["started"]
    return (datetime.fromisoformat(started).timestamp() - begin) * 1000


def _run(folder: Path, text: str, submits: int, many: int) -> tuple[float, float]:
    (folder / "peer.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "peer.py", str(submits), str(many)],
        cwd=folder,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    if done.returncode:
        raise RuntimeError(f"the peer ended with {done.returncode}:\n{done.stderr[-2000:]}")
    wait, rate = json.loads(done.stdout.splitlines()[-1])
    return float(wait), float(rate)


if __name__ == "__main__":
    main(Report())
