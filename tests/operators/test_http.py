import asyncio
import gzip
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from goflow import Get, InvalidJob, Post, Task, Template
from goflow.engine.current import current_log
from goflow.engine.output.capture import captured
from goflow.errors import TaskFailed
from tests.operators.memory_log import MemoryLog, context_with


@dataclass
class Site:
    """A real server on this machine, and its requests."""

    url: str
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)


class Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        size = int(self.headers.get("Content-Length", 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.site.asked.append((self.command, self.path, headers, self.rfile.read(size)))
        path = self.path.partition("?")[0]
        name, _, rest = path.removeprefix("/").partition("/")
        getattr(self, f"answer_{name}")(rest)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass

    def send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer_hello(self, _: str) -> None:
        self.send(200, b"hello", Content_Type="text/plain")

    def answer_status(self, code: str) -> None:
        self.send(int(code), b"" if code == "204" else b"the reason " * 1000)

    def answer_latin(self, _: str) -> None:
        self.send(200, "é".encode("latin-1"), Content_Type="text/plain; charset=latin-1")

    def answer_charset(self, name: str) -> None:
        self.send(200, b"hello", Content_Type=f"text/plain; charset={name}")

    def answer_bytes(self, _: str) -> None:
        self.send(200, b"\xff\xfe\xfd")

    def answer_size(self, size: str) -> None:
        self.send(200, b"x" * int(size))

    def answer_bomb(self, size: str) -> None:
        self.send(200, gzip.compress(b"x" * int(size)), Content_Encoding="gzip")

    def answer_endless(self, _: str) -> None:
        self.send_response(200)
        self.end_headers()
        while not self.site.release.is_set():
            try:
                self.wfile.write(b"x" * 65536)
            except OSError:
                return

    def answer_hang(self, _: str) -> None:
        self.site.release.wait(30)

    def answer_half(self, _: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b"half")

    def answer_garbage(self, _: str) -> None:
        self.wfile.write(b"this is not HTTP\r\n\r\n")

    def answer_redirect(self, rest: str) -> None:
        code, _, times = rest.partition("/")
        target = "/hello" if times == "1" else f"/redirect/{code}/{int(times) - 1}"
        self.send(int(code), Location=target)

    def answer_away(self, _: str) -> None:
        self.send(302, Location="ftp://127.0.0.1/")


@pytest.fixture
def site() -> Iterator[Site]:
    class SiteHandler(Handler):
        pass

    with ThreadingHTTPServer(("127.0.0.1", 0), SiteHandler) as server:
        server.daemon_threads = True
        SiteHandler.site = Site(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield SiteHandler.site
        SiteHandler.site.release.set()
        server.shutdown()
        thread.join()


def run(operator: Get | Post, log: MemoryLog | None = None) -> str:
    return asyncio.run(operator.run(context_with(log or MemoryLog())))


def failure(operator: Get | Post) -> str:
    with pytest.raises(TaskFailed) as caught:
        run(operator)
    return str(caught.value)


# -- results -----------------------------------------------------------------------


def test_the_result_is_the_body_as_text_and_the_request_is_logged(site: Site) -> None:
    log = MemoryLog()
    assert run(Get(f"{site.url}/hello"), log) == "hello"
    assert log.text == f"GET {site.url}/hello → 200 OK, 5 bytes\n"


def test_a_request_is_logged_once_though_the_client_logs_too(site: Site) -> None:
    log = MemoryLog()

    async def scenario() -> None:
        current_log.set(log)
        await Get(site.url.replace("//", "//me:secret@") + "/hello").run(context_with(log))

    with captured():
        asyncio.run(scenario())
    assert [line.startswith("GET http://me:***@127.0.0.1") for line in log.lines] == [True]


def test_headers_are_sent(site: Site) -> None:
    run(Get(f"{site.url}/hello", headers={"X-Word": "größe"}))
    assert site.asked[0][2]["x-word"].encode("latin-1").decode() == "größe"


def test_no_body_is_an_empty_text(site: Site) -> None:
    assert run(Get(f"{site.url}/status/204")) == ""


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("latin", "é"),
        ("bytes", "\ufffd\ufffd\ufffd"),
        ("charset/hex", "hello"),
        ("charset/undefined", "hello"),
        ("charset/no-such", "hello"),
    ],
)
def test_the_body_is_decoded_by_the_servers_charset_if_valid(
    site: Site, path: str, text: str
) -> None:
    assert run(Get(f"{site.url}/{path}")) == text


@pytest.mark.parametrize(
    ("body", "sent"), [("größe", "größe".encode()), (b"\x00\xff", b"\x00\xff")]
)
def test_a_body_is_posted_unchanged(site: Site, body: str | bytes, sent: bytes) -> None:
    assert run(Post(f"{site.url}/hello", body)) == "hello"
    method, _, headers, received = site.asked[0]
    assert (method, received) == ("POST", sent)
    assert "content-type" not in headers


@pytest.mark.parametrize("value", [{"a": [1, None, "é"]}, [], 0, False, "text"])
def test_json_is_posted_as_json(site: Site, value: Any) -> None:
    run(Post(f"{site.url}/hello", json=value))
    _, _, headers, received = site.asked[0]
    assert json.loads(received) == value
    assert headers["content-type"] == "application/json"


def test_a_custom_content_type_is_kept(site: Site) -> None:
    headers = {"content-type": "application/vnd.api+json"}
    run(Post(f"{site.url}/hello", json={}, headers=headers))
    assert site.asked[0][2]["content-type"] == "application/vnd.api+json"


def test_every_attempt_posts_the_same_body(site: Site) -> None:
    value = {"a": 1}
    post = Post(f"{site.url}/hello", json=value)
    run(post)
    value["a"] = 2
    run(post)
    assert [received for *_, received in site.asked] == [b'{"a": 1}'] * 2


def test_redirects_are_followed_ten_times(site: Site) -> None:
    assert run(Get(f"{site.url}/redirect/302/10")) == "hello"
    assert "redirects" in failure(Get(f"{site.url}/redirect/302/11"))


def test_a_307_repeats_the_post_and_a_303_becomes_a_get(site: Site) -> None:
    run(Post(f"{site.url}/redirect/307/1", "body"))
    run(Post(f"{site.url}/redirect/303/1", "body"))
    followed = [(method, body) for method, path, _, body in site.asked if path == "/hello"]
    assert followed == [("POST", b"body"), ("GET", b"")]


# -- failures ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "status", ["404 Not Found", "500 Internal Server Error", "304 Not Modified"]
)
def test_a_status_outside_2xx_fails(site: Site, status: str) -> None:
    url = f"{site.url}/status/{status[:3]}"
    assert failure(Get(url)).startswith(f"GET {url}: {status}")


