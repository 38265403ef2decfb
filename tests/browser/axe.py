"""Accessibility violations of a page, found by axe-core."""

from pathlib import Path

from playwright.sync_api import Page

SCRIPT = Path(__file__).parents[2] / "ui/node_modules/axe-core/axe.min.js"


def violations(page: Page) -> list[str]:
    """One line per violation, with its elements."""
    assert SCRIPT.is_file(), f"{SCRIPT} is missing: run `make ui`"
    # The browser's debugger evaluates it, since the page's policy does not apply there.
    page.evaluate(SCRIPT.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']}: {one['help']}: {[node['target'] for node in one['nodes'][:5]]}"
        for one in found["violations"]
    ]
