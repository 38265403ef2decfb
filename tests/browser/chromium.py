"""Finds the browser for the dashboard's tests; as a program, installs one if there is none.

Rule: a machine without a browser gets one, or the run fails. Tests of the dashboard are never
skipped.

`GOFLOW_CHROMIUM` names a browser to use instead of looking for one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find() -> str | None:
    """The path of a Chromium, or None."""
    if chosen := os.environ.get("GOFLOW_CHROMIUM"):
        return chosen
    for name in NAMES:
        if path := shutil.which(name):
            return path
    with sync_playwright() as playwright:
        managed = playwright.chromium.executable_path
    return managed if Path(managed).exists() else None


def install() -> None:
    """Installs Debian's package if possible, else Playwright's own browser.

    Raises CalledProcessError if neither can be installed.
    """
    if shutil.which("apt-get") and os.geteuid() == 0:
        apt = ["apt-get", "-qq", "-o", "Dpkg::Use-Pty=0"]
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run([*apt, "update"], env=quiet, check=False)
        wanted = ["install", "-y", "--no-install-recommends", "chromium"]
        if subprocess.run([*apt, *wanted], env=quiet, check=False).returncode == 0 and find():
            return
    subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=True)


if __name__ == "__main__":
    if find() is None:
        install()
    print(f"browser: {find()}")
