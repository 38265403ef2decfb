"""Every example in the README and in docs/ runs, and prints the output on the page."""

import inspect
import re
import sys
from pathlib import Path

import pytest

from goflow.loading import loading
from tests.docs.pages import ROOT, blocks, pages, steps, terminal

RUN = {"python", "console"}
SHOWN = {
    "text",
    "json",
    "ini",
    "nginx",
    "apache",
    "caddyfile",
    "dockerfile",
    "yaml",
}  # do not run


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", pages(), ids=_name)
def test_every_example_of_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "main", raising=False)
    namespace: dict[str, object] = {"__name__": "page"}
    tested: set[str] = set()
    with terminal(tmp_path) as opened:
        for block in blocks(page):
            if block.reason is not None or block.language not in RUN:
                continue
            if block.language == "console":
                for step in steps(block):
                    opened.run(step)
                continue
            first = block.text.partition("\n")[0]
            if first.startswith("# ") and first.endswith(".py"):
                opened.write(first[2:], block.text)
            # empty lines before the block, so that tracebacks have the line numbers of the page
            source = "\n" * block.line + block.text
            with loading():
                exec(compile(source, str(page), "exec"), namespace)
            for name, value in list(namespace.items()):
                if name.startswith("test_") and inspect.isfunction(value) and name not in tested:
                    tested.add(name)
                    value()


def test_blocks_are_found_and_most_of_them_run() -> None:
    found = [block for page in pages() for block in blocks(page)]
    assert {block.language for block in found} <= RUN | SHOWN
    run = [block for block in found if block.language in RUN and block.reason is None]
    kept_back = [block for block in found if block.language in RUN and block.reason is not None]
    assert len(run) >= 40
    assert len(kept_back) <= 8
    for page in pages():  # every fence belongs to a block
        assert page.read_text(encoding="utf-8").count("\n```") == 2 * len(blocks(page)), page


def _anchors(page: Path) -> set[str]:
    """The ids of headings, as GitHub and the site make them, and those of docstrings."""
    text = page.read_text(encoding="utf-8")
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    ids = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
    return ids | set(re.findall(r"^::: (\S+)$", text, re.MULTILINE))


def test_links_lead_to_files_and_headings_that_exist() -> None:
    for page in pages():
        links = re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8"))
        for target, anchor in links:
            if "://" in target:
                continue
            file = page.parent / target if target else page
            assert file.exists(), f"{_name(page)} links to {target}"
            assert not anchor or anchor in _anchors(file), f"{_name(page)} links to #{anchor}"
