"""Secrets in addresses and headers are never shown: not in errors, logs or reprs."""

import asyncio
import logging
import pickle
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goflow import Get, InvalidJob, Job, Post, Task
from goflow.engine.current import current_log
from goflow.engine.output.capture import captured
from goflow.errors import TaskFailed
from goflow.operators.masking import masked
from tests.operators.memory_log import MemoryLog, context_with
from tests.operators.sockets import Server, answers

SECRET = "s3cr3t-W0rd"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://a/b/c", "http://a/b/c"),
        ("http://a/b?key=value&b=2", "http://a/b?key=***&b=***"),
        ("http://a/b?key=", "http://a/b?key="),
        ("http://a/?sometoken", "http://a/?***"),
        ("http://a/?", "http://a/?"),
        ("http://a/?x=1&&y", "http://a/?x=***&&***"),
        ("http://a/?x=a=b=c", "http://a/?x=***"),
        ("http://a/?x[]=1;y=2", "http://a/?x[]=***"),
        ("http://a/?u=http://b/?c=d", "http://a/?u=***"),
        ("http://a/b#access_token=x", "http://a/b#***"),
        ("http://a/b#", "http://a/b#"),
        ("http://a#b?c=d", "http://a#***"),
        ("http://me:word@a:80/b", "http://me:***@a:80/b"),
        ("http://token@a/", "http://***@a/"),
        ("http://token:@a/", "http://***@a/"),
        ("http://token:x-oauth-basic@a/", "http://***@a/"),
        ("http://me:w@rd@a/", "http://me:***@a/"),
        ("http://me:word@[::1]:80/?x=1", "http://me:***@[::1]:80/?x=***"),
        ("http://a/@scope/pkg@1", "http://a/@scope/pkg@1"),
        ("http://a/b;jsessionid=1/c;d=2?e", "http://a/b;jsessionid=***/c;d=***?***"),
        ("http://a/proxy/http://b:c@d/", "http://a/proxy/http://b:c@d/"),
        # not an address
        ("http://me:pa/ss@a/", "http://***@a/"),
        ("http://me:pa?ss@a/", "http://***@a/"),
        ("http://me:pa#ss@a/", "http://***@a/"),
        ("http://me:word@a:port/?x=1", "http://***@a:port/?x=***"),
        ("me:word@a/?x=1", "***@a/?x=***"),
        ("ftp://me:word@a/", "ftp://***@a/"),
        ("a?key=value", "a?key=***"),
        ("", ""),
    ],
)
def test_an_address_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert masked(url) == shown


@given(st.text(), st.text(alphabet="abc123./-%"))
def test_any_text_can_be_masked(text: str, path: str) -> None:
    masked(text)
    assert masked(f"https://host/{path}") == f"https://host/{path}"
    assert SECRET not in masked(f"https://me:{SECRET}@host/{path}?a={SECRET}&{SECRET}#{SECRET}")


