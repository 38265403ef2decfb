"""The page of one job, in a real browser."""

import re

from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Server, Watch
from tests.browser.jobs import STRANGE


def run(page: Page, job: str) -> str:
    """Submit from outside the page, and return the execution's id."""
    server = page.url.partition("ui/")[0]
    answer = page.request.post(f"{server}api/jobs/{job}/submit")
    assert answer.ok
    return str(answer.json()["id"])


def cells(page: Page, task: str) -> Locator:
    return page.locator(f'[data-row="{task}"] .cell')


def tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


MIXED = {"works": "successful", "breaks": "failed", "never": "skipped", "always": "successful"}


def test_the_grid_has_a_live_cell_for_each_task_and_execution(page: Page, server: Server) -> None:
    page.goto(server.job("mixed"))
    expect(page.locator(".grid .state-bar")).to_have_count(0)
    for count in (1, 2):
        run(page, "mixed")
        for task, state in MIXED.items():
            expect(cells(page, task)).to_have_count(count)
            expect(cells(page, task).last).to_have_attribute("data-state", state)
    expect(page.locator(".grid .state-bar")).to_have_count(2)
    expect(cells(page, "breaks").last).to_have_text("2")
    cells(page, "breaks").last.hover()
    expect(page.locator(".details")).to_contain_text(re.compile("breaks, .*: failed, .*2 attempts"))
    cells(page, "breaks").last.click()
    expect(page).to_have_url(re.compile(r"/ui/executions/[0-9a-f-]{36}\?task=breaks$"))


def test_the_cell_of_a_running_task_updates_live(page: Page, server: Server) -> None:
    page.goto(server.job("gate"))
    page.get_by_role("button", name="Run gate").click()
    expect(page).to_have_url(re.compile("/ui/executions/"))
    page.go_back()
    expect(cells(page, "before")).to_have_attribute("data-state", "successful")
    expect(cells(page, "wait")).to_have_attribute("data-state", "running")
    expect(cells(page, "after")).to_have_attribute("data-state", "notstarted")
    server.open_gate()
    expect(cells(page, "after")).to_have_attribute("data-state", "successful")


def test_arrow_keys_reach_every_cell_from_one_tab_stop(page: Page, server: Server) -> None:
    page.goto(server.job("mixed"))
    ids = [run(page, "mixed") for _ in range(2)]
    expect(cells(page, "always")).to_have_count(2)
    expect(page.locator(".grid a[tabindex='0']")).to_have_count(1)
    expect(page.locator(".grid .state-bar").last).to_have_attribute("tabindex", "0")
    page.get_by_label("Last").focus()
    page.keyboard.press("Tab")
    expect(page.locator(".grid .state-bar").last).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(cells(page, "breaks").last).to_be_focused()
    page.keyboard.press("Home")
    expect(cells(page, "breaks").first).to_be_focused()
    expect(page.locator(".details")).to_contain_text("breaks")
    expect(page.locator(".grid a[tabindex='0']")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"/ui/executions/{ids[0]}.task=breaks$"))


def test_views_are_selected_by_tabs_and_keys_and_kept_in_the_address(
    page: Page, server: Server
) -> None:
    page.goto(server.job("mixed"))
    run(page, "mixed")
    expect(cells(page, "always")).to_have_attribute("data-state", "successful")
    tab(page, "Graph")
    expect(page).to_have_url(f"{server.job('mixed')}?view=graph")
    expect(page.locator(".node")).to_have_count(4)
    expect(page.locator('.node[data-task="never"]')).to_have_attribute("data-state", "skipped")
    page.get_by_role("tab", name="Graph").press("ArrowRight")
    expect(page.get_by_role("tab", name="Durations")).to_be_focused()
    expect(page.locator(".chart").first.locator(".duration-bar.failed")).to_have_count(1)
    expect(page.locator(".slowest")).to_contain_text("works")
    page.reload()
    expect(page.locator(".chart").first.locator(".duration-bar.failed")).to_have_count(1)
    page.locator("h1").click()
    for key, heard in (("4", "Calendar"), ("6", "Definition"), ("1", "Executions")):
        page.keyboard.press(key)
        expect(page.get_by_role("tab", name=heard)).to_have_attribute("aria-selected", "true")
    page.go_back()
    expect(page.get_by_role("tab", name="Definition")).to_have_attribute("aria-selected", "true")


