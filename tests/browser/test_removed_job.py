"""A job that the program no longer defines, in a real browser: its history is shown."""

import re

from playwright.sync_api import Page, expect

from tests.browser.axe import violations
from tests.browser.conftest import PROGRAM, TIMED, Server, Watch
from tests.browser.test_execution_page import ended, show
from tests.browser.test_job_page import cells, tab


def test_its_page_shows_its_history_but_no_run_button(
    page: Page, server: Server, watch: Watch
) -> None:
    watch.server_may_be_away = watch.server_may_miss = True
    id = show(page, server, "mixed")
    ended(page, "failed")
    server.serve_instead(TIMED)
    page.goto(server.job("mixed"))
    expect(page.get_by_role("note")).to_contain_text("no longer defined")
    expect(cells(page, "breaks")).to_have_attribute("data-state", "failed")
    expect(page.get_by_role("button", name=re.compile("Run|Backfill"))).to_have_count(0)
    expect(page.get_by_role("switch")).to_have_count(0)
    expect(page.get_by_role("tab")).to_have_text(
        ["Executions", "Graph", "Durations", "Calendar", "Due times"]
    )
    assert violations(page) == []
    tab(page, "Graph")
    expect(page.locator(".node")).to_have_count(4)
    tab(page, "Calendar")
    expect(page.locator(".year")).to_be_visible()
    page.keyboard.press("5")
    expect(page.locator(".empty")).to_contain_text("No due times are recorded")
    page.keyboard.press("r")
    expect(page.get_by_role("dialog")).to_have_count(0)
    tab(page, "Executions")
    cells(page, "breaks").click()
    expect(page).to_have_url(re.compile(id))


def test_its_ledger_is_kept(page: Page, timed: Server, watch: Watch) -> None:
    watch.server_may_be_away = watch.server_may_miss = True
    page.goto(f"{timed.job('often')}?view=due")
    expect(page.locator('.ledger [data-outcome="fired"]').first).to_be_visible()
    timed.open_gate()
    timed.serve_instead(PROGRAM)
    expect(page.get_by_role("note")).to_contain_text("no longer defined")
    page.reload()
    expect(page.get_by_role("note")).to_contain_text("no longer defined")
    expect(page.locator('.ledger [data-outcome="fired"]').first).to_be_visible()
    expect(page.get_by_role("region", name="Next due times")).to_have_count(0)


def test_its_executions_cannot_be_retried_until_it_is_defined_again(
    page: Page, server: Server, watch: Watch
) -> None:
    watch.server_may_be_away = watch.server_may_miss = True
    show(page, server, "mixed", "?task=breaks")
    ended(page, "failed")
    retry = page.get_by_role("button", name="Retry", exact=True)
    again = page.get_by_role("button", name="Retry from here")
    expect(retry).to_be_enabled()
    server.serve_instead(TIMED)
    expect(page.get_by_role("note")).to_contain_text("it cannot run again")
    for button in (retry, again, page.get_by_role("button", name="Clone…")):
        expect(button).to_be_disabled()
        expect(button).to_have_attribute("title", re.compile("no longer defined"))
    expect(page.get_by_role("button", name="Mark successful")).to_be_enabled()
    page.keyboard.press("x")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert violations(page) == []
    server.serve_instead(PROGRAM)
    expect(retry).to_be_enabled()
    expect(again).to_be_enabled()
    expect(page.get_by_role("note")).to_have_count(0)


def test_an_unknown_job_is_not_shown_as_removed(page: Page, server: Server, watch: Watch) -> None:
    watch.server_may_miss = True
    page.goto(server.job("no such"))
    expect(page.locator(".empty")).to_contain_text("There is no job named")