def test_the_error_has_the_start_of_the_body(site: Site) -> None:
    error = failure(Post(f"{site.url}/status/422", json={}))
    assert "422 Unprocessable" in error
    assert ": the reason the reason" in error
    assert len(error) < 1200


def test_a_body_beyond_the_limit_fails_and_names_the_parameter(site: Site) -> None:
    assert run(Get(f"{site.url}/size/1000", max_body=1000)) == "x" * 1000
    error = failure(Get(f"{site.url}/size/1001", max_body=1000))
    assert error.endswith("the body is larger than max_body=1000 bytes")


@pytest.mark.parametrize("path", ["endless", "bomb/300000000"])
def test_endless_and_exploding_bodies_are_not_read_further(site: Site, path: str) -> None:
    assert "max_body" in failure(Get(f"{site.url}/{path}"))


def test_a_missing_response_times_out(site: Site) -> None:
    url = f"{site.url}/hang"
    error = failure(Get(url, timeout=0.2))
    assert error == f"GET {url}: timed out after 0.2 s, waiting for the answer"


def test_an_endless_body_times_out(site: Site) -> None:
    error = failure(Get(f"{site.url}/endless", timeout=0.3, max_body=10**12))
    assert error.endswith("timed out after 0.3 s, reading the body of the answer 200 OK")


