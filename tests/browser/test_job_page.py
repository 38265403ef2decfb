"""The page of one job, in a real browser."""

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Server
from tests.browser.jobs import STRANGE


def node(page: Page, task: str) -> Locator:
    return page.locator(f'.node[data-task="{task}"]')


def execute(page: Page, job: str) -> None:
    page.get_by_role("button", name=f"Execute {job}", exact=True).click()


MIXED = {"works": "successful", "breaks": "failed", "never": "skipped", "always": "successful"}


def test_the_graph_shows_each_task_in_the_colour_of_its_state(page: Page, server: Server) -> None:
    page.goto(server.job("mixed"))
    expect(page.locator(".node")).to_have_count(4)
    expect(page.locator(".edges path")).to_have_count(3)
    expect(node(page, "works")).to_have_attribute("data-state", "notstarted")
    execute(page, "mixed")
    for task, state in MIXED.items():
        expect(node(page, task)).to_have_attribute("data-state", state)
    colours = {
        state: node(page, task).locator(".badge").evaluate("e => getComputedStyle(e).fill")
        for task, state in MIXED.items()
    }
    assert len(set(colours.values())) == 3
    signs = {
        state: node(page, task).locator(".sign").get_attribute("d") for task, state in MIXED.items()
    }
    assert len(set(signs.values())) == 3


def test_each_task_has_a_mark_for_each_execution(page: Page, server: Server) -> None:
    page.goto(server.job("mixed"))
    for count in (1, 2):
        execute(page, "mixed")
        for task, state in MIXED.items():
            marks = page.locator(f'[data-row="{task}"] .mark')
            expect(marks).to_have_count(count)
            expect(marks.first).to_have_attribute("data-state", state)
    expect(page.locator(".line.whole .mark")).to_have_count(2)


def test_a_running_task_is_followed_live_with_its_log(page: Page, server: Server) -> None:
    page.goto(server.job("gate"))
    execute(page, "gate")
    expect(node(page, "before")).to_have_attribute("data-state", "successful")
    expect(node(page, "wait")).to_have_attribute("data-state", "running")
    expect(node(page, "after")).to_have_attribute("data-state", "notstarted")
    node(page, "wait").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".log")).to_contain_text("the gate is closed")
    server.open_gate()
    expect(page.locator(".log")).to_contain_text("the gate is open")
    expect(node(page, "after")).to_have_attribute("data-state", "successful")
    expect(page.locator('[data-detail="wait"] .attempts')).to_contain_text("successful")


def test_a_failed_task_shows_its_attempts_its_error_and_the_log_of_each(
    page: Page, server: Server
) -> None:
    page.goto(server.job("mixed"))
    execute(page, "mixed")
    expect(node(page, "always")).to_have_attribute("data-state", "successful")
    node(page, "breaks").click()
    detail = page.locator('[data-detail="breaks"]')
    expect(detail.locator(".attempts li")).to_have_count(2)
    expect(detail.locator("pre.error")).to_contain_text("3")
    expect(detail.locator(".log")).to_contain_text("to no avail")
    detail.get_by_label("of attempt").select_option("1")
    expect(detail.locator(".log")).to_contain_text("to no avail")


def test_what_a_task_writes_is_shown_as_text(page: Page, server: Server) -> None:
    page.goto(server.job("mixed"))
    execute(page, "mixed")
    expect(node(page, "works")).to_have_attribute("data-state", "successful")
    node(page, "works").click()
    expect(page.locator(".log")).to_contain_text("<b>bold</b>")
    expect(page.locator("pre b")).to_have_count(0)


def test_an_execution_is_cancelled_and_then_retried(page: Page, server: Server) -> None:
    page.goto(server.job("gate"))
    execute(page, "gate")
    expect(node(page, "wait")).to_have_attribute("data-state", "running")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".notice")).to_contain_text("is being cancelled")
    expect(node(page, "wait")).to_have_attribute("data-state", "cancelled")
    server.open_gate()
    page.get_by_role("button", name="Retry").click()
    expect(page.locator(".notice")).to_contain_text("runs again")
    expect(node(page, "after")).to_have_attribute("data-state", "successful")
    expect(page.locator(".line.whole .mark")).to_have_count(1)


def test_an_older_execution_is_chosen_and_kept_in_the_address(page: Page, server: Server) -> None:
    page.goto(server.job("gate"))
    execute(page, "gate")
    expect(node(page, "wait")).to_have_attribute("data-state", "running")
    page.get_by_role("button", name="Cancel").click()
    expect(node(page, "wait")).to_have_attribute("data-state", "cancelled")
    server.open_gate()
    execute(page, "gate")
    expect(node(page, "after")).to_have_attribute("data-state", "successful")
    page.locator(".line.whole .mark").nth(1).click()
    expect(node(page, "wait")).to_have_attribute("data-state", "cancelled")
    page.reload()
    expect(node(page, "wait")).to_have_attribute("data-state", "cancelled")
    page.get_by_role("button", name="Follow the newest").click()
    expect(node(page, "wait")).to_have_attribute("data-state", "successful")


def test_a_job_is_executed_with_parameters_that_were_changed(page: Page, server: Server) -> None:
    page.goto(server.job("counted"))
    page.get_by_text("Parameters").click()
    page.get_by_label("limit").fill("ten")
    execute(page, "counted")
    expect(page.locator(".notice")).to_contain_text("parameter limit must be JSON")
    page.get_by_label("limit").fill("41")
    page.get_by_label("country").fill("fr")
    execute(page, "counted")
    expect(node(page, "show")).to_have_attribute("data-state", "successful")
    node(page, "show").click()
    expect(page.locator('[data-detail="show"] pre').first).to_have_text("42 of fr")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_name_of_any_kind_is_found_by_its_address_and_stays_text(
    page: Page, server: Server, scheme: str
) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.goto(server.job(STRANGE))
    expect(page.locator("h1")).to_have_text(STRANGE)
    assert page.title() == f"{STRANGE} · goflow"
    execute(page, STRANGE)
    expect(page.locator(".node")).to_have_attribute("data-state", "successful")
    page.locator(".node").click()
    expect(page.locator(".log")).to_contain_text("onerror=")
    expect(page.locator('img:not([src="./favicon.svg"])')).to_have_count(0)
    assert page.title() == f"{STRANGE} · goflow"


def test_an_address_without_a_job_says_so(page: Page, server: Server) -> None:
    page.goto(f"{server.url}ui/nowhere")
    expect(page.locator("main")).to_contain_text("no such page")
    page.get_by_role("link", name="All jobs").click()
    expect(page.locator("[data-job]")).to_have_count(4)
