"""goflow works under a prefix: mounted in an application or behind a proxy."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from goflow import Goflow, MemoryStore
from goflow.web.prefix import Prefixed, parse_prefix
from tests.web.conftest import Asker, segment, simple


@pytest.fixture(params=["fastapi", "starlette", "root_path", "stripped", "served", "unstripped"])
def mounted(request: pytest.FixtureRequest, ui: Path) -> Iterator[TestClient]:
    """A client with goflow's prefix as its base, for each kind of setup."""
    gf = Goflow(MemoryStore(), ui_path=ui)
    gf.add_job(simple("a/b"))
    base, root = "http://localhost/my flow", ""
    match request.param:
        case "fastapi":
            app = FastAPI(lifespan=gf.lifespan)
            app.mount("/my flow", gf)
        case "starlette":
            app = Starlette(routes=[Mount("/my flow", gf)], lifespan=gf.lifespan)
        case "root_path":  # like uvicorn --root-path: the path includes the root

            async def app(scope, receive, send):  # type: ignore[no-untyped-def]
                if scope["type"] == "http":
                    scope["root_path"] = "/my flow"
                await gf(scope, receive, send)
        case "stripped":  # a proxy has stripped the prefix
            app, base, root = gf, "http://localhost", "/my flow"
        case "served":  # with --root-path, and the prefix stripped
            app, base = Prefixed(gf, "/my flow"), "http://localhost"
        case "unstripped":  # with --root-path, and the prefix kept
            app = Prefixed(gf, "/my flow")
    with TestClient(app, base_url=base, root_path=root, follow_redirects=False) as client:
        yield client


def test_everything_works_under_a_prefix(mounted: TestClient) -> None:
    ask = Asker(mounted)
    assert mounted.get("/api/jobs").json() == {"jobs": ["a/b"]}
    assert mounted.get(f"/api/jobs/{segment('a/b')}").json()["job"] == "a/b"
    execution = ask.run("a/b")
    assert execution["state"] == "successful"
    log = mounted.get(f"/api/executions/{execution['id']}/tasks/first/logs")
    assert log.text == "hello\n"
    assert mounted.delete("/api/jobs").json()["error"]["code"] == "method-not-allowed"
    assert mounted.get("/api/nothing").json()["error"]["code"] == "not-found"


def test_the_dashboard_works_under_a_prefix(mounted: TestClient) -> None:
    home = mounted.get("/")
    assert home.status_code == 307
    assert urljoin("http://proxy/any/prefix/", home.headers["location"]) == (
        "http://proxy/any/prefix/ui/"
    )
    assert '<base href="./">' in mounted.get("/ui/").text
    assert '<base href="../">' in mounted.get("/ui/jobs/a%2Fb").text
    assert mounted.get("/ui/assets/app-0123abcd.js").text == "let page"
    assert mounted.get("/ui/assets/nope.js").status_code == 404


def test_the_openapi_document_names_the_prefix(mounted: TestClient) -> None:
    assert mounted.get("/openapi.json").json()["servers"] == [{"url": "/my%20flow"}]


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        *(("", ""), ("/", ""), ("/goflow", "/goflow"), ("goflow/", "/goflow"), ("/a/b/", "/a/b")),
        *(("/my flow", "/my flow"), ("/my%20flow", "/my flow"), ("/größe", "/größe")),
        *(("/gr%C3%B6%C3%9Fe", "/größe"), ("/100%25", "/100%")),
    ],
)
def test_a_prefix_is_a_path_encoded_or_not(text: str, prefix: str) -> None:
    assert parse_prefix(text) == prefix


@pytest.mark.parametrize(
    "text",
    [
        *("http://a/goflow", "/a?b", "/a#b", "/a//b", "/../a", "/a/.", "/a\n", "/a%0Ab", "/%ff"),
        *("/a\\b", "/%2e%2e/a", "/\ud800", None, 3, b"/goflow"),
    ],
)
def test_an_invalid_prefix_is_refused_by_name(text: Any) -> None:
    with pytest.raises(ValueError, match="root_path"):
        parse_prefix(text)
    with pytest.raises(ValueError, match="root_path"):
        Goflow(MemoryStore(), ui_path=None).serve(":0", root_path=text)


def test_without_the_lifespan_the_first_request_starts_the_engine(ui: Path) -> None:
    gf = Goflow(MemoryStore(), ui_path=ui)
    gf.add_job(simple())
    app = Starlette(routes=[Mount("/flow", gf)])
    with TestClient(app, base_url="http://localhost/flow") as client:
        assert Asker(client).run("simple")["state"] == "successful"
        client.portal.call(gf.engine.stop)  # type: ignore[union-attr]
