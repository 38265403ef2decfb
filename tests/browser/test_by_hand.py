"""Due times, in a real browser."""

import re

from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Server
from tests.browser.test_job_page import node


def ticks(page: Page, outcome: str) -> Locator:
    return page.locator(f'.tick[data-outcome="{outcome}"]')


def test_a_due_time_that_was_skipped_appears_with_its_reason(page: Page, timed: Server) -> None:
    page.goto(timed.job("often"))
    expect(ticks(page, "skipped").first).to_contain_text("has not ended")
    expect(page.locator(".upcoming time")).to_have_count(3)
    expect(ticks(page, "fired")).to_have_count(1)
    ticks(page, "fired").get_by_role("button", name="Show execution").click()
    expect(page).to_have_url(re.compile(r"[?&]execution="))
    expect(node(page, "wait")).to_have_attribute("data-state", "running")
    timed.open_gate()
    expect(ticks(page, "fired").nth(1)).to_be_visible()


def test_a_due_time_that_a_clock_change_merged_is_pointed_out(page: Page, timed: Server) -> None:
    night = {"from": "2025-03-30T00:00:00Z", "to": "2025-03-30T12:00:00Z"}
    assert page.request.post(f"{timed.url}api/jobs/nightly/backfill", data=night).ok
    page.goto(f"{timed.job('nightly')}?view=due")
    sentence = "clock change: 02:30 does not exist; it is due at 03:00"
    expect(ticks(page, "merged")).to_contain_text(sentence)
    expect(ticks(page, "fired")).to_contain_text(sentence)
