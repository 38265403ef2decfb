"""Branches, maps, waits, jobs that run jobs, hooks, artifacts and states, in a real browser."""

import re

from playwright.sync_api import Page, expect

from tests.browser.axe import violations
from tests.browser.conftest import Server, Watch
from tests.browser.test_execution_page import detail, ended, line, node, press, row, show


def is_accessible_in_both_themes(page: Page) -> None:
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        assert violations(page) == [], theme


def fits_a_telephone(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_chosen_and_unchosen_branches_are_drawn(page: Page, flow: Server) -> None:
    show(page, flow, "report")
    ended(page, "successful")
    edges = page.locator(".edges:not(.lit) path")
    expect(edges).to_have_count(6)
    expect(page.locator(".edges:not(.lit) path.rejected")).to_have_count(1)
    row(page, "choose").click()
    expect(detail(page, "choose")).to_contain_text("Chose short.")
    row(page, "full").click()
    expect(page.locator(".edges.lit path.rejected")).to_have_count(1)
    is_accessible_in_both_themes(page)
    fits_a_telephone(page)


def test_a_skipped_task_says_why(page: Page, flow: Server) -> None:
    show(page, flow, "report")
    ended(page, "successful")
    for task, why in {
        "full": "branch 'choose' chose 'short'",
        "pages": "task 'full' was skipped",
        "mail": "the condition is false: params.mail",
        "archive": "the archive is up to date",
    }.items():
        row(page, task).click()
        expect(detail(page, task)).to_contain_text(f"Skipped: {why}.")
        expect(page.locator(".details")).to_contain_text(why)
        expect(detail(page, task)).not_to_contain_text("No attempts")


def test_an_attempt_shows_what_was_rendered(page: Page, flow: Server) -> None:
    show(page, flow, "report", "?task=short", rows=7)
    ended(page, "successful")
    expect(line(page, 1)).to_contain_text(re.compile(r"rendered args\[0\]: 7 rows on 2\d\d\d"))
    page.goto(flow.job("report"))
    page.get_by_role("tab", name="Definition").click()
    templates = page.get_by_role("group", name="Templates")
    expect(templates).to_contain_text("{{ params.rows }} rows on {{ submitted_at.year }}")
    expect(templates).to_contain_text("params.mail")
    expect(page.get_by_role("group", name="Tasks")).to_contain_text("branch")


def test_the_items_of_a_map_are_one_cell_that_opens_into_a_list(page: Page, flow: Server) -> None:
    show(page, flow, "cities")
    ended(page, "failed")
    expect(page.locator(".node")).to_have_count(3)
    node(page, "measure").click()
    items = detail(page, "measure").get_by_role("listbox", name="Items")
    expect(items.locator('[data-item="7"]')).to_contain_text("Lima 7")
    assert items.locator(".item-row").count() < 60
    page.get_by_label("Show only items with this text in their key").fill("Turin")
    expect(items.locator(".item-row").first).to_contain_text("Turin 4")
    expect(items.locator('[aria-setsize="40"]').first).to_be_visible()
    expect(items).not_to_contain_text("Lima")
    expect(page).to_have_url(re.compile("[?&]key=Turin"))
    items.locator('[data-item="9"]').click()
    one = page.locator('[data-item-detail="9"]')
    expect(one).to_contain_text("Skipped: too small.")
    is_accessible_in_both_themes(page)
    fits_a_telephone(page)


def test_the_items_of_a_generator_are_worked_on_and_shown_while_it_yields(
    page: Page, flow: Server
) -> None:
    show(page, flow, "numbers", "?task=count")
    expect(detail(page, "count")).to_contain_text("2 items yielded")
    node(page, "double").click()
    expect(detail(page, "double")).to_contain_text("2 of 2 items")
    expect(node(page, "double")).to_have_attribute("data-state", "running")
    items = detail(page, "double").get_by_role("listbox", name="Items")
    expect(items.locator(".item-row")).to_have_count(2)
    flow.open_gate()
    ended(page, "successful")
    expect(detail(page, "double")).to_contain_text("3 of 3 items")
    items.locator('[data-item="2"]').click()
    expect(page.locator('[data-item-detail="2"]')).to_contain_text("doubling 3")
    node(page, "count").click()
    expect(detail(page, "count")).to_contain_text("3 items yielded")
    is_accessible_in_both_themes(page)


def test_an_item_has_its_own_artifacts_to_download(page: Page, flow: Server) -> None:
    show(page, flow, "cities", "?task=measure&item=3")
    ended(page, "failed")
    one = page.locator('[data-item-detail="3"]')
    with page.expect_download() as download:
        one.get_by_role("link", name="map.txt").click()
    assert download.value.path().read_text() == "map of Cairo 3\n"


def test_the_definition_says_for_each_of_which_items_a_task_runs(page: Page, flow: Server) -> None:
    page.goto(flow.job("cities"))
    page.get_by_role("tab", name="Definition").click()
    expect(page.get_by_role("group", name="Tasks")).to_contain_text("for each item of list_cities")
    assert violations(page) == []


def test_a_wait_shows_its_reason_and_counts_down_to_its_next_look(page: Page, flow: Server) -> None:
    id = flow.submit("sensor")
    page.goto(f"{flow.url}ui/now")
    one = page.locator(f'[data-unfinished="{id}"]')
    expect(one).to_contain_text(
        re.compile(r"near waiting: there is no 'open'; looks again (now|in \d)")
    )
    expect(one).to_contain_text(re.compile("looks again in (1 h|59 min)"))
    expect(page.locator(".now-figures")).to_contain_text("2 tasks waiting")
    is_accessible_in_both_themes(page)
    page.goto(f"{flow.url}ui/executions/{id}?task=far")
    part = detail(page, "far")
    expect(part).to_contain_text(
        re.compile("Waiting: there is no 'open'; looks again in (1 h|59 min)")
    )
    is_accessible_in_both_themes(page)
    press(page, "Mark skipped")
    page.get_by_role("dialog").get_by_role("button", name="Mark skipped").click()
    expect(node(page, "far")).to_have_attribute("data-state", "skipped")
    expect(part.get_by_text("looks again")).to_have_count(0)
    flow.open_gate()
    ended(page, "successful")


def test_parent_and_child_link_to_each_other(page: Page, flow: Server) -> None:
    parent = show(page, flow, "nightly", "?task=load")
    expect(detail(page, "load")).to_contain_text("of job 'load' has not ended")
    is_accessible_in_both_themes(page)
    fits_a_telephone(page)
    detail(page, "load").locator(".waits a").click()
    expect(page.locator("h1")).to_have_text("load")
    expect(page.locator(".top")).to_contain_text("Started by task load of")
    assert violations(page) == []
    flow.open_gate()
    ended(page, "successful")
    page.locator(".top p.waits a").click()
    expect(page).to_have_url(re.compile(parent))
    ended(page, "successful")
    expect(page.locator(".top p.waits")).to_contain_text("Started load")


def test_a_job_after_another_is_on_the_now_page(page: Page, flow: Server) -> None:
    id = flow.submit("nightly")
    page.goto(f"{flow.url}ui/now")
    one = page.locator(f'[data-unfinished="{id}"]')
    expect(one).to_contain_text("then publish")
    expect(one).to_contain_text("of job 'load' has not ended")
    one.get_by_role("link", name="publish").click()
    expect(page.locator("h1")).to_have_text("publish")
    expect(page.locator("main")).to_contain_text("after nightly")
    page.go_back()
    flow.open_gate()
    lane = page.locator('[data-lane="publish"] .piece')
    expect(lane).to_have_attribute("data-state", "successful")
    lane.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".facts")).to_contain_text("by the success of another job")


