"""The dashboard's page and files are served at any depth, and no other files."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from goflow import Goflow, MemoryStore
from goflow.engine.engine import Engine
from goflow.engine.metrics import Metrics
from goflow.web.routes import build
from tests.web.conftest import segment, simple


@pytest.mark.parametrize("path", ["/", "/ui"])
def test_the_root_redirects_to_the_dashboard(client: TestClient, path: str) -> None:
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
def test_every_view_is_the_page_with_its_base(client: TestClient, path: str, base: str) -> None:
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


def test_a_symlink_out_of_the_folder_is_not_followed(client: TestClient, ui: Path) -> None:
    (ui / "assets" / "out.txt").symlink_to(ui.parent / "secret.txt")
    assert "secret" not in client.get("/ui/assets/out.txt").text


@pytest.mark.parametrize(
    ("path", "hashed"),
    [
        *(("app-0123abcd.js", True), ("app-B2x_y-Zq1.css", True), ("app.js", False)),
        *(
            ("app-settings.js", False),
            ("..%2Ffavicon.svg", False),
            ("..%2Fx%2F..%2Fa-1234567.js", False),
        ),
    ],
)
def test_only_files_with_a_hash_in_their_names_are_cached_forever(
    client: TestClient, ui: Path, path: str, hashed: bool
) -> None:
    for name in ("app-B2x_y-Zq1.css", "app.js", "app-settings.js"):
        (ui / "assets" / name).touch()
    (ui / "a-1234567.js").touch()
    answer = client.get(f"/ui/assets/{path}")
    assert answer.status_code == 200
    assert ("immutable" in answer.headers["cache-control"]) is hashed


HIDDEN = (".env", ".git/config", "sub/.htpasswd", "index.html~", "#index.html#", ".index.html.swp")


@pytest.mark.parametrize("name", [*HIDDEN, "link.txt", "linked/config", "sub/../.env"])
def test_hidden_files_are_not_served(ui: Path, name: str) -> None:
    for hidden in HIDDEN:
        (ui / hidden).parent.mkdir(exist_ok=True)
        (ui / hidden).write_text("secret")
        (ui / "src" / hidden).parent.mkdir(exist_ok=True, parents=True)
        (ui / "src" / hidden).write_text("secret")
    (ui / "link.txt").symlink_to(ui / ".env")
    (ui / "linked").symlink_to(ui / ".git")
    with TestClient(Goflow(MemoryStore(), ui_path=ui), base_url="http://localhost") as client:
        for path in (
            f"/ui/{quote(name)}",
            f"/ui/{segment(name)}",
            f"/ui/assets/..%2F{segment(name)}",
        ):
            answer = client.get(path)
            assert "secret" not in answer.text
            assert answer.status_code == 404 or "page" in answer.text
        for path in (f"/src/{quote(name)}", f"/src/..%2F{segment(name)}"):
            assert client.get(path).status_code == 404


def test_an_unreadable_file_is_a_404(ui: Path) -> None:
    (ui / "assets" / "loop").symlink_to(ui / "assets" / "loop")
    (ui / "assets" / "gone").symlink_to(ui / "nowhere")
    os.mkfifo(ui / "assets" / "pipe")
    (ui / "assets" / "folder").mkdir()
    with TestClient(Goflow(MemoryStore(), ui_path=ui), base_url="http://localhost") as client:
        for name in ("loop", "loop/x", "gone", "pipe", "folder", "app-0123abcd.js/x"):
            assert client.get(f"/ui/assets/{name}").status_code == 404


def policies_of(gf: Goflow, *paths: str) -> list[str]:
    with TestClient(gf, base_url="http://localhost") as client:
        return [client.get(path).headers["content-security-policy"] for path in paths]


def test_a_custom_dashboard_may_have_inline_scripts_but_no_external_files(
    ui: Path,
) -> None:
    gf = Goflow(MemoryStore(), ui_path=ui)
    pages = ("/ui/", "/ui/jobs/x", "/ui/favicon.svg")
    others = ("/api/jobs", "/nothing", "/openapi.json")
    policies = policies_of(gf, *pages, *others)
    for policy in policies[: len(pages)]:
        assert "script-src 'self' 'unsafe-inline'" in policy
        assert "style-src 'self' 'unsafe-inline'" in policy
        assert "default-src 'none'" in policy
        assert "http" not in policy
        assert "*" not in policy
    for policy in policies[len(pages) :]:
        assert "unsafe" not in policy


def test_a_custom_dashboard_may_set_a_policy(ui: Path) -> None:
    gf = Goflow(MemoryStore(), ui_path=ui, ui_policy="default-src https://cdn.example")
    page, api = policies_of(gf, "/ui/", "/api/jobs")
    assert page == "default-src https://cdn.example"
    assert "cdn" not in api


def test_the_bundled_dashboard_has_the_strict_policy() -> None:
    assert "unsafe" not in policies_of(Goflow(MemoryStore()), "/ui/")[0]


@pytest.mark.parametrize("policy", ["", " ", "a\nb", "é", 3, b"default-src 'self'"])
def test_an_invalid_policy_is_refused(ui: Path, policy: Any) -> None:
    with pytest.raises(ValueError, match="ui_policy"):
        Goflow(MemoryStore(), ui_path=ui, ui_policy=policy)


@pytest.mark.parametrize("options", [{}, {"ui_path": None}])
def test_a_policy_needs_a_custom_dashboard(options: Any) -> None:
    with pytest.raises(ValueError, match="ui_policy"):
        Goflow(MemoryStore(), ui_policy="default-src 'self'", **options)


def test_folders_of_gos_dashboard_have_their_original_paths(ui: Path) -> None:
    for name, text in {
        "css/styles.css": "p {}",
        "src/plain.js": "let a",
        "dist/dist.js": "",
    }.items():
        (ui / name).parent.mkdir()
        (ui / name).write_text(text)
    with TestClient(Goflow(MemoryStore(), ui_path=ui), base_url="http://localhost") as client:
        assert client.get("/src/plain.js").text == "let a"
        assert client.get("/css/styles.css").headers["content-type"].startswith("text/css")
        assert client.get("/dist/dist.js").headers["cache-control"] == "no-cache"
        for path in ("/src/", "/src/none.js", "/css/../index.html", "/src/..%2Findex.html%00"):
            assert client.get(path).status_code == 404
    with TestClient(Goflow(MemoryStore()), base_url="http://localhost") as client:
        assert client.get("/src/main.tsx").status_code == 404


def test_a_dashboard_folder_without_a_page_is_reported(tmp_path: Path) -> None:
    with TestClient(Goflow(MemoryStore(), ui_path=tmp_path), base_url="http://localhost") as client:
        answer = client.get("/ui/")
        assert answer.status_code == 404
        assert "index.html" in answer.text
        assert client.get("/src/plain.js").status_code == 404


def test_a_custom_index_is_served_unchanged(ui: Path) -> None:
    (ui / "index.html").write_text("my own page")
    with TestClient(Goflow(MemoryStore(), ui_path=ui), base_url="http://localhost") as client:
        assert client.get("/ui/jobs/x").text == "my own page"


def test_without_a_dashboard_only_the_api_is_served() -> None:
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
    app = build(engine, Metrics(engine), ui=tmp_path / "static", allowed_hosts=())
    answer = TestClient(app, base_url="http://localhost").get("/ui/")
    assert answer.status_code == 404
    assert "make ui" in answer.text
