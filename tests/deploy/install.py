"""Finds the programs of a deployment of goflow; as a program, installs missing ones.

Rule: a machine without them gets them, or the run fails. These tests are never skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess

# the program, and its package in Debian
PROGRAMS = {
    "nginx": "nginx-light",
    "apache2": "apache2",
    "htpasswd": "apache2-utils",
    "caddy": "caddy",
    "openssl": "openssl",
    "systemd-analyze": "systemd",
}
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


def find(program: str) -> str | None:
    """The path of a program, or None."""
    return shutil.which(program, path=PATH)


def install(programs: list[str]) -> None:
    """Installs Debian's packages of these programs. Raises CalledProcessError."""
    apt = ["apt-get", "-qq", "-o", "Dpkg::Use-Pty=0"]
    # The packages would start their servers, except at run level 1.
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    packages = [PROGRAMS[program] for program in programs]
    subprocess.run([*apt, "update"], env=quiet, check=False)
    subprocess.run(
        [*apt, "install", "-y", "--no-install-recommends", *packages], env=quiet, check=True
    )


if __name__ == "__main__":
    if missing := [program for program in PROGRAMS if find(program) is None]:
        if shutil.which("apt-get") is None or os.geteuid() != 0:
            raise SystemExit(f"install {', '.join(missing)}: the tests need them")
        install(missing)
    print(f"servers: {', '.join(str(find(program)) for program in PROGRAMS)}")