def test_the_shared_state_is_shown_as_it_changed(page: Page, flow: Server) -> None:
    show(page, flow, "imports")
    ended(page, "failed")
    part = page.get_by_role("region", name="Shared state")
    expect(part).to_contain_text("3 actions")
    expect(part.locator("pre")).to_contain_text('"count": 3')
    rows = part.locator("tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.nth(0)).to_contain_text('{"type":"loaded","file":"c.csv"}')
    expect(rows.nth(0)).to_contain_text('"files":["a.csv","b.csv","c.csv"]')
    expect(rows.nth(2)).to_contain_text('{"count":1,"files":["a.csv"]}')
    is_accessible_in_both_themes(page)
    fits_a_telephone(page)


def test_artifacts_are_listed_with_their_size_and_downloaded(page: Page, flow: Server) -> None:
    show(page, flow, "imports", "?task=load_files")
    ended(page, "failed")
    files = page.get_by_role("group", name="Artifacts")
    expect(files.locator("li")).to_have_text(
        ["long name of a file, with blanks & <signs>.txt 2.9 KiB", "report.csv 21 B"]
    )
    with page.expect_download() as download:
        files.get_by_role("link", name="report.csv").click()
    assert download.value.suggested_filename == "report.csv"
    assert download.value.path().read_text() == "city,people\nRome,2.8\n"
    with page.expect_download() as download:
        files.get_by_role("link", name="signs").click()
    assert len(download.value.path().read_text()) == 3000
    is_accessible_in_both_themes(page)


def test_hooks_are_below_the_graph_with_their_attempts_and_logs(
    page: Page, flow: Server, watch: Watch
) -> None:
    show(page, flow, "imports")
    ended(page, "failed")
    hooks = page.get_by_role("region", name="Hooks")
    expect(hooks).to_contain_text("tell on failure successful")
    expect(hooks).to_contain_text("clean_up on finish failed")
    expect(page.locator(".node")).to_have_count(2)
    hooks.get_by_role("button", name=re.compile("^tell")).click()
    hook = page.get_by_role("region", name="Hook tell")
    expect(hook.locator(".log")).to_contain_text("telling check")
    expect(hook.locator(".result-part pre")).to_contain_text("the numbers do not add up")
    hooks.get_by_role("button", name=re.compile("^clean_up")).click()
    hook = page.get_by_role("region", name="Hook clean_up")
    expect(hook.locator(".attempt")).to_have_count(2)
    expect(hook.locator("pre.error")).to_contain_text("there is nothing to clean up")
    hook.get_by_role("button", name="Retry hook").click()
    expect(page.get_by_role("list", name="Done by hand")).to_contain_text("clean_up retried")
    expect(hook.locator(".attempt")).to_have_count(4)
    is_accessible_in_both_themes(page)
    fits_a_telephone(page)