ADDRESSES = [
    "http://me:{}@127.0.0.1:1/",
    "http://{}@127.0.0.1:1/",
    "http://{}:@127.0.0.1:1/",
    "http://127.0.0.1:1/path?token={}",
    "http://127.0.0.1:1/path?a=1&token={}&b=2",
    "http://127.0.0.1:1/path?{}",
    "http://127.0.0.1:1/path#{}",
    "http://127.0.0.1:1/;session={}",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_repr_and_no_error_shows_a_secret(address: str) -> None:
    url = address.format(SECRET)
    for operator in (Get(url, headers={"X-Key": SECRET}), Post(url, SECRET, headers={"X": SECRET})):
        task = Task("t", operator)
        shown = [repr(operator), str(operator), f"{operator}", repr(task), repr([operator])]
        with pytest.raises(TaskFailed) as caught:
            asyncio.run(operator.run(context_with(MemoryLog())))
        shown += [str(caught.value), repr(caught.value)]
        with pytest.raises(InvalidJob) as invalid:
            Job("j", tasks=[task, Task("t", operator)])
        shown.append(str(invalid.value))
        assert all(SECRET not in text for text in shown)
        assert "127.0.0.1:1" in str(caught.value)
        assert pickle.loads(pickle.dumps(operator)) == operator


@pytest.mark.parametrize(
    "make",
    [
        lambda: Get(f"ftp://me:{SECRET}@host/"),
        lambda: Get(f"me:{SECRET}@host/"),
        lambda: Get(f"http://me:{SECRET}/x@host/"),
        lambda: Get(f"http://me:{SECRET}@host:port/"),
        lambda: Get(f"http://me:{SECRET}@[::1/"),
        lambda: Get(f"http://host/?token={SECRET} \n"),
        lambda: Get(f"https//host/?token={SECRET}"),
        lambda: Get(f"http://host/?token={SECRET}\ud800"),
        lambda: Get(SECRET.encode()),  # type: ignore[arg-type]
        lambda: Get("http://a/", headers={"Authorization": f"Bearer {SECRET}\n"}),
        lambda: Get("http://a/", headers={"Authorization": f"Bearer {SECRET}\0"}),
        lambda: Get("http://a/", headers={"Authorization": f"Bearer {SECRET}\x07"}),
        lambda: Get("http://a/", headers={"Authorization": f"Bearer {SECRET}\ud800"}),
        lambda: Get("http://a/", headers={"Authorization": SECRET.encode()}),  # type: ignore[dict-item]
        lambda: Get("http://a/", headers=[("Authorization", SECRET)]),  # type: ignore[arg-type]
        lambda: Get(f"http://a/?x={SECRET}", timeout=-1),
        lambda: Get(f"http://a/?x={SECRET}", max_body=0),
        lambda: Post("http://a/", {"password": SECRET}),  # type: ignore[arg-type]
        lambda: Post("http://a/", f"{SECRET}\ud800"),
        lambda: Post("http://a/", json={"a": f"{SECRET}\ud800"}),
        lambda: Post("http://a/", json={SECRET: object()}),
        lambda: Post(f"http://a/?x={SECRET}", "a", json={}),
    ],
)
def test_no_error_of_a_definition_shows_a_secret(make: Callable[[], object]) -> None:
    with pytest.raises(InvalidJob) as caught:
        make()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding"])
def test_headers_that_describe_the_body_are_refused(name: str) -> None:
    with pytest.raises(InvalidJob, match="is set by goflow"):
        Post("http://a/", "b", headers={name: "1"})


def test_a_duplicate_header_is_refused() -> None:
    with pytest.raises(InvalidJob, match="'HOST' is given twice"):
        Get("http://a/", headers={"Host": "a", "HOST": "b"})


def test_a_secret_repeated_by_a_server_is_masked() -> None:
    """In the body of an error, in the status, and in a response that is not HTTP."""
    url = f"/?token={SECRET}&percent=s3%C3%A9cr%3Dt%21"
    headers = {"Authorization": f"Bearer {SECRET}", "X-Key": f"{SECRET}-key"}
    echo = f"you said {SECRET}, s3écr=t! and {SECRET}-key"
    log = MemoryLog()
    for script in (
        answers(echo.encode(), status="403 Forbidden"),
        answers(b"", status=f"403 {SECRET}"),
        answers(b"", f"Location: /login?next={SECRET}", status="302 Found"),
        answers(b"", f"Content-Encoding: {SECRET}"),
        lambda connection, head: connection.sendall(f"no HTTP: {SECRET}\r\n\r\n".encode()),
    ):
        with Server(script) as server, pytest.raises(TaskFailed) as caught:
            asyncio.run(Get(server.url + url, headers=headers).run(context_with(log)))
        assert SECRET not in str(caught.value)
        assert "s3écr=t" not in str(caught.value)
    assert SECRET not in log.text


def test_a_log_at_debug_level_shows_no_secret() -> None:
    """The task's log has the records of libraries, at the level that the program chose."""
    log, root = MemoryLog(), logging.getLogger()

    async def scenario(url: str) -> None:
        current_log.set(log)
        operator = Get(f"{url}/?token={SECRET}", headers={"Authorization": SECRET})
        await operator.run(context_with(log))

    before = root.level
    try:
        with captured():
            root.setLevel(logging.DEBUG)
            with Server(answers(b"hello", f"Set-Cookie: session={SECRET}")) as server:
                asyncio.run(scenario(server.url))
    finally:
        root.setLevel(before)
    assert "200 OK, 5 bytes" in log.text
    assert SECRET not in log.text
