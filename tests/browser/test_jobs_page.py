"""The list of jobs, in a real browser."""

import re

from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Server, Watch
from tests.browser.jobs import STRANGE

NAMES = ["gate", "mixed", STRANGE, "counted"]


def row(page: Page, job: str) -> Locator:
    return page.locator("[data-job]").filter(has=page.get_by_role("button", name=f"Run {job}"))


def bars(page: Page, job: str) -> Locator:
    return row(page, job).locator(".state-bar")


def run(page: Page, job: str) -> None:
    row(page, job).get_by_role("button", name=f"Run {job}").click()


def test_every_job_has_a_row_with_its_schedule_in_words(page: Page, server: Server) -> None:
    page.goto(server.url)
    expect(page).to_have_url(f"{server.url}ui/")
    expect(page.locator("[data-job] .title")).to_have_text(NAMES)
    expect(row(page, "mixed").locator("code")).to_have_text("0 0 1 1 *")
    expect(row(page, "mixed").locator(".when")).to_contain_text(
        "At 00:00, on day 1 of the month, in January"
    )
    expect(row(page, "gate")).to_contain_text("manual only")
    countdown = row(page, "mixed").locator("time")
    expect(countdown).to_have_attribute("datetime", re.compile(r"-01-01T00:00:00Z$"))
    expect(countdown).to_have_text(re.compile(r"^in \d+ "))


def test_run_runs_the_job_and_its_bar_updates_live(page: Page, server: Server) -> None:
    page.goto(f"{server.url}ui/")
    expect(bars(page, "gate")).to_have_count(0)
    run(page, "gate")
    expect(page.locator(".notice")).to_contain_text("gate")
    expect(page.locator(".notice")).to_contain_text("was submitted")
    expect(bars(page, "gate")).to_have_attribute("data-state", "running")
    server.open_gate()
    expect(bars(page, "gate")).to_have_attribute("data-state", "successful")
    expect(row(page, "gate").locator(".record")).to_contain_text("100 %")
    bars(page, "gate").click()
    expect(page).to_have_url(re.compile("/ui/executions/[0-9a-f-]{36}"))


def test_changes_made_on_another_page_are_shown(page: Page, server: Server) -> None:
    page.goto(f"{server.url}ui/")
    expect(row(page, "mixed")).to_contain_text("none yet")
    other = page.context.new_page()
    other.goto(server.job("mixed"))
    other.get_by_role("button", name="Run mixed").click()
    expect(other.locator(".notice")).to_contain_text("was submitted")
    other.close()
    page.bring_to_front()
    expect(bars(page, "mixed")).to_have_attribute("data-state", "failed")
    expect(row(page, "mixed").locator(".record")).to_contain_text("0 %")


def test_the_switch_changes_the_schedule_and_can_be_undone(page: Page, server: Server) -> None:
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
    page.get_by_role("button", name="Undo").click()
    expect(switch).not_to_be_checked()
    page.reload()
    expect(switch).not_to_be_checked()


def test_a_job_with_parameters_asks_for_them(page: Page, server: Server) -> None:
    page.goto(f"{server.url}ui/")
    run(page, "counted")
    form = page.get_by_role("dialog")
    form.get_by_label("limit").fill("ten")
    form.get_by_role("button", name="Run").click()
    expect(form.get_by_role("alert")).to_contain_text("parameter limit must be a number, not ten")
    form.get_by_label("limit").fill("41")
    form.get_by_role("button", name="Run").click()
    expect(form).not_to_be_visible()
    expect(bars(page, "counted")).to_have_attribute("data-state", "successful")
    found = page.request.get(f"{server.url}api/executions?jobname=counted").json()["executions"]
    assert [execution["params"] for execution in found] == [{"limit": 41, "country": "de"}]


def test_the_number_of_executions_shown_is_kept_in_the_address(page: Page, server: Server) -> None:
    page.goto(f"{server.url}ui/")
    for count in range(1, 13):
        run(page, STRANGE)
        expect(bars(page, STRANGE)).to_have_count(count)
    page.get_by_label("Last").select_option("10")
    expect(bars(page, STRANGE)).to_have_count(10)
    page.reload()
    expect(page).to_have_url(re.compile(r"\?last=10$"))
    expect(bars(page, STRANGE)).to_have_count(10)