def test_a_refused_connection_is_reported() -> None:
    error = failure(Get("http://127.0.0.1:1/"))
    assert error.startswith("GET http://127.0.0.1:1/: ")
    assert "connect" in error.lower()


@pytest.mark.parametrize("path", ["half", "garbage", "away"])
def test_a_broken_response_is_a_clear_failure(site: Site, path: str) -> None:
    assert failure(Get(f"{site.url}/{path}")).startswith(f"GET {site.url}/{path}: ")


def test_a_password_in_the_url_is_never_shown() -> None:
    error = failure(Get("http://me:secret@127.0.0.1:1/"))
    assert "me:***@127.0.0.1:1" in error
    assert "secret" not in error


@pytest.mark.parametrize(
    "make",
    [
        lambda: Get("example.com"),
        lambda: Get("ftp://example.com"),
        lambda: Get("http://"),
        lambda: Get("http:///path"),
        lambda: Get("http://a b/"),
        lambda: Get("http://a/\n"),
        lambda: Get("http://a:port/"),
        lambda: Get("http://a:99999/"),
        lambda: Get("http://[::1"),
        lambda: Get("http://a/\0"),
        lambda: Get(""),
        lambda: Get(b"http://a/"),  # type: ignore[arg-type]
        lambda: Get("http://a/", timeout=0),
        lambda: Get("http://a/", timeout="1"),  # type: ignore[arg-type]
        lambda: Get("http://a/", max_body=0),
        lambda: Get("http://a/", max_body=1.5),  # type: ignore[arg-type]
        lambda: Get("http://a/", headers=["a"]),  # type: ignore[arg-type]
        lambda: Get("http://a/", headers={"a b": "c"}),
        lambda: Get("http://a/", headers={"a": "b\r\nc: d"}),
        lambda: Get("http://a/", headers={"a": 1}),  # type: ignore[dict-item]
        lambda: Post("http://a/", "b", json={}),
        lambda: Post("http://a/", iter([b"a"])),  # type: ignore[arg-type]
        lambda: Post("http://a/", (b for b in [b"a"])),  # type: ignore[arg-type]
        lambda: Post("http://a/", {"a": 1}),  # type: ignore[arg-type]
        lambda: Post("http://a/", "\ud800"),
        lambda: Post("http://a/", json=object()),
        lambda: Post("http://a/", json=float("nan")),
        lambda: Post("http://a/", json="\ud800"),
    ],
)
def test_an_invalid_argument_is_refused_at_construction(make: Callable[[], object]) -> None:
    with pytest.raises(InvalidJob, match=r"Get|Post"):
        make()


