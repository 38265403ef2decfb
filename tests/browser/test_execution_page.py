"""The page of one execution, in a real browser."""

import re
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.axe import violations
from tests.browser.conftest import Server, Watch
from tests.browser.jobs import STRANGE

MIXED = {"works": "successful", "breaks": "failed", "never": "skipped", "always": "successful"}


def show(page: Page, server: Server, job: str, query: str = "", **params: Any) -> str:
    """Submits a job and opens the page of the execution."""
    id = server.submit(job, **params)
    page.goto(f"{server.url}ui/executions/{id}{query}")
    return id


def node(page: Page, task: str) -> Locator:
    return page.locator(f'.node[data-task="{task}"]')


def row(page: Page, task: str) -> Locator:
    return page.locator(f'.gantt-row[data-row="{task}"]')


def detail(page: Page, task: str) -> Locator:
    return page.locator(f'[data-detail="{task}"]')


def line(page: Page, number: int) -> Locator:
    return page.locator(f'.log-line[data-line="{number}"]')


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def confirm(page: Page, name: str) -> None:
    page.get_by_role("dialog").get_by_role("button", name=name, exact=True).click()


def ended(page: Page, state: str) -> None:
    expect(page.locator(".top .state").first).to_have_attribute("data-state", state)


def scrolled(page: Page) -> float:
    return float(page.locator(".log").evaluate("e => e.scrollTop"))


def at_end(page: Page) -> bool:
    ends = "e => e.scrollTop + e.clientHeight > e.scrollHeight - 4"
    return bool(page.locator(".log").evaluate(ends))


# -- the state ------------------------------------------------------------------------


def test_graph_and_chart_show_each_task_in_the_colour_of_its_state(
    page: Page, server: Server
) -> None:
    show(page, server, "mixed")
    expect(page.locator(".node")).to_have_count(4)
    expect(page.locator(".edges:not(.lit) path")).to_have_count(3)
    for task, state in MIXED.items():
        expect(node(page, task)).to_have_attribute("data-state", state)
        expect(row(page, task)).to_have_attribute("data-state", state)
    colours = {
        state: node(page, task).locator(".badge").evaluate("e => getComputedStyle(e).fill")
        for task, state in MIXED.items()
    }
    assert len(set(colours.values())) == 3
    signs = {
        state: node(page, task).locator(".sign").get_attribute("d") for task, state in MIXED.items()
    }
    assert len(set(signs.values())) == 3
    expect(row(page, "breaks").locator('[data-kind="attempt"]')).to_have_count(2)
    expect(row(page, "never").locator('[data-kind="end"]')).to_have_count(1)


def test_graph_and_chart_share_a_selection_kept_in_the_address(page: Page, server: Server) -> None:
    show(page, server, "mixed")
    ended(page, "failed")
    node(page, "works").click()
    expect(page).to_have_url(re.compile(r"[?&]task=works"))
    expect(row(page, "works")).to_have_attribute("aria-selected", "true")
    row(page, "always").click()
    expect(node(page, "always")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("k")
    expect(detail(page, "never")).to_be_visible()
    page.keyboard.press("ArrowUp")
    expect(detail(page, "breaks")).to_be_visible()
    page.reload()
    expect(detail(page, "breaks")).to_be_visible()
    expect(row(page, "breaks")).to_have_attribute("aria-selected", "true")
    node(page, "breaks").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(detail(page, "never")).to_be_visible()


def test_a_running_task_is_followed_live_with_its_log(page: Page, server: Server) -> None:
    show(page, server, "gate")
    expect(node(page, "before")).to_have_attribute("data-state", "successful")
    expect(node(page, "wait")).to_have_attribute("data-state", "running")
    expect(node(page, "after")).to_have_attribute("data-state", "notstarted")
    node(page, "wait").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".log")).to_contain_text("the gate is closed")
    bar = row(page, "wait").locator(".open")
    width = bar.evaluate("e => e.getBoundingClientRect().width")
    grown = "([bar, before]) => bar.getBoundingClientRect().width > before"
    page.wait_for_function(grown, arg=[bar.element_handle(), width])
    server.open_gate()
    expect(page.locator(".log")).to_contain_text("the gate is open")
    expect(node(page, "after")).to_have_attribute("data-state", "successful")
    expect(detail(page, "wait").locator(".attempt")).to_have_attribute("data-state", "successful")
    ended(page, "successful")
    expect(row(page, "wait").locator(".open")).to_have_count(0)