def test_the_calendar_counts_todays_executions_and_supports_arrow_keys(
    page: Page, server: Server
) -> None:
    page.goto(f"{server.job('mixed')}?view=calendar")
    run(page, "mixed")
    today = page.locator("[data-day][tabindex='0']")
    expect(today).to_have_attribute("aria-label", re.compile("1 failed"))
    expect(page.locator(".day")).to_contain_text("1 failed")
    day = today.get_attribute("data-day")
    today.focus()
    page.keyboard.press("ArrowLeft")
    expect(today).not_to_have_attribute("data-day", str(day))
    expect(page.locator(".day")).to_contain_text("no activity")
    expect(page).to_have_url(re.compile(r"day=\d{4}-\d\d-\d\d"))
    page.reload()
    expect(page.locator(".day")).to_contain_text("no activity")


def ticks(page: Page, outcome: str) -> Locator:
    return page.locator(f'.tick[data-outcome="{outcome}"]')


def test_a_skipped_due_time_appears_with_its_reason(page: Page, timed: Server) -> None:
    page.goto(f"{timed.job('often')}?view=due")
    expect(ticks(page, "skipped").first).to_contain_text("has not ended")
    expect(page.locator(".upcoming li")).to_have_count(10)
    expect(ticks(page, "fired")).to_have_count(1)
    timed.open_gate()
    expect(ticks(page, "fired").nth(1)).to_be_visible()
    ticks(page, "fired").last.get_by_role("link", name="Show execution").click()
    expect(page).to_have_url(re.compile("/ui/executions/"))


def test_a_due_time_merged_by_a_clock_change_is_marked(page: Page, timed: Server) -> None:
    night = {"from": "2025-03-30T00:00:00Z", "to": "2025-03-30T12:00:00Z"}
    assert page.request.post(f"{timed.url}api/jobs/nightly/backfill", data=night).ok
    page.goto(f"{timed.job('nightly')}?view=due")
    sentence = "clock change: 02:30 does not exist; it is due at 03:00"
    expect(ticks(page, "merged")).to_contain_text(sentence)
    expect(ticks(page, "fired")).to_contain_text(sentence)
    expect(page.locator("section[aria-label='Next due times']")).to_contain_text("schedule is off")


def test_a_job_without_a_schedule_has_no_due_times(page: Page, server: Server) -> None:
    page.goto(f"{server.job('gate')}?view=due")
    expect(page.get_by_role("tabpanel")).to_contain_text("no schedule")
    expect(page.get_by_role("button", name="Backfill")).to_have_count(0)


def test_a_backfill_first_shows_which_due_times_have_not_run(
    page: Page, timed: Server, watch: Watch
) -> None:
    watch.server_may_refuse = True
    page.goto(timed.job("nightly"))
    expect(page.get_by_role("tab", name="Graph")).to_be_visible()
    page.keyboard.press("b")
    form = page.get_by_role("dialog")
    form.get_by_label("From").fill("2026-01-01T00:00")
    form.get_by_label("To").fill("2026-01-04T00:00")
    form.get_by_role("button", name="Preview").click()
    expect(form.get_by_role("status")).to_contain_text("3 due times, 0 of which have already run")
    expect(page.locator(".grid .state-bar")).to_have_count(0)
    form.get_by_role("button", name="Run 3").click()
    expect(form).not_to_be_visible()
    expect(page.locator(".notice")).to_contain_text("3 executions were submitted, 1 at a time")
    expect(page.locator(".grid .state-bar[data-state=successful]")).to_have_count(3)
    page.get_by_role("button", name="Backfill").click()
    form.get_by_label("From").fill("2026-01-04T00:00")
    form.get_by_label("To").fill("2026-01-01T00:00")
    form.get_by_role("button", name="Preview").click()
    expect(form.get_by_role("alert")).to_contain_text("Nothing was submitted")


