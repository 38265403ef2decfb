"""The dashboard's page and files are served at any depth, and nothing else is."""

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from goflow import Goflow, MemoryStore
from goflow.engine.engine import Engine
from goflow.engine.vitals import Vitals
from goflow.web.routes import build
from tests.web.conftest import segment, simple


@pytest.mark.parametrize("path", ["/", "/ui"])
def test_the_way_leads_to_the_dashboard(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 307
    assert str(answer.next_request.url) == "http://localhost/ui/"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("path", "base"),
    [
        ("/ui/", "./"),
        ("/ui/jobs", "./"),
        ("/ui/jobs/", "../"),
        ("/ui/jobs/simple", "../"),
        ("/ui/jobs/" + segment("a/../b"), "../"),
        ("/ui/jobs/simple/executions/x", "../../../"),
        ("/ui/jobs/assets", "../"),
        ("/ui//x", "../"),
    ],
)
def test_every_view_is_the_page_with_the_way_back(client: TestClient, path: str, base: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert f'<base href="{base}">' in answer.text
    assert answer.text.endswith("page</html>")


def test_files_are_served_with_their_types_and_cached(client: TestClient) -> None:
    script = client.get("/ui/assets/app-0123abcd.js")
    assert script.text == "let page"
    assert script.headers["content-type"].startswith("text/javascript")
    assert "immutable" in script.headers["cache-control"]
    icon = client.get("/ui/favicon.svg")
    assert icon.headers["content-type"] == "image/svg+xml"
    assert icon.headers["cache-control"] == "no-cache"
    again = client.get("/ui/favicon.svg", headers={"if-none-match": icon.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_missing_asset_is_a_404(client: TestClient) -> None:
    for path in ("/ui/assets/", "/ui/assets/old.js", "/ui/assets/%00", "/ui/assets/" + "x" * 5000):
        assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        *("/ui/../secret.txt", "/ui/..%2Fsecret.txt", "/ui/assets/..%2F..%2Fsecret.txt"),
        *("/ui/assets/../../secret.txt", "/ui/%2e%2e/secret.txt", "/ui/..%5Csecret.txt"),
        *("/ui//etc/passwd", "/ui/%2Fetc%2Fpasswd", "/ui/assets/%2Fetc%2Fpasswd"),
    ],
)
def test_nothing_outside_the_folder_is_served(client: TestClient, path: str) -> None:
    client.base_url = "http://localhost"
    answer = client.get(path)
    assert "secret" not in answer.text
    assert "root:" not in answer.text


def test_a_link_that_leads_out_of_the_folder_is_not_followed(client: TestClient, ui: Path) -> None:
    (ui / "assets" / "out.txt").symlink_to(ui.parent / "secret.txt")
    assert "secret" not in client.get("/ui/assets/out.txt").text


def test_an_index_of_ones_own_is_served_as_it_is(ui: Path) -> None:
    (ui / "index.html").write_text("my own page")
    with TestClient(Goflow(MemoryStore(), ui_path=ui), base_url="http://localhost") as client:
        assert client.get("/ui/jobs/x").text == "my own page"


def test_without_a_dashboard_there_is_the_api_alone() -> None:
    gf = Goflow(MemoryStore(), ui_path=None)
    gf.add_job(simple())
    with TestClient(gf, base_url="http://localhost", follow_redirects=False) as client:
        assert client.get("/api/jobs").status_code == 200
        for path in ("/", "/ui", "/ui/", "/ui/jobs/simple"):
            answer = client.get(path)
            assert answer.status_code == 404
            assert "dashboard" in answer.json()["error"]["message"]


def test_a_dashboard_that_was_not_built_says_how_to_build_it(tmp_path: Path) -> None:
    engine = Engine(MemoryStore())
    app = build(engine, Vitals(engine), ui=tmp_path / "static", allowed_hosts=())
    answer = TestClient(app, base_url="http://localhost").get("/ui/")
    assert answer.status_code == 404
    assert "make ui" in answer.text
