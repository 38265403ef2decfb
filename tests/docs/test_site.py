"""The documentation as a site: it builds strictly, and its links and pictures are there."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

import goflow
import goflow.testing
from tests.docs.pages import ROOT

DEADLINE = 300  # seconds, on a busy machine
LOADED = {"script", "link", "img", "iframe", "source", "video"}  # tags that load a file


class Page(HTMLParser):
    """The links, the ids and the loaded files of a page."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if (id := attributes.get("id")) is not None:
            self.ids.add(id)
        for name in ("href", "src"):
            target = attributes.get(name)
            if target and attributes.get("rel") not in ("canonical", "prev", "next"):
                (self.loaded if tag in LOADED else self.links).append(target)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    # An unreachable proxy, so that a build that needs the network fails.
    nowhere = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, **nowhere, "NO_MKDOCS_2_WARNING": "1", "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def parsed(site: Path) -> dict[Path, Page]:
    return {file: Page(file) for file in sorted(site.rglob("*.html"))}


def _internal(file: Path, links: list[str]) -> Iterator[tuple[Path, str]]:
    """The file and the anchor of each link that stays within the site."""
    for link in links:
        if not urlsplit(link).scheme and not link.startswith("//"):
            path, anchor = urldefrag(link)
            yield (file.parent / unquote(path)).resolve() if path else file, unquote(anchor)


def test_internal_links_lead_to_files_and_anchors_that_exist(
    site: Path, parsed: dict[Path, Page]
) -> None:
    checked = 0
    for file, page in parsed.items():
        if file.name == "404.html":  # served for any path, so its links are absolute
            continue
        for target, anchor in _internal(file, page.links + page.loaded):
            where = f"{file.relative_to(site)} links to {target}"
            assert target.is_relative_to(site.resolve()), where
            assert target.exists(), where
            if anchor and target.suffix == ".html":
                assert anchor in parsed[target].ids | {"__top"}, f"{where}#{anchor}"
            checked += 1
    assert checked > 1000


def test_pages_load_nothing_from_other_hosts(parsed: dict[Path, Page]) -> None:
    for file, page in parsed.items():
        away = [target for target in page.loaded if urlsplit(target).netloc]
        assert away == [], file


def test_the_reference_has_every_public_name_with_an_example(site: Path) -> None:
    text = "".join(file.read_text() for file in (site / "reference").glob("*.html"))
    names = [f"goflow.{name}" for name in goflow.__all__ if name != "__version__"]
    names += [f"goflow.testing.{name}" for name in goflow.testing.__all__]
    assert [name for name in names if f'id="{name}"' not in text] == []


def test_the_search_knows_pages_and_docstrings(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text())
    found = {entry["location"] for entry in index["docs"]}
    assert {"CHANGELOG.html", "how-to/retries.html"} <= {each.split("#")[0] for each in found}
    assert "reference/jobs.html#goflow.Job" in found


def test_the_pictures_are_in_the_site(site: Path) -> None:
    shown = {path.name for path in (ROOT / "docs" / "images").iterdir()}
    assert {path.name for path in (site / "images").iterdir()} == shown
