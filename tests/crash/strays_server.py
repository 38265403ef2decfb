"""A server whose tasks leave strays: `python strays_server.py STORE PORT FILE`.

It waits half a second between SIGTERM and SIGKILL.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from strays import HOW_MANY, be

from goflow import Command, Goflow, Job, Task
from goflow.operators import orphans, process_group

STORE, PORT, FILE = sys.argv[1:]
TIMEOUTS = (8, 60)  # seconds for all processes to report; a busy machine needs more
process_group.GRACE = orphans.GRACE = 0.5


@dataclass(frozen=True)
class Stray:
    """An isolated task that becomes a stray process."""

    kind: str

    def run(self) -> None:
        be(self.kind, FILE, f"isolated-{self.kind}")


def job(name: str, timeout: float | None) -> Job:
    made = Job(name)
    for kind in HOW_MANY:
        program = Command(sys.executable, [str(Path(__file__).parent / "strays.py"), kind, FILE])
        made.add(Task(f"command-{kind}", program, timeout=timeout))
        made.add(Task(f"isolated-{kind}", Stray(kind), timeout=timeout, isolation="process"))
    return made


def daemon() -> Job:
    """Starts a daemon on purpose, and ends."""
    line = f"setsid sh -c 'echo daemon $$ 0 >> \"{FILE}\"; exec sleep 600' >/dev/null 2>&1 &"
    return Job("daemon", tasks=[Task("start", Command.shell(line))])


if __name__ == "__main__":
    gf = Goflow(STORE, ui_path=None, stop_timeout=0.2)
    gf.add_job(job("strays", None))
    for timeout in TIMEOUTS:
        gf.add_job(job(f"timed {timeout}", timeout))
    gf.add_job(daemon)
    gf.run(f"127.0.0.1:{PORT}")