def test_a_failure_is_shown_at_once_with_its_error_and_its_log_near_it(
    page: Page, logs: Server
) -> None:
    show(page, logs, "picky")
    ended(page, "failed")
    page.reload()
    task = detail(page, "checks")
    expect(task.locator(".attempt")).to_have_count(2)
    expect(task.locator("pre.error")).to_have_text(
        "ValueError: the limit 10 is too low\n<i>not</i> markup"
    )
    expect(task.get_by_text("Traceback", exact=True)).to_be_visible()
    expect(line(page, 202)).to_be_in_viewport()
    expect(line(page, 202)).to_contain_text("ValueError: the limit 10")
    expect(line(page, 202)).to_have_class(re.compile("lit"))
    task.locator(".attempt").first.click()
    expect(page).to_have_url(re.compile(r"[?&]attempt=1"))
    page.reload()
    expect(task.locator(".attempt").first).to_have_attribute("aria-pressed", "true")


def test_the_parameters_the_cause_and_the_user_are_shown(page: Page, logs: Server) -> None:
    id = show(page, logs, "picky", limit=41)
    ended(page, "successful")
    expect(page.locator(".params")).to_contain_text("limit41")
    expect(page.locator(".facts")).to_contain_text("by api from 127.0.0.1")
    expect(page.locator(".facts")).to_contain_text(id)
    expect(detail(page, "checks").locator(".result-part pre")).to_have_text("41 of de")


def test_keys_lead_to_the_previous_and_next_execution(page: Page, server: Server) -> None:
    first, second, third = (server.submit("mixed") for _ in range(3))
    page.goto(f"{server.url}ui/executions/{second}")
    expect(page.get_by_role("link", name="Previous execution")).to_be_visible()
    page.keyboard.press("[")
    expect(page).to_have_url(re.compile(first))
    expect(page.get_by_role("link", name="Next execution")).to_be_visible()
    page.keyboard.press("]")
    expect(page).to_have_url(re.compile(second))
    page.get_by_role("link", name="Next execution").click()
    expect(page).to_have_url(re.compile(third))
    page.go_back()
    expect(page).to_have_url(re.compile(second))


def test_a_task_shows_its_wait_reason_and_can_be_cancelled_alone(page: Page, timed: Server) -> None:
    show(page, timed, "pooled", "?task=second")
    expect(node(page, "first")).to_have_attribute("data-state", "running")
    expect(detail(page, "second")).to_contain_text("pool 'db': 1 of 1 in use")
    expect(row(page, "second").locator('[data-kind="room"].open')).to_have_count(1)
    node(page, "first").click()
    press(page, "Cancel task")
    confirm(page, "Cancel the task")
    expect(page.locator(".notice")).to_contain_text("is being cancelled")
    expect(node(page, "first")).to_have_attribute("data-state", "cancelled")
    expect(node(page, "second")).to_have_attribute("data-state", "running")
    node(page, "second").click()
    expect(detail(page, "second")).not_to_contain_text("in use")
    expect(page.locator(".actions li")).to_contain_text("first cancelled by 127.0.0.1")
    timed.open_gate()
    expect(node(page, "second")).to_have_attribute("data-state", "successful")


def test_a_queued_execution_links_to_the_one_it_waits_for(page: Page, timed: Server) -> None:
    first = timed.submit("queue")
    show(page, timed, "queue")
    expect(node(page, "wait")).to_have_attribute("data-state", "notstarted")
    expect(page.locator(".top p.waits")).to_contain_text(
        "earlier executions of the job have not ended"
    )
    page.locator(".top p.waits a").click()
    expect(page).to_have_url(re.compile(first))
    expect(node(page, "wait")).to_have_attribute("data-state", "running")
    expect(page.locator("p.waits")).to_have_count(0)


def test_a_timed_out_execution_shows_the_reason(page: Page, timed: Server) -> None:
    show(page, timed, "hasty")
    expect(page.locator(".why")).to_have_text("It timed out after 0.2 s.")
    expect(page.locator(".actions")).to_have_count(0)


def test_a_thousand_tasks_are_drawn_when_scrolled_into_view(page: Page, logs: Server) -> None:
    show(page, logs, "many")
    expect(page.locator(".node")).to_have_count(1200)
    expect(page.locator(".gantt-row").first).to_be_visible()
    assert page.locator(".gantt-row").count() < 60
    page.locator(".gantt").focus()
    page.keyboard.press("End")
    expect(row(page, "part-1199")).to_be_in_viewport()
    expect(node(page, "part-1199")).to_be_in_viewport()
    assert page.locator(".gantt-row").count() < 60
    ended(page, "successful")