def test_the_client_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, goflow; goflow.Get('http://a/'); sys.exit('httpcore2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- params and templates ----------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "params", "asked"),
    [
        ("hello", {"a": "b c&d", "é": 1}, "/hello?a=b+c%26d&%C3%A9=1"),
        ("hello?x=1", {"a": [True, 2.5]}, "/hello?x=1&a=true&a=2.5"),
        ("hello#part", {"a": "b"}, "/hello?a=b"),
        ("hello", {}, "/hello"),
    ],
)
def test_params_are_added_to_the_query(
    site: Site, path: str, params: dict[str, Any], asked: str
) -> None:
    for operator in (
        Get(f"{site.url}/{path}", params=params),
        Post(f"{site.url}/{path}", params=params),
    ):
        run(operator)
        assert site.asked.pop()[1] == asked


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"a": None}, "params['a'] must be a str, a number, a bool or a list of these"),
        ({"a": ["b", {}]}, "params['a'] must be a str, a number, a bool or a list of these"),
        ({1: "a"}, "params: 1 must be a str"),
        ({"a": "\ud800"}, "params['a'] has characters that cannot be encoded"),
        ("a=b", "params must be a mapping"),
    ],
)
def test_params_are_checked_when_written(params: Any, told: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        Get("http://localhost/", params=params)
    assert told in str(caught.value)


def rendered(operator: Get | Post, **context: Any) -> MemoryLog:
    log = MemoryLog()
    asyncio.run(operator.run(context_with(log, **context)))
    return log


def test_a_get_takes_templates_in_url_params_and_headers(site: Site) -> None:
    get = Get(
        Template(f"{site.url}/hello?day={{{{ params.day | urlencode }}}}&key=abc"),
        params={"rows": [Template("{{ results.extract.rows }}"), "x y"], "own": "abc"},
        headers={"X-Day": Template("{{ params.day }}"), "X-Key": Template("key {{ job }}")},
    )
    log = rendered(get, params={"day": "a b"}, results={"extract": {"rows": 7}})
    _, path, headers, _ = site.asked[0]
    assert path == "/hello?day=a%20b&key=abc&rows=7&rows=x+y&own=abc"
    assert (headers["x-day"], headers["x-key"]) == ("a b", "key j")
    assert log.lines == [
        f"rendered url: {site.url}/hello?day=a%20b&key=***&rows=7&rows=***&own=***",
        "rendered headers['X-Day']: a b",
        "rendered headers['X-Key']: ***",
        f"GET {site.url}/hello?day=***&key=***&rows=***&rows=***&own=*** → 200 OK, 5 bytes",
    ]


def test_passwords_of_a_rendered_url_are_not_shown(site: Site) -> None:
    url = site.url.replace("//", "//me:{{ params.word }}@")
    log = rendered(Get(Template(f"{url}/hello")), params={"word": "secret"})
    assert "secret" not in log.text
    assert log.lines[0] == f"rendered url: {site.url.replace('//', '//me:***@')}/hello"


def test_a_post_takes_templates_in_json_and_keeps_their_types(site: Site) -> None:
    value = {
        "rows": Template("{{ results.extract.rows }}"),
        "text": [Template("{{ results.extract.rows }} rows"), "{{ plain }}"],
        "all": Template("{{ results.extract }}"),
        "at": Template("{{ submitted_at }}"),
    }
    log = rendered(Post(f"{site.url}/hello", json=value), results={"extract": {"rows": 7}})
    _, _, headers, received = site.asked[0]
    assert headers["content-type"] == "application/json"
    assert json.loads(received) == {
        "rows": 7,
        "text": ["7 rows", "{{ plain }}"],
        "all": {"rows": 7},
        "at": "2026-01-01T00:00:00+00:00",
    }
    assert log.lines[:3] == [
        "rendered json['rows']: 7",
        "rendered json['text'][0]: 7 rows",
        "rendered json['all']: {'rows': 7}",
    ]


def test_a_post_takes_a_template_as_its_body(site: Site) -> None:
    log = rendered(Post(f"{site.url}/hello", Template("größe {{ params.n }}")), params={"n": 5})
    assert site.asked[0][3] == "größe 5".encode()
    assert log.lines[0] == "rendered body: größe 5"


def test_json_is_checked_when_written_though_it_has_templates() -> None:
    with pytest.raises(InvalidJob, match="json cannot be encoded"):
        Post("http://localhost/", json=[Template("{{ job }}"), {1, 2}])


def test_the_repr_of_a_template_of_a_url_is_that_of_the_template() -> None:
    assert repr(Get(Template("{{ params.url }}"))) == (
        "Get(Template('{{ params.url }}'), timeout=30, max_body=1048576)"
    )


def test_secrets_in_the_text_of_a_template_are_not_shown() -> None:
    get = Get(
        Template("https://me:word@host/{{ params.a }}?day={{ params.day | urlencode }}&key=word"),
        headers={
            "X-Key": Template("word {{ job }}"),
            "X-Day": Template("{{ params.day }}"),
            "Accept": Template("text/{{ params.kind }}"),
        },
        params={"key": Template("word{{ job }}")},
    )
    assert "word" not in repr(get)
    shown = {place: text for place, _, text in Task("t", get).templates}
    assert shown == {
        "url": "https://me:***@host/{{ params.a }}?day={{ params.day | urlencode }}&key=***",
        "headers['X-Key']": "***",
        "headers['X-Day']": "{{ params.day }}",
        "headers['Accept']": "text/{{ params.kind }}",
        "params['key']": "***",
    }
