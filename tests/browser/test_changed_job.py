"""A job whose definition has changed since an execution, in a real browser."""

import re
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.browser.axe import violations
from tests.browser.conftest import Server, Watch
from tests.browser.test_execution_page import ended, show

CHANGED = Path(__file__).with_name("changed.py")


def test_a_retry_asks_for_the_definition_and_the_dropped_tasks_stay_readable(
    page: Page, server: Server, watch: Watch
) -> None:
    watch.server_may_be_away = watch.server_may_miss = True
    show(page, server, "mixed", "?task=breaks")
    ended(page, "failed")
    page.get_by_role("button", name="Retry", exact=True).click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("list", name="Done by hand")).to_contain_text("retried")
    ended(page, "failed")
    server.serve_instead(CHANGED)
    page.reload()
    expect(page.locator(".node")).to_have_count(4)
    page.get_by_role("button", name="Retry", exact=True).click()
    dialog = page.get_by_role("dialog", name="By which definition")
    expect(dialog).to_contain_text("new tasks run too")
    assert violations(page) == []
    dialog.get_by_role("button", name="Go back").click()
    page.get_by_role("button", name="Retry", exact=True).click()
    dialog.get_by_role("button", name="By the newest").click()
    ended(page, "successful")
    expect(page.locator(".node")).to_have_count(3)
    expect(page.locator(".node", has_text="joins")).to_have_count(1)
    expect(page.get_by_role("list", name="Done by hand")).to_contain_text(
        "retried with the newest definition"
    )
    page.get_by_role("region", name="Dropped tasks").get_by_role("button", name="breaks").click()
    expect(page).to_have_url(re.compile("task=breaks"))
    expect(page.locator("[data-detail=breaks] .log")).to_contain_text("to no avail")
    expect(page.locator("[data-detail=breaks]").get_by_role("button", name="Retry")).to_have_count(
        0
    )
    assert violations(page) == []
