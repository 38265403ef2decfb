"""The page about the server itself, in a real browser."""

import re

from playwright.sync_api import Page, expect

from tests.browser.conftest import Server, Watch


def test_each_metric_has_a_chart_with_the_value_under_the_pointer(
    page: Page, timed: Server
) -> None:
    page.goto(f"{timed.url}ui/system")
    charts = page.locator(".charts section")
    expect(charts).to_have_count(10)
    memory = page.get_by_role("region", name="Memory")
    expect(memory).to_contain_text(re.compile(r"\d MiB.*highest", re.DOTALL))
    memory.get_by_role("img").focus()
    page.keyboard.press("ArrowLeft")
    expect(memory.locator("time")).to_have_text(re.compile(r"\d\d:\d\d:\d\d"))


def test_right_after_the_start_it_says_that_there_are_no_samples(page: Page, timed: Server) -> None:
    answer: dict[str, object] = page.request.get(f"{timed.url}api/system").json()
    load = {name: [] if isinstance(held, list) else held for name, held in answer["load"].items()}  # type: ignore[attr-defined]
    page.route("**/api/system*", lambda route: route.fulfill(json={**answer, "load": load}))
    page.goto(f"{timed.url}ui/system")
    memory = page.get_by_role("region", name="Memory")
    expect(memory).to_contain_text("no samples yet")
    expect(memory.get_by_role("img")).to_have_attribute("aria-label", "Memory: no samples yet")


def test_slots_pools_and_versions_are_shown(page: Page, timed: Server) -> None:
    page.goto(f"{timed.url}ui/system")
    rooms = page.get_by_role("region", name="Slots and pools")
    expect(rooms).to_contain_text("pool db")
    expect(rooms).to_contain_text("0 of 1")
    facts = page.get_by_role("region", name="Facts")
    for name in ("goflow", "python", "sqlite", "tzdata"):
        expect(facts).to_contain_text(name)
    page.request.post(f"{timed.url}api/jobs/pooled/submit")
    expect(rooms).to_contain_text("1 of 1, 1 waiting")


def test_it_keeps_its_values_when_the_server_is_gone(
    page: Page, timed: Server, watch: Watch
) -> None:
    page.goto(f"{timed.url}ui/system")
    expect(page.locator(".charts section")).to_have_count(10)
    watch.server_may_be_away = True
    timed.stop()
    expect(page.locator(".lost")).to_contain_text("No connection to the server")
    expect(page.locator(".charts section")).to_have_count(10)
    timed.start()
    expect(page.locator(".lost")).to_be_empty()
    expect(page.locator(".failure")).to_have_count(0)


def test_the_licenses_of_bundled_packages_are_linked(page: Page, timed: Server) -> None:
    page.goto(f"{timed.url}ui/system")
    link = page.get_by_role("link", name="Licenses of the packages")
    # Fetched, not opened, since a browser would request an icon for the text.
    address = link.evaluate("link => link.href")
    assert address == f"{timed.url}ui/third-party.txt"
    assert "Permission is hereby granted" in page.request.get(address).text()