def test_the_graph_can_be_zoomed_moved_and_fitted(page: Page, server: Server) -> None:
    show(page, server, "mixed")
    ended(page, "failed")
    drawing = page.locator(".graph > svg > g")
    fitted = drawing.get_attribute("transform")
    page.keyboard.press("+")
    expect(drawing).not_to_have_attribute("transform", str(fitted))
    page.keyboard.press("0")
    expect(drawing).to_have_attribute("transform", str(fitted))
    box = page.locator(".graph > svg").bounding_box()
    assert box
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -400)
    page.keyboard.up("Control")
    expect(drawing).not_to_have_attribute("transform", str(fitted))
    zoomed, chosen = drawing.get_attribute("transform"), page.url
    page.mouse.down()
    page.mouse.move(box["x"] - 40, box["y"] + 40, steps=4)
    page.mouse.up()
    expect(drawing).not_to_have_attribute("transform", str(zoomed))
    assert page.url == chosen
    page.get_by_role("button", name="Fit the graph").click()
    expect(drawing).to_have_attribute("transform", str(fitted))


# -- commands -------------------------------------------------------------------------


def test_an_execution_is_cancelled_and_then_retried(page: Page, server: Server) -> None:
    show(page, server, "gate")
    expect(node(page, "wait")).to_have_attribute("data-state", "running")
    page.keyboard.press("c")
    confirm(page, "Go back")
    ended(page, "running")
    press(page, "Cancel")
    confirm(page, "Cancel the execution")
    expect(page.locator(".notice")).to_contain_text("is being cancelled")
    expect(node(page, "wait")).to_have_attribute("data-state", "cancelled")
    server.open_gate()
    press(page, "Retry")
    expect(page.locator(".notice")).to_contain_text("run again")
    expect(node(page, "after")).to_have_attribute("data-state", "successful")
    ended(page, "successful")


def test_a_task_can_be_marked_and_another_retried_from_there(page: Page, timed: Server) -> None:
    show(page, timed, "broken")
    expect(node(page, "ends")).to_have_attribute("data-state", "skipped")
    node(page, "breaks").click()
    press(page, "Mark successful")
    confirm(page, "Mark successful")
    expect(page.locator(".notice")).to_contain_text("is marked successful")
    expect(node(page, "breaks")).to_have_attribute("data-state", "successful")
    expect(node(page, "ends")).to_have_attribute("data-state", "skipped")
    timed.open_gate()
    node(page, "follows").click()
    press(page, "Retry from here")
    expect(page.locator(".notice")).to_contain_text("all tasks downstream run again")
    expect(node(page, "ends")).to_have_attribute("data-state", "successful")
    ended(page, "successful")
    expect(page.locator(".actions li")).to_contain_text(
        ["breaks marked successful by 127.0.0.1", "follows retried by 127.0.0.1"]
    )
    page.reload()
    expect(page.locator(".actions li")).to_have_count(2)


def test_the_items_of_a_mapped_task_are_listed_and_one_is_retried(page: Page, logs: Server) -> None:
    show(page, logs, "mapped", "?task=halves")
    ended(page, "failed")
    task = detail(page, "halves")
    counts = "299 of 300 items, 1 failed"
    expect(task.locator(".counts")).to_have_text(counts)
    expect(node(page, "halves")).to_have_attribute("aria-label", f"halves: failed, {counts}")
    expect(node(page, "halves").locator(".segment")).to_have_count(2)
    expect(row(page, "halves")).to_contain_text("299/300")

    items = task.get_by_role("listbox", name="Items")
    expect(items.locator('[data-item="7"]')).to_contain_text("ValueError: 7 is odd")
    assert items.locator(".item-row").count() < 60
    items.focus()
    page.keyboard.press("End")
    expect(page).to_have_url(re.compile("[?&]item=299"))
    expect(items.locator('[data-item="299"]')).to_have_attribute("aria-selected", "true")
    expect(page.locator(".log")).to_contain_text("halving 299")
    assert violations(page) == []

    press(page, "299 successful")
    expect(items.locator('[data-item="0"]')).to_be_visible()
    press(page, "1 failed")
    expect(items.locator(".item-row")).to_have_count(1)
    items.locator('[data-item="7"]').click()
    page.reload()
    one = page.locator('[data-item-detail="7"]')
    expect(one.locator("pre.error")).to_have_text("ValueError: 7 is odd")
    expect(one.locator(".log")).to_contain_text("halving 7")
    assert violations(page) == []

    logs.open_gate()
    press(page, "Retry item")
    expect(page.locator(".notice")).to_contain_text("run again")
    ended(page, "successful")
    expect(task.locator(".counts")).to_have_text("300 of 300 items")
    expect(one.locator(".state")).to_have_attribute("data-state", "successful")
    expect(one.locator(".attempt")).to_have_count(2)
    expect(one.locator(".result-part pre")).to_have_text("3")
    expect(items).to_contain_text("No items are failed.")


