"""What waits and why, and what is done by hand, in a real browser."""

from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Server


def node(page: Page, task: str) -> Locator:
    return page.locator(f'.node[data-task="{task}"]')


def execute(page: Page, job: str) -> None:
    page.get_by_role("button", name=f"Execute {job}", exact=True).click()


def detail(page: Page, task: str) -> Locator:
    return page.locator(f'[data-detail="{task}"]')


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def test_a_task_says_what_it_waits_for_and_is_cancelled_alone(page: Page, timed: Server) -> None:
    page.goto(timed.job("pooled"))
    execute(page, "pooled")
    expect(node(page, "first")).to_have_attribute("data-state", "running")
    expect(detail(page, "second")).to_contain_text("pool 'db': 1 of 1 in use")
    node(page, "first").click()
    press(page, "Cancel task")
    expect(page.locator(".notice")).to_contain_text("is being cancelled")
    expect(node(page, "first")).to_have_attribute("data-state", "cancelled")
    expect(node(page, "second")).to_have_attribute("data-state", "running")
    expect(detail(page, "second")).not_to_contain_text("in use")
    expect(page.locator(".actions li")).to_contain_text("first cancelled by 127.0.0.1")
    timed.open_gate()
    expect(node(page, "second")).to_have_attribute("data-state", "successful")


def test_an_execution_in_the_queue_leads_to_the_one_it_waits_for(page: Page, timed: Server) -> None:
    page.goto(timed.job("queue"))
    execute(page, "queue")
    expect(node(page, "wait")).to_have_attribute("data-state", "running")
    execute(page, "queue")
    expect(node(page, "wait")).to_have_attribute("data-state", "notstarted")
    expect(detail(page, "wait")).to_contain_text("earlier executions of the job have not ended")
    page.locator("p.waits .plain").click()
    expect(node(page, "wait")).to_have_attribute("data-state", "running")
    expect(page.locator("p.waits")).to_have_count(0)


def test_a_task_is_marked_by_hand_and_another_retried_from_there(page: Page, timed: Server) -> None:
    page.goto(timed.job("broken"))
    execute(page, "broken")
    expect(node(page, "ends")).to_have_attribute("data-state", "skipped")
    node(page, "breaks").click()
    press(page, "Mark successful")
    expect(page.locator(".notice")).to_contain_text("counts as successful")
    expect(node(page, "breaks")).to_have_attribute("data-state", "successful")
    expect(node(page, "ends")).to_have_attribute("data-state", "skipped")
    timed.open_gate()
    node(page, "follows").click()
    press(page, "Retry from here")
    expect(page.locator(".notice")).to_contain_text("all that follows run again")
    expect(node(page, "ends")).to_have_attribute("data-state", "successful")
    expect(page.locator(".execution .bar .state").first).to_have_text("successful")
    expect(page.locator(".actions li")).to_contain_text(
        ["breaks marked successful by 127.0.0.1", "execution retried by 127.0.0.1"]
    )
    page.reload()
    expect(page.locator(".actions li")).to_have_count(2)


def test_an_execution_that_ran_out_of_time_says_so(page: Page, timed: Server) -> None:
    page.goto(timed.job("hasty"))
    execute(page, "hasty")
    expect(page.locator(".why")).to_have_text("It timed out after 0.2 s.")
    expect(page.locator(".actions")).to_have_count(0)
