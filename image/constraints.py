"""Writes constraints.txt: the exact versions of all packages in the image.

    make constraints

pip resolves the requirements of pyproject.toml as in the image, and installs nothing.
`tests/deploy/test_image.py` fails if constraints.txt is out of date.
"""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
PYTHON = "3.13"  # as in the Dockerfile
HEAD = """\
# The exact versions of the image's packages, written by `make constraints` for the Dockerfile.
"""


def requirements() -> list[str]:
    """The requirements of goflow and of its build, and pip itself."""
    sys.path.insert(0, str(HERE.parent))
    from hatch_build import NODE_PACKAGE

    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    return [
        *project["project"]["dependencies"],
        *project["build-system"]["requires"],
        NODE_PACKAGE,
        "pip",
    ]


def resolved(requirements: list[str]) -> list[str]:
    """Lines such as `click==8.5.1`, in alphabetical order."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    image = ["--python-version", PYTHON, "--platform", "manylinux_2_28_x86_64"]
    binary = ["--only-binary", ":all:", "--target", "unused", "--report", "-"]
    asked = subprocess.run(
        [*command, *image, *binary, *requirements], capture_output=True, text=True, check=True
    )
    installed = [each["metadata"] for each in json.loads(asked.stdout)["install"]]
    return sorted(f"{each['name'].lower()}=={each['version']}" for each in installed)


if __name__ == "__main__":
    lines = resolved(requirements())
    (HERE / "constraints.txt").write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
