"""The list of jobs, in a real browser."""

import re

from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Server, Watch
from tests.browser.jobs import STRANGE

NAMES = ["gate", "mixed", STRANGE, "counted"]


def row(page: Page, job: str) -> Locator:
    return page.locator("[data-job]").nth(NAMES.index(job))


def marks(page: Page, job: str) -> Locator:
    return row(page, job).locator(".mark")


def test_every_job_has_a_row_with_its_schedule(page: Page, server: Server) -> None:
    page.goto(server.url)
    expect(page).to_have_url(f"{server.url}ui/")
    expect(page.locator("[data-job] .title")).to_have_text(NAMES)
    expect(row(page, "mixed").locator("code")).to_have_text("0 0 1 1 *")
    expect(row(page, "gate")).to_contain_text("by hand only")
    expect(row(page, "mixed").locator("time")).to_have_attribute(
        "datetime", re.compile(r"-01-01T00:00:00Z$")
    )


def test_execute_runs_the_job_and_its_mark_turns_by_itself(page: Page, server: Server) -> None:
    page.goto(f"{server.url}ui/")
    expect(marks(page, "gate")).to_have_count(0)
    row(page, "gate").get_by_role("button", name="Execute gate").click()
    expect(page.locator(".notice")).to_contain_text("gate")
    expect(page.locator(".notice")).to_contain_text("was submitted")
    expect(marks(page, "gate")).to_have_attribute("data-state", "running")
    server.open_gate()
    expect(marks(page, "gate")).to_have_attribute("data-state", "successful")


def test_what_another_page_does_shows_here(page: Page, server: Server) -> None:
    page.goto(f"{server.url}ui/")
    expect(row(page, "mixed")).to_contain_text("none yet")
    other = page.context.new_page()
    other.goto(server.job("mixed"))
    other.get_by_role("button", name="Execute mixed").click()
    expect(other.locator(".notice")).to_contain_text("was submitted")
    other.close()
    page.bring_to_front()
    expect(marks(page, "mixed")).to_have_attribute("data-state", "failed")


def test_the_switch_turns_and_stays_after_a_reload(page: Page, server: Server) -> None:
    page.goto(f"{server.url}ui/")
    switch = row(page, "mixed").get_by_role("switch")
    expect(switch).to_be_checked()
    switch.click()
    expect(page.locator(".notice")).to_contain_text("is off")
    expect(switch).not_to_be_checked()
    page.reload()
    expect(switch).not_to_be_checked()
    switch.press("Space")
    expect(switch).to_be_checked()
    page.reload()
    expect(switch).to_be_checked()


def test_the_number_of_executions_shown_is_kept_in_the_address(page: Page, server: Server) -> None:
    page.goto(f"{server.url}ui/")
    execute = row(page, "counted").get_by_role("button")
    for count in range(1, 13):
        execute.first.click()
        expect(marks(page, "counted")).to_have_count(count)
    page.get_by_label("Last").select_option("10")
    expect(marks(page, "counted")).to_have_count(10)
    page.reload()
    expect(page).to_have_url(re.compile(r"\?last=10$"))
    expect(marks(page, "counted")).to_have_count(10)


def test_a_word_finds_jobs_by_name_and_tag(page: Page, server: Server) -> None:
    page.goto(f"{server.url}ui/")
    search = page.get_by_role("searchbox")
    for word, found in [("GATE", ["gate"]), ("slow", ["gate"]), ("nowhere", []), ("", NAMES)]:
        search.fill(word)
        expect(page.locator("[data-job] .title")).to_have_text(found)


def test_the_page_says_that_the_server_is_gone_and_goes_on_when_it_is_back(
    page: Page, server: Server, watch: Watch
) -> None:
    page.goto(f"{server.url}ui/")
    row(page, "counted").get_by_role("button", name="Execute").click()
    expect(marks(page, "counted")).to_have_attribute("data-state", "successful")
    watch.server_may_be_away = True
    server.stop()
    expect(page.locator(".lost")).to_contain_text("does not answer")
    row(page, "counted").get_by_role("button", name="Execute").click()
    expect(page.locator(".notice")).to_contain_text("was not submitted")
    server.start()
    expect(page.locator(".lost")).to_be_empty()
    row(page, "counted").get_by_role("button", name="Execute").click()
    expect(marks(page, "counted")).to_have_count(2)
    expect(marks(page, "counted").first).to_have_attribute("data-state", "successful")


def test_it_works_below_any_path(page: Page, mounted: Server) -> None:
    page.goto(mounted.url)
    expect(page).to_have_url(f"{mounted.url}ui/")
    row(page, STRANGE).get_by_role("button", name="Execute").click()
    expect(marks(page, STRANGE)).to_have_attribute("data-state", "successful")
    row(page, STRANGE).locator(".title").click()
    expect(page).to_have_url(mounted.job(STRANGE))
    expect(page.locator(".node")).to_have_attribute("data-state", "successful")
    page.get_by_role("link", name="goflow").click()
    expect(page).to_have_url(f"{mounted.url}ui/")


def test_nothing_is_wider_than_a_phone(page: Page, server: Server) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    for address in (f"{server.url}ui/", server.job("mixed"), server.job(STRANGE)):
        page.goto(address)
        expect(page.locator("[data-job], .node").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") == 390
