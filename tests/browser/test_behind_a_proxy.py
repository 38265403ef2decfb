"""The dashboard behind a real proxy: with TLS, a password, another port and a prefix."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Watch
from tests.browser.test_jobs_page import bars, run
from tests.deploy.conftest import USER, Front, Start, authority, behind, nginx

__all__ = ["authority", "behind"]  # fixtures


@pytest.fixture
def front(behind: Start) -> Front:
    changes = ("location / {", 'location "/go flow/" {')
    return behind(nginx, changes, options=("--root-path", "/go flow"), prefix="/go flow")


@pytest.fixture
def page(browser: Browser, front: Front, watch: Watch) -> Iterator[Page]:
    # The page is opened by its address, since the certificate is for an example name.
    known = {"username": USER[0], "password": USER[1]}
    with browser.new_context(ignore_https_errors=True, http_credentials=known) as context:  # type: ignore[arg-type]
        watch.over(context)
        yield context.new_page()
    watch.check(front.url("/"))


def test_buttons_work_and_the_pages_are_live(page: Page, front: Front, tmp_path: Path) -> None:
    page.goto(front.url("/"))
    expect(page).to_have_url(front.url("/ui/"))
    run(page, "waits")
    expect(bars(page, "waits")).to_have_attribute("data-state", "running")
    (tmp_path / "goflow" / "open").touch()
    expect(bars(page, "waits")).to_have_attribute("data-state", "successful")


@pytest.mark.parametrize("name", ["a/b", "50%", "größe/日本", "../up"])
def test_a_job_with_any_name_has_its_page(page: Page, front: Front, name: str) -> None:
    page.goto(front.url(f"/ui/jobs/{quote(name, safe='')}"))
    page.get_by_role("button", name=f"Run {name}").click()
    expect(page.locator("[data-state=successful]").first).to_be_visible()
