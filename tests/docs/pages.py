"""The examples in the documentation: pages, their fenced blocks, and a folder to run them in.

A block runs unless a comment `<!-- not run: reason -->` precedes it. The Python blocks of a page
are one program. A block that begins with `# main.py` is also written to that file. Console blocks
contain commands after `$ `, each followed by its output, with `...` for any text. The output of a
command without output on the page is not compared.
"""

import contextlib
import doctest
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.ports import number_of, reserved_port

ROOT = Path(__file__).resolve().parents[2]
MADE = "states.md"  # generated from the transition table
PORT = "8181"  # the documentation's port; a free one replaces it
DEADLINE = 60  # seconds
ASSIGNMENT = re.compile(r"([a-z]+)=\$\([^;&]*\)$")
SERVER = re.compile(r"(goflow (serve|demo)|python [\w./]*main\.py$|uvicorn )")
FENCE = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^>]+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


def pages() -> list[Path]:
    """All pages except generated ones."""
    found = [ROOT / "README.md", ROOT / "examples" / "README.md"]
    found += sorted((ROOT / "docs").rglob("*.md"))
    return [page for page in found if page.name != MADE]


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    line: int
    reason: str | None  # why it does not run


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            found["language"],
            found["text"],
            text.count("\n", 0, found.start("text")),
            found["reason"],
        )
        for found in FENCE.finditer(text)
    ]


@dataclass(frozen=True)
class Step:
    """A command and its output on the page."""

    command: str
    output: str


def steps(block: Block) -> list[Step]:
    found: list[Step] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append(Step(line[2:], ""))
        elif found and found[-1].command.endswith("\\"):
            found[-1] = Step(found[-1].command[:-1] + line.strip(), "")
        else:
            found[-1] = Step(found[-1].command, found[-1].output + line + "\n")
    return found


@dataclass
class Terminal:
    """A folder, and a PATH with `goflow`, `python` and `curl` as a reader has them."""

    folder: Path
    port: str
    server: "subprocess.Popen[bytes] | None" = None

    def __post_init__(self) -> None:
        self.bin = self.folder / ".bin"
        self.bin.mkdir()
        (self.folder / "examples").symlink_to(ROOT / "examples")
        python = shlex.quote(sys.executable)
        self._tool("python", f'exec {python} "$@"')
        self._tool("goflow", f'exec {python} -m goflow "$@"')
        self._tool("uvicorn", f'exec {python} -m uvicorn "$@"')
        self._tool("pytest", f'exec {python} -m pytest -p no:cacheprovider "$@"')
        if shutil.which("curl") is None:
            self._tool("curl", f'exec {python} {shlex.quote(str(CURL))} "$@"')
        self.environment = {
            **os.environ,
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "COLUMNS": "100",
            "NO_COLOR": "1",
        }

    def _tool(self, name: str, line: str) -> None:
        tool = self.bin / name
        tool.write_text(f"#!/bin/sh\n{line}\n")
        tool.chmod(0o755)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text.replace(PORT, self.port), encoding="utf-8")

    def run(self, step: Step) -> None:
        """Run the command, and compare its output with that on the page, if there is any."""
        command = step.command.replace(PORT, self.port)
        if SERVER.match(command):
            self._serve(command)
            return
        assigned = ASSIGNMENT.match(command)
        if assigned:
            command += f' && printf %s "${assigned[1]}"'
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        shown = done.stdout + done.stderr
        assert done.returncode == 0, f"$ {command}\nexit {done.returncode}\n{shown}"
        if assigned:  # a reader's shell keeps variables; here each command has a new one
            self.environment[assigned[1]] = done.stdout
            return
        wanted = step.output.replace(PORT, self.port)
        if wanted:
            flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            same = doctest.OutputChecker().check_output(wanted, shown, flags)
            assert same, f"$ {command}\nthe page shows:\n{wanted}\nit printed:\n{shown}"

    def _serve(self, command: str) -> None:
        self.stop()
        if command.startswith(("uvicorn ", "goflow demo")) and self.port not in command:
            command += f" --port {self.port}"
        if command.startswith("goflow serve") and "--port" not in command:
            command += f" --port {self.port}"
        with (self.folder / "server.log").open("wb") as log:
            self.server = subprocess.Popen(
                ["sh", "-c", f"exec {command}"],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        until = time.monotonic() + DEADLINE
        while not self._answers():
            log_text = (self.folder / "server.log").read_text()
            assert self.server.poll() is None, f"$ {command}\nended:\n{log_text}"
            assert time.monotonic() < until, f"$ {command}\ndoes not answer:\n{log_text}"
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=5):
                return True
        except urllib.error.HTTPError as answer:
            answer.close()
            return True
        except OSError:
            return False

    def stop(self) -> None:
        """End the server with Ctrl-C, and check that it exits with 0."""
        if self.server is not None:
            self.server.send_signal(signal.SIGINT)
            assert self.server.wait(DEADLINE) == 0, (self.folder / "server.log").read_text()
            self.server = None


CURL = Path(__file__).with_name("curl.py")


@contextlib.contextmanager
def terminal(folder: Path) -> Iterator[Terminal]:
    with reserved_port() as reserved:
        opened = Terminal(folder, str(number_of(reserved)))
        try:
            yield opened
            opened.stop()
        finally:
            if opened.server is not None:
                opened.server.kill()
                opened.server.wait()