def test_an_execution_is_retried_with_other_parameters(page: Page, logs: Server) -> None:
    id = show(page, logs, "picky", country="fr")
    ended(page, "failed")
    press(page, "Retry with…")
    page.get_by_label("limit").fill("ten")
    confirm(page, "Retry")
    expect(page.get_by_role("alert")).to_contain_text("parameter limit must be a number")
    page.get_by_label("limit").fill("41")
    confirm(page, "Retry")
    expect(page.locator(".notice")).to_contain_text("with these parameters")
    ended(page, "successful")
    expect(page.locator(".result-part pre")).to_have_text("41 of fr")
    assert id in page.url


def test_an_execution_is_cloned_with_other_parameters(page: Page, logs: Server) -> None:
    id = show(page, logs, "picky", country="fr")
    ended(page, "failed")
    page.keyboard.press("x")
    expect(page.get_by_label("country")).to_have_value("fr")
    page.get_by_label("limit").fill("20")
    confirm(page, "Run")
    expect(page.locator(".notice")).to_contain_text("was submitted")
    expect(page).not_to_have_url(re.compile(id))
    ended(page, "successful")
    expect(page.locator(".result-part pre")).to_have_text("20 of fr")


def test_numbers_keep_their_digits_from_the_form_to_the_result_and_the_clone(
    page: Page, logs: Server, watch: Watch
) -> None:
    watch.server_may_refuse = True
    page.goto(logs.job("digits"))
    press(page, "Run digits")
    expect(page.get_by_label("share")).to_have_value("1.0")
    page.get_by_label("id").fill("9007199254740993")
    page.get_by_label("others").fill("[123456789012345678901234567890, 2.0, 1e400]")
    confirm(page, "Run")
    expect(page.get_by_role("alert")).to_contain_text("1e400")
    page.get_by_label("others").fill("[123456789012345678901234567890, 2.0]")
    confirm(page, "Run")
    ended(page, "successful")
    params = page.locator(".params")
    expect(params).to_contain_text("id9007199254740993")
    expect(params).to_contain_text("share1.0")
    expect(params).to_contain_text("others[123456789012345678901234567890,2.0]")
    result = page.locator(".result-part pre")
    for told in (
        '"next": 9007199254740994',
        '"share": 1.0',
        "123456789012345678901234567890,",
        "2.0",
    ):
        expect(result).to_contain_text(told)
    press(page, "Clone…")
    expect(page.get_by_role("dialog").get_by_label("id")).to_have_value("9007199254740993")
    before = page.url
    confirm(page, "Run")
    expect(page).not_to_have_url(before)
    ended(page, "successful")
    expect(result).to_contain_text('"next": 9007199254740994')
    expect(params).to_contain_text("others[123456789012345678901234567890,2.0]")


def test_a_large_result_is_fetched_on_demand(page: Page, logs: Server, watch: Watch) -> None:
    id = show(page, logs, "large", "?task=rows")
    ended(page, "successful")
    result = page.locator(".result-part")
    expect(result).to_contain_text("KiB")
    expect(result.locator("pre")).to_have_count(0)
    assert not any("/result" in url for url in watch.asked)
    with page.expect_download() as download:
        result.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == "rows-1.json"
    result.get_by_role("button", name="Show the result").click()
    expect(result.locator("pre")).to_contain_text('"id": 9007199254740993')
    result.get_by_role("button", name=re.compile("Show all")).click()
    expect(result.locator("pre")).to_contain_text('"row 1999"')
    row(page, "few").click()
    expect(result.locator("pre")).to_have_text("2")
    row(page, "rows").click()
    page.route("**/result?*", lambda route: route.abort())
    watch.server_may_be_away = True
    result.get_by_role("button", name="Show the result").click()
    expect(result.get_by_role("alert")).to_contain_text("cannot be reached")
    assert id in page.url


