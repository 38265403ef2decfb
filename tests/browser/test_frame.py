"""Features of every page: keys, settings, the connection, prefixes, accessibility."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.axe import violations
from tests.browser.conftest import Server, Watch
from tests.browser.jobs import STRANGE
from tests.browser.test_jobs_page import bars, row, run


def test_the_page_reports_a_lost_server_and_recovers(
    page: Page, server: Server, watch: Watch
) -> None:
    page.goto(f"{server.url}ui/")
    run(page, STRANGE)
    expect(bars(page, STRANGE)).to_have_attribute("data-state", "successful")
    watch.server_may_be_away = True
    server.stop()
    expect(page.locator(".lost")).to_contain_text("No connection to the server")
    run(page, STRANGE)
    expect(page.locator(".notice")).to_contain_text("was not submitted")
    expect(bars(page, STRANGE)).to_have_count(1)
    server.start()
    expect(page.locator(".lost")).to_be_empty()
    run(page, STRANGE)
    expect(bars(page, STRANGE)).to_have_count(2)
    expect(bars(page, STRANGE).last).to_have_attribute("data-state", "successful")


def test_changes_during_a_lost_connection_appear_once(
    page: Page, server: Server, watch: Watch
) -> None:
    page.goto(f"{server.url}ui/")
    run(page, STRANGE)
    expect(bars(page, STRANGE)).to_have_count(1)
    watch.server_may_be_away = True
    page.context.set_offline(True)
    server.submit(STRANGE)
    server.submit("mixed")
    page.context.set_offline(False)
    expect(bars(page, STRANGE)).to_have_count(2)
    expect(bars(page, "mixed")).to_have_count(1)


def test_two_tabs_show_the_same(page: Page, server: Server) -> None:
    page.goto(f"{server.url}ui/")
    other = page.context.new_page()
    other.goto(f"{server.url}ui/")
    row(other, "mixed").get_by_role("switch").click()
    run(other, "mixed")
    expect(bars(other, "mixed")).to_have_attribute("data-state", "failed")
    page.bring_to_front()
    expect(bars(page, "mixed")).to_have_attribute("data-state", "failed")


def test_pages_open_without_a_reload_and_the_back_button_works(page: Page, server: Server) -> None:
    page.goto(f"{server.url}ui/")
    page.evaluate("document.body.dataset.kept = 'yes'")
    row(page, "mixed").locator(".title").click()
    expect(page).to_have_url(server.job("mixed"))
    page.keyboard.press("g")
    page.keyboard.press("n")
    expect(page.get_by_role("heading", name="Now")).to_be_visible()
    page.get_by_role("link", name="System").click()
    expect(page.get_by_role("heading", name="System")).to_be_visible()
    page.go_back()
    page.go_back()
    expect(page).to_have_url(server.job("mixed"))
    expect(page.get_by_role("heading", name="mixed")).to_be_visible()
    page.go_back()
    expect(row(page, "mixed")).to_be_visible()
    expect(page.locator("body[data-kept]")).to_have_count(1)


def test_an_opened_page_gets_the_focus_and_its_title_is_announced(
    page: Page, server: Server
) -> None:
    page.goto(server.job("mixed"))
    expect(page.get_by_role("heading", name="mixed")).to_be_visible()
    page.get_by_role("link", name="System").press("Enter")
    expect(page.locator("main")).to_be_focused()
    expect(page).to_have_title("System · goflow")
    expect(page.locator("[data-title]")).to_have_text("System · goflow")
    page.go_back()
    expect(page.locator("[data-title]")).to_have_text("mixed · goflow")
    expect(page.locator("main")).to_be_focused()


def test_the_skip_link_leads_to_the_content(page: Page, server: Server) -> None:
    page.goto(server.job("mixed"))
    expect(page.get_by_role("heading", name="mixed")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    expect(page).to_have_url(server.job("mixed"))


def test_the_keys_of_the_page_are_listed(page: Page, server: Server) -> None:
    page.goto(f"{server.url}ui/")
    expect(row(page, "mixed")).to_be_visible()
    page.keyboard.press("?")
    keys = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(keys).to_contain_text("Next job")
    expect(keys).to_contain_text("Everywhere")
    page.keyboard.press("Escape")
    expect(keys).not_to_be_visible()


def test_times_are_shown_in_the_selected_zone(page: Page, server: Server) -> None:
    page.goto(f"{server.url}ui/")
    next_fire = row(page, "mixed").locator("time")
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Times").select_option("utc")
    expect(next_fire).to_have_attribute("title", re.compile("00:00:00|12:00:00"))
    page.reload()
    page.get_by_role("button", name="Settings").click()
    expect(page.get_by_label("Times")).to_have_value("utc")


def test_the_theme_can_be_selected_and_is_kept(page: Page, server: Server) -> None:
    page.goto(f"{server.url}ui/")
    colour = "getComputedStyle(document.documentElement).backgroundColor"
    shown = set()
    for theme in ("light", "dark"):
        page.get_by_role("button", name="Settings").click()
        page.get_by_label("Colours").select_option(theme)
        page.reload()
        shown.add(page.evaluate(colour))
    assert len(shown) == 2


def test_it_works_under_any_prefix(page: Page, mounted: Server) -> None:
    page.goto(mounted.url)
    expect(page).to_have_url(f"{mounted.url}ui/")
    run(page, STRANGE)
    expect(bars(page, STRANGE)).to_have_attribute("data-state", "successful")
    row(page, STRANGE).locator(".title").click()
    expect(page).to_have_url(mounted.job(STRANGE))
    expect(page.locator("[data-row] .cell")).to_have_attribute("data-state", "successful")
    page.reload()
    page.locator("[data-row] .cell").click()
    expect(page).to_have_url(re.compile(re.escape(mounted.url) + "ui/executions/"))
    page.get_by_role("link", name="goflow").click()
    expect(page).to_have_url(f"{mounted.url}ui/")


def test_an_unknown_address_says_so(page: Page, server: Server) -> None:
    page.goto(f"{server.url}ui/elsewhere")
    expect(page.locator("main")).to_contain_text("There is no such page")


VIEWS = ["ui/", "ui/jobs/mixed", "ui/executions/ID", "ui/now", "ui/system"] + [
    f"ui/jobs/mixed?view={view}" for view in ("graph", "durations", "calendar", "due", "definition")
]


def test_nothing_is_wider_than_a_phone(page: Page, server: Server) -> None:
    id = server.submit("mixed")
    server.submit(STRANGE)
    page.set_viewport_size({"width": 390, "height": 800})
    widths = {}
    for view in VIEWS:
        page.goto(server.url + view.replace("ID", id))
        expect(page.locator("h1")).to_be_visible()
        expect(page.locator(".pulse[data-hears=live]")).to_be_visible()
        widths[view] = page.evaluate("document.documentElement.scrollWidth")
    assert widths == dict.fromkeys(VIEWS, 390)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_view_is_accessible(page: Page, server: Server, theme: str) -> None:
    """According to axe-core."""
    id = server.submit("mixed")
    server.submit(STRANGE)
    page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
    found = {}
    for view in VIEWS:
        page.goto(server.url + view.replace("ID", id))
        expect(page.locator("h1")).to_be_visible()
        expect(page.locator(".pulse[data-hears=live]")).to_be_visible()
        if wrong := violations(page):
            found[view] = wrong
    assert found == {}