def test_a_search_finds_jobs_and_is_kept_in_the_address(page: Page, server: Server) -> None:
    page.goto(f"{server.url}ui/")
    expect(page.locator("[data-job]")).to_have_count(4)
    page.keyboard.press("/")
    search = page.get_by_role("searchbox")
    expect(search).to_be_focused()
    for word, found in [("GATE", ["gate"]), ("slow", ["gate"]), ("", NAMES), ("mix", ["mixed"])]:
        search.fill(word)
        expect(page.locator("[data-job] .title")).to_have_text(found)
    page.reload()
    expect(search).to_have_value("mix")
    expect(page.locator("[data-job] .title")).to_have_text(["mixed"])
    search.fill("nowhere")
    page.get_by_role("button", name="Show all").click()
    expect(page.locator("[data-job] .title")).to_have_text(NAMES)


def test_jobs_can_be_filtered_by_state_schedule_and_tag_and_sorted(
    page: Page, server: Server
) -> None:
    page.goto(f"{server.url}ui/")
    run(page, "mixed")
    titles = page.locator("[data-job] .title")
    only = page.get_by_role("group", name="Filter by state")
    only.get_by_role("button", name="failed 1").click()
    expect(titles).to_have_text(["mixed"])
    only.get_by_role("button", name="failed 1").click()
    only.get_by_role("button", name="off 3").click()
    expect(titles).to_have_text(["gate", STRANGE, "counted"])
    page.get_by_label("Tag").select_option("slow")
    expect(titles).to_have_text(["gate"])
    expect(page).to_have_url(re.compile(r"only=off&tag=slow"))
    page.get_by_label("Tag").select_option("")
    only.get_by_role("button", name="All").click()
    page.get_by_label("Order").select_option("newest")
    expect(titles.first).to_have_text("mixed")
    page.get_by_label("Order").select_option("name")
    expect(titles).to_have_text(sorted(NAMES))


def test_keys_select_run_and_toggle_jobs(page: Page, server: Server) -> None:
    page.goto(f"{server.url}ui/")
    expect(page.locator("[data-job]")).to_have_count(4)
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(row(page, "mixed").locator(".title")).to_be_focused()
    page.keyboard.press("s")
    expect(row(page, "mixed").get_by_role("switch")).not_to_be_checked()
    page.keyboard.press("k")
    expect(row(page, "gate").locator(".title")).to_be_focused()
    page.keyboard.press("r")
    expect(bars(page, "gate")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page).to_have_url(server.job("gate"))


def test_only_visible_jobs_of_a_thousand_are_drawn(page: Page, thousand: Server) -> None:
    page.goto(f"{thousand.url}ui/")
    expect(page.get_by_role("button", name="All 1000")).to_be_visible()
    expect(page.locator("[data-job='job 0']")).to_be_visible()
    assert page.locator("[data-job]").count() < 60
    page.keyboard.press("End")
    expect(page.locator("[data-job='job 999']")).to_be_visible()
    expect(page.locator("[data-job='job 0']")).to_have_count(0)
    assert page.locator("[data-job]").count() < 60
    page.get_by_role("searchbox").fill("job 500")
    expect(page.locator("[data-job] .title")).to_have_text(["job 500"])


def test_an_unhealthy_server_is_reported(page: Page, server: Server, watch: Watch) -> None:
    watch.server_may_fail = True
    page.goto(f"{server.url}ui/")
    expect(page.locator(".schedule").first).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)
    error = {"code": "stuck", "message": "no task can start", "field": None}
    told = {"health": "stuck", "error": error}
    page.route("**/api/health", lambda route: route.fulfill(status=503, json=told))
    expect(page.get_by_role("alert")).to_have_text(
        "The server is unhealthy: no task can start (stuck)."
    )
    page.unroute("**/api/health")
    expect(page.get_by_role("alert")).to_have_count(0)
