"""A hook of MkDocs: adds to the site the pages that do not lie in docs/.

README.md is the home page. CHANGELOG.md, CONTRIBUTING.md, LICENSE and examples/ keep their paths.
Links into docs/ lose that folder, since the site's pages are relative to it.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

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
