"""A dashboard written for Go's goflow works from a folder: inline scripts and styles, files at
/src and /css, and Go's routes and stream."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Server

PROGRAM = Path(__file__).with_name("own_dashboard.py")

PAGE = """<!DOCTYPE html>
<html>
  <head>
    <title>mine</title>
    <link rel="icon" href="data:,">
    <link rel="stylesheet" href="/css/styles.css">
    <style>.dot { width: 10px; height: 10px }</style>
    <script src="/src/plain.js"></script>
  </head>
  <body>
    <b id="name" style="color: rgb(0, 0, 255)"></b> <span id="active"></span>
    <button onclick="press('toggle')">Toggle</button>
    <button onclick="press('submit')">Execute</button>
    <div id="dots"></div>
    <pre id="runs"></pre>
    <script>start()</script>
  </body>
</html>
"""
SCRIPT = """
const colors = { successful: "rgb(0, 255, 0)", running: "rgb(200, 255, 200)" }
let job

async function start() {
  job = (await (await fetch("/api/jobs")).json()).jobs[0]
  document.getElementById("name").textContent = job
  showActive()
  const stream = new EventSource(`/stream?jobname=${job}`)
  stream.addEventListener("message", (message) => {
    const execution = JSON.parse(message.data)
    const dot = document.getElementById(execution.id) ?? document.createElement("div")
    dot.setAttribute("id", execution.id)
    dot.setAttribute("class", "dot")
    dot.setAttribute("style", `background-color: ${colors[execution.state] ?? "white"}`)
    document.getElementById("dots").appendChild(dot)
    if (execution.state === "successful") showRuns()
  })
}

async function showActive() {
  const answer = await (await fetch(`/api/jobs/${job}`)).json()
  document.getElementById("active").textContent = String(answer.active)
}

async function showRuns() {
  const { jobruns } = await (await fetch(`/api/jobruns?jobname=${job}`)).json()
  const states = jobruns.map((run) => run.state.tasks.state)
  document.getElementById("runs").textContent = JSON.stringify(states)
}

async function press(what) {
  await fetch(`/api/jobs/${job}/${what}`, { method: "POST" })
  showActive()
}
"""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "dashboard"
    for name, text in {
        "index.html": PAGE,
        "src/plain.js": SCRIPT,
        "css/styles.css": "#name { font-size: 33px }",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    server = Server(tmp_path, ["-m", "goflow", "serve", str(PROGRAM)])
    server.start()
    yield server
    server.stop()


@pytest.mark.parametrize("path", ["", "ui/jobs/nightly"])
def test_its_scripts_styles_and_buttons_work(page: Page, own: Server, path: str) -> None:
    page.goto(f"{own.url}{path}")
    name = page.locator("#name")
    expect(name).to_have_text("nightly")
    expect(name).to_have_css("color", "rgb(0, 0, 255)")
    expect(name).to_have_css("font-size", "33px")
    expect(page.locator("#active")).to_have_text("false")
    page.get_by_role("button", name="Toggle").click()
    expect(page.locator("#active")).to_have_text("true")
    page.get_by_role("button", name="Execute").click()
    dot = page.locator(".dot")
    expect(dot).to_have_css("background-color", "rgb(0, 255, 0)")
    expect(dot).to_have_css("width", "10px")
    expect(page.locator("#runs")).to_have_text('[{"first":"successful","second":"successful"}]')