def test_the_keys_are_listed(page: Page, server: Server) -> None:
    show(page, server, "mixed")
    ended(page, "failed")
    page.keyboard.press("?")
    keys = page.get_by_role("dialog")
    for does in ("Retry unsuccessful tasks", "Next task", "Search the log", "Zoom in"):
        expect(keys).to_contain_text(does)


# -- logs -----------------------------------------------------------------------------


def test_an_unfinished_line_is_shown_and_overwritten(page: Page, logs: Server) -> None:
    show(page, logs, "progress")
    expect(line(page, 2).locator(".text")).to_have_text("64 % of all")
    expect(page.locator(".log-line")).to_have_count(2)
    logs.open_gate()
    ended(page, "successful")
    # Overwriting a line keeps the rest of it, as on a terminal.
    expect(line(page, 2).locator(".text")).to_have_text("100 %of all")
    expect(page.locator(".log-line")).to_have_count(2)


def test_a_switch_shows_the_time_of_each_line_also_in_downloads(page: Page, logs: Server) -> None:
    show(page, logs, "progress")
    logs.open_gate()
    ended(page, "successful")
    expect(line(page, 1)).to_contain_text("begins")
    expect(page.locator(".log .stamp")).to_have_count(0)
    page.get_by_role("button", name="Times").click()
    expect(line(page, 1).locator(".stamp")).to_have_text(re.compile(r"\d\d:\d\d:\d\d\.\d{3}$"))
    first, second = (
        line(page, number).locator("time").get_attribute("datetime") for number in (1, 2)
    )
    assert first
    assert second
    assert first <= second
    page.reload()
    expect(line(page, 1).locator(".stamp")).to_be_visible()
    expect(page.get_by_role("button", name="Times")).to_have_attribute("aria-pressed", "true")
    assert violations(page) == []
    with page.expect_download() as download:
        page.locator(".log-part").get_by_role("link", name="Download").click()
    text = download.value.path().read_text()
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]*Z begins\n", text)
    page.locator(".log").focus()
    page.keyboard.press("t")
    expect(page.locator(".log .stamp")).to_have_count(0)


