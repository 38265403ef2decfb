"""The docstrings of the public names: complete, and with examples that run."""

import doctest
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import goflow
import goflow.testing
from tests.docs.pages import ROOT

DIRECTIVE = re.compile(r"^::: (\S+)\n((?:    .*\n)*)", re.MULTILINE)
MEMBERS = re.compile(r"members: \[(.*)\]")


def documented() -> Iterator[tuple[str, Any]]:
    """Each object on the pages of the reference, and each member that they list."""
    for page in sorted((ROOT / "docs" / "reference").glob("*.md")):
        for path, options in DIRECTIVE.findall(page.read_text(encoding="utf-8") + "\n"):
            module, _, name = path.rpartition(".")
            found: Any = getattr(__import__(module, fromlist=[name]), name)
            yield path, found
            listed = MEMBERS.search(options)
            for member in listed[1].split(", ") if listed else ():
                yield f"{path}.{member}", inspect.getattr_static(found, member)


OBJECTS = dict(documented())


def _sections(docstring: str) -> dict[str, str]:
    """The text of each section of a docstring in Google's style."""
    parts = re.split(r"^(\w+):\n", inspect.cleandoc(docstring), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _names(section: str) -> set[str]:
    return set(re.findall(r"^    \*{0,2}(\w+): ", section, re.MULTILINE))


def _callable(found: Any) -> Any:
    found = getattr(found, "__func__", found)
    return getattr(found, "fget", found)


def _parameters(found: Any) -> set[str]:
    return set(inspect.signature(found).parameters) - {"self", "cls", "_content"}


@pytest.mark.parametrize("path", OBJECTS)
def test_a_docstring_names_every_parameter_or_attribute(path: str) -> None:
    found = _callable(OBJECTS[path])
    assert found.__doc__, path
    sections = _sections(found.__doc__)
    if isinstance(found, type) and issubclass(found, BaseException):
        return
    if "Attributes" in sections:
        assert _names(sections["Attributes"]) == set(
            getattr(found, "__members__", found.__annotations__)
        )
    elif "Args" in sections or len(_parameters(found)) > 1:
        assert _names(sections["Args"]) == _parameters(found)


@pytest.mark.parametrize("name", sorted({*goflow.__all__} - {"__version__"}))
def test_a_public_name_has_an_example(name: str) -> None:
    assert ">>> " in (getattr(goflow, name).__doc__ or "")


@pytest.mark.parametrize("name", goflow.testing.__all__)
def test_a_name_of_goflow_testing_has_an_example(name: str) -> None:
    assert ">>> " in (getattr(goflow.testing, name).__doc__ or "")


@pytest.mark.parametrize("path", OBJECTS)
def test_the_examples_of_a_docstring_run(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = _callable(OBJECTS[path])
    test = doctest.DocTestParser().get_doctest(found.__doc__ or "", {}, path, None, None)
    said: list[str] = []
    result = doctest.DocTestRunner().run(test, out=said.append)
    assert result.failed == 0, "".join(said)
