"""What axe-core finds wrong with a page for those who cannot see, point or tell colours apart."""

from pathlib import Path

from playwright.sync_api import Page

SCRIPT = Path(__file__).parents[2] / "ui/node_modules/axe-core/axe.min.js"


def violations(page: Page) -> list[str]:
    """One line for each, with the elements it was found in."""
    assert SCRIPT.is_file(), f"{SCRIPT} is missing: run `make ui`"
    # Evaluated by the browser's debugger, which the page's policy does not hold back.
    page.evaluate(SCRIPT.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']}: {one['help']}: {[node['target'] for node in one['nodes'][:5]]}"
        for one in found["violations"]
    ]