def test_the_definition_shows_policies_parameters_and_tasks(page: Page, timed: Server) -> None:
    page.goto(f"{timed.job('typed')}?view=definition")
    facts = page.get_by_role("region", name="Definition")
    expect(facts).to_contain_text("a whole number, 1 to 1000")
    expect(facts).to_contain_text("the day it is of")
    expect(facts.get_by_role("group", name="Source")).to_contain_text('Job("typed", params=Export)')
    expect(facts.get_by_role("group", name="Templates")).to_contain_text("args[0]")
    expect(facts.get_by_role("group", name="Templates")).to_contain_text("day {{ params.day }}")
    page.goto(f"{timed.job('nightly')}?view=definition")
    expect(facts).to_contain_text("At 02:30")
    expect(facts.get_by_role("group", name="Templates")).to_have_count(0)
    expect(facts).to_contain_text("Europe/Berlin")
    expect(facts).to_contain_text("all successful")


def test_a_form_follows_the_schema_of_the_parameters(
    page: Page, timed: Server, watch: Watch
) -> None:
    watch.server_may_refuse = True
    page.goto(timed.job("typed"))
    expect(page.get_by_role("tab", name="Graph")).to_be_visible()
    page.keyboard.press("r")
    form = page.get_by_role("dialog")
    form.get_by_role("button", name="Run").click()
    expect(form.get_by_role("alert")).to_contain_text("parameter day is required")
    form.get_by_label("day").fill("2026-11-21")
    form.get_by_label("kind").select_option(label="long")
    form.get_by_label("rows").fill("5000")
    form.get_by_label("dry").check()
    form.get_by_role("group").get_by_label("start").fill("2026-11-01")
    form.get_by_role("button", name="Run").click()
    expect(form.get_by_role("alert")).to_contain_text("rows")
    form.get_by_label("rows").fill("5")
    with page.expect_request(re.compile("/submit$")) as sent:
        form.get_by_role("button", name="Run").click()
    assert sent.value.post_data_json == {
        "params": {
            "day": "2026-11-21",
            "kind": "long",
            "rows": 5,
            "dry": True,
            "window": {"start": "2026-11-01"},
        }
    }
    expect(page).to_have_url(re.compile("/ui/executions/"))


def test_a_job_without_declared_parameters_accepts_json(page: Page, server: Server) -> None:
    page.goto(server.job("mixed"))
    page.get_by_role("button", name="Run with").click()
    form = page.get_by_role("dialog")
    form.get_by_label("parameters").fill("[1]")
    form.get_by_role("button", name="Run").click()
    expect(form.get_by_role("alert")).to_contain_text("must be a JSON object")
    form.get_by_label("parameters").fill('{"country": "fr"}')
    form.get_by_role("button", name="Run").click()
    expect(page).to_have_url(re.compile("/ui/executions/"))
    id = page.url.rpartition("/")[2]
    execution = page.request.get(f"{server.url}api/executions/{id}").json()
    assert execution["params"] == {"country": "fr"}


def test_a_job_with_any_name_has_an_address_and_its_name_stays_text(
    page: Page, server: Server
) -> None:
    page.goto(server.job(STRANGE))
    expect(page.locator("h1")).to_have_text(STRANGE)
    expect(page).to_have_title(f"{STRANGE} · goflow")
    page.get_by_role("button", name="Run a/b").click()
    expect(page).to_have_url(re.compile("/ui/executions/"))
    page.go_back()
    expect(page.locator("[data-row] .cell")).to_have_attribute("data-state", "successful")
    for view in ("Graph", "Durations", "Calendar", "Definition"):
        tab(page, view)
        expect(page.get_by_role("tabpanel")).to_be_visible()
    expect(page.locator('img:not([src="./favicon.svg"])')).to_have_count(0)
    expect(page).to_have_title(f"{STRANGE} · goflow")


def test_the_address_of_an_unknown_job_says_so(page: Page, server: Server) -> None:
    page.goto(f"{server.url}ui/nowhere")
    expect(page.locator("main")).to_contain_text("no such page")
    page.get_by_role("link", name="All jobs").click()
    expect(page.locator("[data-job]")).to_have_count(4)
