"""Progress and costs in the dashboard, in a real browser."""

import re

from playwright.sync_api import Page, expect

from tests.browser.axe import violations
from tests.browser.conftest import Server


def test_the_bar_of_a_task_moves_and_its_costs_are_charted(page: Page, reports: Server) -> None:
    id = reports.submit("load")
    page.goto(f"{reports.url}ui/executions/{id}?task=pages")
    bar = page.get_by_role("progressbar", name="Progress of task pages")
    expect(bar).to_have_attribute("aria-valuenow", "25")
    expect(page.locator(".task-part")).to_contain_text("25 of 100, 25 %page 25 of the catalogue")
    expect(page.locator('.gantt-row[data-row="pages"]')).to_contain_text("25 %")
    assert violations(page) == []
    (reports.folder / "fail").touch()
    reports.open_gate()
    expect(bar).to_have_attribute("aria-valuenow", "75")
    (reports.folder / "through").touch()
    expect(bar).to_have_count(0)
    page.locator('.node[data-task="each"]').click()
    item = page.get_by_role("progressbar", name="Progress of item 1")
    expect(item.first).to_have_attribute("aria-valuenow", "25")
    page.locator('[data-item="1"]').click()
    (reports.folder / "enough").touch()
    expect(page.locator(".top .state").first).to_have_attribute("data-state", "successful")
    costs = page.get_by_role("group", name="Cost of all items")
    expect(costs).to_contain_text("items3")
    page.locator('.node[data-task="pages"]').click()
    expect(page.get_by_role("group", name="Cost of attempt 2")).to_contain_text("rows1,200")
    expect(page.get_by_role("group", name="Cost of all attempts")).to_contain_text("rows1,200")
    page.locator('.node[data-task="program"]').click()
    spent = page.get_by_role("group", name="Cost of attempt 1")
    expect(spent).to_contain_text(re.compile(r"Processor time\d+ .*Log2\.0 KiB"))
    assert violations(page) == []
    page.goto(f"{reports.job('load')}?view=durations")
    for name in ("Processor time", "Log", "rows", "items"):
        chart = page.get_by_role("group", name=f"{name} of 1 executions")
        expect(chart.get_by_role("link")).to_have_count(1)
    rows = page.get_by_role("group", name="rows of 1 executions").get_by_role("link")
    expect(rows).to_have_attribute("aria-label", re.compile("successful, rows 1,200$"))
    assert violations(page) == []
    page.goto(f"{reports.job('load')}?view=calendar")
    expect(page.locator(".day")).to_contain_text("rows 1,200")
