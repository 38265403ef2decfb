"""The page of running tasks, waiting tasks and next due times, in a real browser."""

import re

from playwright.sync_api import Locator, Page, expect

from tests.browser.axe import violations
from tests.browser.conftest import Server


def submit(page: Page, server: Server, job: str) -> str:
    answer = page.request.post(f"{server.url}api/jobs/{job}/submit")
    assert answer.ok
    return str(answer.json()["id"])


def pieces(page: Page, job: str) -> Locator:
    return page.locator(f'[data-lane="{job}"] .piece')


def test_running_and_waiting_tasks_are_listed_with_reasons(page: Page, timed: Server) -> None:
    page.goto(f"{timed.url}ui/now")
    expect(page.get_by_role("heading", name="Now")).to_be_visible()
    pooled = submit(page, timed, "pooled")
    way = page.locator(f'[data-unfinished="{pooled}"]')
    expect(way).to_contain_text("pool 'db': 1 of 1 in use")
    expect(way).to_contain_text("running for")
    expect(page.locator(".now-figures")).to_contain_text("pool db 1 of 1 full")
    expect(pieces(page, "pooled")).to_have_attribute("data-state", "running")
    timed.open_gate()
    expect(way).to_have_count(0)
    expect(pieces(page, "pooled")).to_have_attribute("data-state", "successful")


def test_a_queued_execution_shows_what_it_waits_for(page: Page, timed: Server) -> None:
    page.goto(f"{timed.url}ui/now")
    submit(page, timed, "queue")
    waits = submit(page, timed, "queue")
    way = page.locator(f'[data-unfinished="{waits}"]')
    expect(way).to_contain_text("earlier executions of the job have not ended")
    expect(pieces(page, "queue")).to_have_count(2)
    expect(page.locator('[data-lane="queue"] .piece.waits')).to_have_attribute(
        "aria-label", re.compile("queue: waiting: .*have not ended")
    )
    timed.open_gate()
    expect(way).to_have_count(0)


def test_the_next_due_time_of_each_job_is_listed_and_drawn_on_the_axis(
    page: Page, timed: Server
) -> None:
    page.goto(f"{timed.url}ui/now?ahead=10m")
    upcoming = page.locator(".next-up li")
    expect(upcoming).to_have_count(1)
    expect(upcoming).to_contain_text("often")
    expect(page.locator('[data-lane="often"] .due').first).to_be_visible()
    expect(page.locator('[data-lane="often"] .more-due')).to_be_visible()
    page.get_by_label("Ahead").select_option("a day")
    expect(page).to_have_url(re.compile(r"ahead=1d$"))
    page.reload()
    expect(page.get_by_label("Ahead")).to_have_value("1d")


def test_executions_ended_before_the_page_was_opened_are_on_the_axis(
    page: Page, timed: Server
) -> None:
    timed.open_gate()
    page.goto(f"{timed.url}ui/")
    submit(page, timed, "hasty")
    id = submit(page, timed, "broken")
    page.goto(f"{timed.url}ui/now?ahead=10m")
    expect(pieces(page, "broken")).to_have_attribute("data-state", "failed")
    pieces(page, "broken").focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{timed.url}ui/executions/{id}")


def test_a_few_waiting_tasks_are_listed_and_the_rest_counted(page: Page, thousand: Server) -> None:
    page.goto(f"{thousand.url}ui/now")
    expect(page.locator("section[aria-label='In progress']")).to_contain_text("Nothing is running")
    for number in range(80):
        submit(page, thousand, f"job {number}")
    expect(page.locator(".lane[data-lane]")).to_have_count(60)
    expect(page.locator("section[aria-label='Time axis']")).to_contain_text("and 20 more jobs")


def test_an_abandoned_attempt_is_listed_until_it_ends(page: Page, timed: Server) -> None:
    id = timed.submit("stuck")
    page.goto(f"{timed.url}ui/now")
    given_up = page.get_by_role("region", name="Abandoned attempts")
    expect(given_up).to_contain_text("attempt 1, running for")
    expect(given_up).to_contain_text("slots are free")
    assert violations(page) == []
    expect(given_up.get_by_role("link", name="stuck never_ends")).to_have_attribute(
        "href", re.compile(f"executions/{id}.task=never_ends&attempt=1")
    )
    timed.open_gate()
    expect(given_up).to_have_count(0)
