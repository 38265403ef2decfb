"""The image pins exact versions that match the project, and exposes nothing."""

import re
import tomllib
from importlib.metadata import requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from hatch_build import NODE_PACKAGE
from tests.docs.pages import ROOT, pages

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
IMAGE = {"python_version": "3.13", "sys_platform": "linux", "platform_system": "Linux", "extra": ""}


def pinned() -> dict[str, Version]:
    lines = (ROOT / "image" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = {}
    for line in lines:
        if not line.startswith("#"):
            matched = re.fullmatch(r"([a-z0-9._-]+)==([0-9a-z.+!]+)", line)
            assert matched, f"{line!r} is not an exact version"
            found[canonicalize_name(matched[1])] = Version(matched[2])
    return found


def test_every_package_of_the_image_has_an_exact_version() -> None:
    """Run `make constraints` if this fails."""
    asked = [
        *PROJECT["project"]["dependencies"],
        *PROJECT["build-system"]["requires"],
        NODE_PACKAGE,
    ]
    versions, seen = pinned(), set()
    waiting = [Requirement(text) for text in asked]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker is not None and not requirement.marker.evaluate(IMAGE):
            continue
        assert name in versions, f"{requirement} has no version in constraints.txt"
        assert versions[name] in requirement.specifier, f"{requirement}, and not {versions[name]}"
        if name not in seen and not NODE_PACKAGE.startswith(name):
            seen.add(name)
            waiting += [Requirement(text) for text in requires(name) or ()]


def test_all_stages_have_the_same_patch_release_as_base() -> None:
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(bases) == 2
    assert len(set(bases)) == 1
    version = re.fullmatch(r"python:(3\.\d+)\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", bases[0])
    assert version, bases[0]
    assert version[1] == IMAGE["python_version"]
    source = (ROOT / "image" / "constraints.py").read_text(encoding="utf-8")
    assert f'PYTHON = "{version[1]}"' in source


def test_installed_packages_and_build_requirements_are_constrained() -> None:
    for name in ("PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT"):
        assert f"{name}=/src/image/constraints.txt" in DOCKERFILE
    assert "apt-get" not in DOCKERFILE
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8")
    assert "!image/constraints.txt" in kept


def test_it_runs_as_an_unprivileged_user() -> None:
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER goflow$", last, re.MULTILINE)
    assert last.index("\nUSER ") < last.index("\nCMD ")
    assert "RUN" not in last.partition("\nUSER ")[2]


@pytest.mark.parametrize("page", [*pages(), ROOT / "Dockerfile"], ids=lambda page: page.name)
def test_no_example_opens_a_public_port(page: object) -> None:
    text = page.read_text(encoding="utf-8")  # type: ignore[attr-defined]
    for published in re.findall(r"(?:-p|--publish)[ =](\S+:\d+)", text):
        assert published.startswith("127.0.0.1:"), published
