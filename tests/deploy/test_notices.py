"""The license notices of bundled packages are part of every copy of the bundle."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

from starlette.testclient import TestClient

from goflow import Goflow, MemoryStore
from tests.docs.pages import ROOT

NOTICES = ROOT / "goflow" / "web" / "static" / "third-party.txt"


def test_every_package_in_the_dashboard_has_a_notice() -> None:
    text = NOTICES.read_text(encoding="utf-8")
    locked = json.loads((ROOT / "ui" / "package-lock.json").read_text(encoding="utf-8"))
    shipped = {
        path.rpartition("node_modules/")[2]: package["version"]
        for path, package in locked["packages"].items()
        if path and not package.get("dev")
    }
    assert set(json.loads((ROOT / "ui" / "package.json").read_text())["dependencies"]) <= set(
        shipped
    )
    parts = {part.strip().partition("\n")[0]: part for part in text.split("-" * 78)[1:]}
    for name, version in shipped.items():
        notice = parts[f"{name} {version}"]
        assert "Copyright" in notice
        assert "Permission is hereby granted" in notice


def test_the_server_serves_them() -> None:
    with TestClient(Goflow(MemoryStore()), base_url="http://localhost") as client:
        answer = client.get("/ui/third-party.txt")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.text == NOTICES.read_text(encoding="utf-8")


def test_a_wheel_contains_them_and_our_own_license(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        assert packed.read("goflow/web/static/third-party.txt") == NOTICES.read_bytes()
        [license] = [name for name in packed.namelist() if name.endswith("licenses/LICENSE")]
        assert packed.read(license) == (ROOT / "LICENSE").read_bytes()
