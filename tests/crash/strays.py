"""Processes of kinds that are hard to end: `python strays.py KIND FILE`.

Every process writes a line with its kind, PID and start time to FILE, and stays.
"""

import os
import signal
import sys
import time
from pathlib import Path

HOW_MANY = {"plain": 1, "grandchild": 2, "setsid": 2, "fork": 2, "ignoring": 2, "stopped": 2}


def start_of(pid: int) -> str:
    """The start time of a running process, or "" for a missing or zombie process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def stay(kind: str, file: str) -> None:
    pid = os.getpid()
    line = f"{kind} {pid} {start_of(pid)}\n"
    out = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(out, line.encode())
    os.close(out)
    if kind.endswith("stopped"):
        os.kill(pid, signal.SIGSTOP)
    while True:
        time.sleep(600)


def be(kind: str, file: str, says: str) -> None:
    """Become a stray process of a kind, reported as `says`."""
    if kind == "ignoring":
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
    if kind != "plain" and os.fork() == 0:
        if kind != "grandchild":
            os.setsid()
        if kind == "fork" and os.fork() != 0:
            os._exit(0)
        stay(says, file)
    stay(says, file)


if __name__ == "__main__":
    be(sys.argv[1], sys.argv[2], f"command-{sys.argv[1]}")
