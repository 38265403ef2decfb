"""A hook of MkDocs: adds the pages outside docs/ to the site.

README.md is the home page. CHANGELOG.md, CONTRIBUTING.md, LICENSE and examples/ keep their paths.
Links between these and docs/ are adapted, since the site's paths are relative to docs/.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "examples/README.md": "examples/README.md",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        text = re.sub(r"\]\((?:\.\./)?docs/", "](" + "../" * page.count("/"), text)
        files.append(File.generated(config, page, content=text))
    files.append(File.generated(config, "LICENSE", content=(ROOT / "LICENSE").read_text()))
    for program in sorted((ROOT / "examples").rglob("*.py")):
        path = program.relative_to(ROOT).as_posix()
        files.append(File.generated(config, path, abs_src_path=str(program)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Adapt links out of docs/, and drop diagrams that only a script from a CDN could draw."""
    up = "../" * page.file.src_uri.count("/")
    outside = r"\]\((?:\.\./)+(CHANGELOG\.md|CONTRIBUTING\.md|examples/)"
    markdown = re.sub(outside, rf"]({up}\1", markdown)
    return re.sub(r"^```mermaid\n.*?^```\n", "", markdown, flags=re.MULTILINE | re.DOTALL)