def test_log_lines_have_their_colours_and_stay_text(page: Page, logs: Server) -> None:
    show(page, logs, "strange")
    expect(line(page, 1)).to_contain_text("red blue turned")
    red, blue = (
        line(page, 1).get_by_text(text, exact=True).evaluate("e => getComputedStyle(e).color")
        for text in ("red", "blue")
    )
    assert red != blue
    expect(line(page, 2).locator(".text")).to_have_text("100%")
    expect(line(page, 3).locator(".text")).to_have_text(
        "<b>bold</b> & <script>document.title = 3</script>"
    )
    expect(page.locator(".log b, .log script, pre b")).to_have_count(0)
    expect(page).to_have_title("strange · goflow")
    ended(page, "successful")
    result = page.locator(".result-part pre")
    expect(result).to_contain_text('"<b>": [')
    cut = len(result.inner_text())
    page.get_by_role("button", name=re.compile("Show all")).click()
    assert len(result.inner_text()) > cut


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_any_name_stays_text(page: Page, server: Server, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    show(page, server, STRANGE)
    expect(page.locator("h1")).to_have_text(STRANGE)
    ended(page, "successful")
    page.locator(".node").click()
    expect(page.locator(".log")).to_contain_text("onerror=")
    page.reload()
    expect(page.locator(".task-part h2")).to_have_text(STRANGE)
    expect(page.locator('img:not([src="./favicon.svg"])')).to_have_count(0)
    expect(page).to_have_title(f"{STRANGE} · goflow")


def test_a_log_is_followed_until_the_reader_scrolls_up(page: Page, logs: Server) -> None:
    show(page, logs, "ticker")
    follow = page.get_by_role("button", name="Follow", exact=True)
    expect(follow).to_have_attribute("aria-pressed", "true")
    page.wait_for_function("() => document.querySelector('.log')?.scrollTop > 400")
    page.locator(".log").hover()
    page.mouse.wheel(0, -300)
    expect(follow).to_have_attribute("aria-pressed", "false")
    held = page.locator(".log-line").first.get_attribute("data-line")
    before = scrolled(page)
    height = page.locator(".log").evaluate("e => e.scrollHeight")
    grown = "height => document.querySelector('.log').scrollHeight > height + 200"
    page.wait_for_function(grown, arg=height)
    assert page.locator(".log-line").first.get_attribute("data-line") == held
    assert scrolled(page) == before
    page.keyboard.press("f")
    expect(follow).to_have_attribute("aria-pressed", "true")
    assert at_end(page)
    logs.open_gate()
    expect(page.locator(".log")).to_contain_text("the last tick")
    expect(page.locator(".log-line").last).to_contain_text("the last tick")
    assert at_end(page)


def test_a_hundred_thousand_lines_are_fetched_and_drawn_while_scrolling(
    page: Page, logs: Server
) -> None:
    fetched: list[int] = []
    page.on(
        "response", lambda r: fetched.append(len(r.json()["lines"])) if "/lines?" in r.url else None
    )
    show(page, logs, "long", "?task=hundred_thousand")
    expect(row(page, "hundred_thousand")).to_have_attribute("data-state", "successful")
    page.reload()
    expect(line(page, 1)).to_be_in_viewport()
    for share, number in ((1, 100_000), (0.5, 50_000), (0, 1)):
        scroll = "(e, share) => { e.scrollTop = share * e.scrollHeight }"
        page.locator(".log").evaluate(scroll, share)
        expect(line(page, number)).to_contain_text(f"line {number}")
        assert page.locator(".log-line").count() < 150
    fetched.clear()
    page.locator(".log").hover()
    for _ in range(30):
        page.mouse.wheel(0, 1000)
    expect(line(page, 1)).to_have_count(0)
    assert sum(fetched) < 10_000


def test_lines_that_arrive_between_a_scroll_and_its_event_do_not_undo_it(
    page: Page, logs: Server
) -> None:
    show(page, logs, "long", "?task=hundred_thousand")
    expect(row(page, "hundred_thousand")).to_have_attribute("data-state", "successful")
    page.reload()
    expect(line(page, 1)).to_be_in_viewport()
    # The lines are drawn right after a scroll, before the frame that has its event.
    page.evaluate(
        """() => {
            const read = Response.prototype.json
            const frame = window.requestAnimationFrame
            const late = (draw) => {
                window.requestAnimationFrame = frame
                queueMicrotask(() => {
                    document.querySelector(".log").scrollTop = 0
                    document.title = "scrolled back"
                    draw(performance.now())
                })
                return 0
            }
            Response.prototype.json = async function () {
                const value = await read.call(this)
                if (value.first === 49_500) window.requestAnimationFrame = late
                return value
            }
        }"""
    )
    page.locator(".log").evaluate("e => { e.scrollTop = 20 * 50_000 }")
    expect(page).to_have_title("scrolled back")
    expect(line(page, 1)).to_be_in_viewport()
    assert scrolled(page) == 0


def test_a_search_in_a_log_is_kept_in_the_address(page: Page, logs: Server) -> None:
    show(page, logs, "long", "?task=hundred_thousand")
    expect(row(page, "hundred_thousand")).to_have_attribute("data-state", "successful")
    expect(page.locator(".log-line").last).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("NEEDLE")
    expect(page.locator(".found")).to_have_text("4 found")
    expect(page).to_have_url(re.compile(r"[?&]find=NEEDLE"))
    page.keyboard.press("Enter")
    expect(page.locator(".found")).to_have_text("1 of 4")
    expect(line(page, 25_000).locator("mark")).to_have_text("needle")
    expect(line(page, 25_000)).to_be_in_viewport()
    page.keyboard.press("Escape")
    expect(page.locator(".found")).to_have_count(0)
    page.keyboard.press("/")
    page.keyboard.type("needle")
    page.keyboard.press("Enter")
    expect(page.locator(".found")).to_have_text("2 of 4")
    page.locator(".log").focus()
    page.keyboard.press("n")
    expect(line(page, 75_000)).to_be_in_viewport()
    page.keyboard.press("N")
    expect(line(page, 50_000)).to_be_in_viewport()
    page.reload()
    expect(page.locator(".found")).to_have_text("2 of 4")


def test_text_typed_into_the_search_stays_while_the_log_is_redrawn(
    page: Page, logs: Server
) -> None:
    show(page, logs, "ticker")
    follow = page.get_by_role("button", name="Follow", exact=True)
    page.wait_for_function("() => document.querySelector('.log')?.scrollTop > 400")
    field = page.get_by_label("Search the log")
    page.locator(".log").hover()
    field.focus()
    page.keyboard.type("tic")
    page.mouse.wheel(0, -300)
    expect(follow).to_have_attribute("aria-pressed", "false")
    page.keyboard.type("k 7")
    expect(page).to_have_url(re.compile(r"[?&]find=tick"))
    expect(field).to_have_value("tick 7")
    logs.open_gate()


def test_a_key_leads_to_the_first_error(page: Page, logs: Server) -> None:
    show(page, logs, "long", "?task=hundred_thousand")
    expect(row(page, "hundred_thousand")).to_have_attribute("data-state", "successful")
    page.keyboard.press("e")
    expect(line(page, 77_000)).to_be_in_viewport()
    expect(line(page, 77_000)).to_contain_text("Error: here")
    row(page, "wide").click()
    expect(page.locator(".log")).to_contain_text("wide 1")
    page.keyboard.press("e")
    expect(page.locator(".notice")).to_contain_text("No errors found in this log")


def test_a_line_has_an_address_that_leads_to_it(page: Page, logs: Server) -> None:
    show(page, logs, "long", "?task=hundred_thousand")
    expect(row(page, "hundred_thousand")).to_have_attribute("data-state", "successful")
    page.locator(".log").evaluate("e => { e.scrollTop = 20 * 41_000 }")
    line(page, 41_010).locator(".number").click()
    expect(page).to_have_url(re.compile(r"[?&]line=41010$"))
    line(page, 41_012).locator(".number").click(modifiers=["Shift"])
    expect(page).to_have_url(re.compile(r"[?&]line=41010-41012$"))
    expect(page.locator(".log-line.lit")).to_have_count(3)
    page.reload()
    expect(line(page, 41_010)).to_be_in_viewport()
    expect(page.locator(".log-line.lit")).to_have_count(3)


def test_long_lines_wrap_and_all_lines_can_be_reached(page: Page, logs: Server) -> None:
    show(page, logs, "wide")
    expect(row(page, "wide")).to_have_attribute("data-state", "successful")
    expect(line(page, 1)).to_be_visible()
    page.keyboard.press("w")
    expect(page.get_by_role("button", name="Wrap")).to_have_attribute("aria-pressed", "true")
    log = page.locator(".log")
    assert log.evaluate("e => e.scrollWidth <= e.clientWidth")
    log.hover()
    for _ in range(40):
        page.mouse.wheel(0, 900)
    expect(line(page, 300)).to_be_in_viewport()
    for _ in range(40):
        page.mouse.wheel(0, -900)
    expect(line(page, 1)).to_be_in_viewport()
    page.reload()
    expect(page.get_by_role("button", name="Wrap")).to_have_attribute("aria-pressed", "true")


def test_dropped_lines_are_reported_and_the_others_keep_their_numbers(
    page: Page, logs: Server
) -> None:
    show(page, logs, "too long")
    expect(row(page, "cut")).to_have_attribute("data-state", "successful")
    page.reload()
    expect(line(page, 1)).to_be_visible()
    page.locator(".log").focus()
    page.keyboard.press("f")
    expect(line(page, 150_000)).to_contain_text("cut 150000 ....")
    first = int(page.locator(".log-line").first.get_attribute("data-line") or 0)
    assert first > 100_000
    page.locator(".log").evaluate("e => { e.scrollTop = 0.4 * e.scrollHeight }")
    gap = page.locator(".log .gap")
    expect(gap).to_contain_text(re.compile(r"\d\d,\d\d\d lines were dropped from this log here"))
    before = int(gap.locator("xpath=preceding-sibling::*[1]").get_attribute("data-line") or 0)
    after = int(gap.locator("xpath=following-sibling::*[1]").get_attribute("data-line") or 0)
    left_out = f"{after - before - 1:,}"
    expect(gap).to_contain_text(left_out)
    expect(line(page, before)).to_contain_text(f"cut {before} ...")
    expect(line(page, after)).to_contain_text(f"cut {after} ...")


def test_a_log_can_be_downloaded(page: Page, logs: Server) -> None:
    show(page, logs, "strange")
    ended(page, "successful")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    kept = download.value.path().read_text()
    assert "\x1b[1;31mred" in kept
    assert download.value.suggested_filename.endswith(".log")
