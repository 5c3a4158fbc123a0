"""Cookies, kept by a jar of ``http.cookiejar``."""

from __future__ import annotations

from collections.abc import Callable
from http.cookiejar import CookieJar, DefaultCookiePolicy, MozillaCookieJar
from pathlib import Path
from typing import Any

import pytest

import ae_core as ae
from ae_handle import Handle
from ae_http import Client, InvalidRequest, RedirectRefused

Run = Callable[[Any], Any]


def _cookies(head: bytes) -> list[str]:
    """Return what is in the Cookie field."""
    lines = [line for line in head.decode().split("\r\n") if line.lower().startswith("cookie:")]
    assert len(lines) < 2
    return sorted(lines[0].partition(":")[2].strip().split("; ")) if lines else []


def test_what_a_response_sets_goes_along_with_the_next_request(
    backend: ae.abc.Backend, serve: Any, reply: Any, run: Run
) -> None:
    fields = ("Set-Cookie: a=1; Expires=Wed, 09 Jun 2100 10:18:14 GMT", "Set-Cookie: b=2; Path=/x")
    server = serve(reply(b"", *fields))

    async def main() -> None:
        async with Client(cookies=CookieJar()) as client:
            for path in ("/x", "/x", "/y"):
                await client.get(server.url + path)

    run(main())
    assert [_cookies(head) for head in server.requests] == [[], ["a=1", "b=2"], ["a=1"]]


def test_a_redirect_sets_cookies_too_and_the_jar_says_who_gets_them(serve: Any, reply: Any) -> None:
    other = serve(reply(b"there", "Set-Cookie: other=1"))

    def handler(handle: Handle, head: bytes) -> None:
        if head.startswith(b"GET /login"):
            handle.push_write(
                reply(b"", "Set-Cookie: id=7", "Location: /home", status="303 See Other")
            )
        else:
            away = other.url.replace("127.0.0.1", "localhost")
            handle.push_write(reply(b"", f"Location: {away}", status="302 Found"))

    server = serve(handler)
    jar = CookieJar()
    with Client(cookies=jar) as client:
        assert client.get(server.url + "/login").recv().body == b"there"
    assert [_cookies(head) for head in server.requests] == [[], ["id=7"]]
    assert [_cookies(head) for head in other.requests] == [[]]
    assert sorted(cookie.name for cookie in jar) == ["id", "other"]


def test_a_cookie_among_the_headers_replaces_those_of_the_jar(serve: Any, reply: Any) -> None:
    server = serve(reply(b"", "Set-Cookie: a=1"))
    with Client(cookies=CookieJar()) as client:
        client.get(server.url).recv()
        client.get(server.url, headers={"cookie": "mine=1"}).recv()
        client.get(server.url).recv()
    assert [_cookies(head) for head in server.requests] == [[], ["mine=1"], ["a=1"]]


def test_a_secure_cookie_is_for_https_only(
    serve: Any, reply: Any, server_context: Any, trusting: Any
) -> None:
    secure = serve(reply(b"", "Set-Cookie: a=1; Secure"), server_context)
    plain = serve(reply(b""))
    with Client(cookies=CookieJar(), tls_context=trusting) as client:
        for url in (secure.url, plain.url, secure.url):
            client.get(url).recv()
    assert [_cookies(head) for head in secure.requests] == [[], ["a=1"]]
    assert _cookies(plain.requests[0]) == []


def test_cookies_that_are_set_again_are_replaced_and_deleted(serve: Any, reply: Any) -> None:
    answers = iter(("a=1", "a=2", "a=; Max-Age=0", "b=1"))
    server = serve(
        lambda handle, head: handle.push_write(reply(b"", f"Set-Cookie: {next(answers)}"))
    )
    with Client(cookies=CookieJar()) as client:
        for _ in range(4):
            client.get(server.url).recv()
    assert [_cookies(head) for head in server.requests] == [[], ["a=1"], ["a=2"], []]


def test_the_policy_of_the_jar_decides(serve: Any, reply: Any) -> None:
    server = serve(reply(b"", "Set-Cookie: a=1"))
    jar = CookieJar(DefaultCookiePolicy(blocked_domains=["127.0.0.1"]))
    with Client(cookies=jar) as client:
        client.get(server.url).recv()
    assert len(jar) == 0


def test_a_jar_in_a_file_and_an_upgrade_that_was_refused(
    serve: Any, reply: Any, tmp_path: Path
) -> None:
    server = serve(reply(b"", "Set-Cookie: a=1; Max-Age=1000"))
    jar = MozillaCookieJar(str(tmp_path / "cookies"))
    with Client(cookies=jar) as client:
        client.upgrade(server.url, "echo").recv()
    jar.save()
    kept = MozillaCookieJar(str(tmp_path / "cookies"))
    kept.load()
    with Client(cookies=kept) as client, client.stream("GET", server.url).recv() as stream:
        stream.read_all().recv()
    assert [_cookies(head) for head in server.requests] == [[], ["a=1"]]


@pytest.mark.parametrize(
    "field",
    [
        "",
        "=",
        ";;;",
        "a",
        "a=\x80\xff",
        'a="x',
        "a=1; Expires=never; Max-Age=x; Domain=.; Path",
        "=" * 9000,
    ],
)
def test_whatever_a_server_sets_the_response_is_a_response(
    serve: Any, reply: Any, field: str
) -> None:
    answer = reply(b"ok").replace(
        b"\r\n\r\n", b"\r\nSet-Cookie: " + field.encode("latin-1") + b"\r\n\r\n"
    )
    server = serve(answer)
    with Client(cookies=CookieJar()) as client:
        for _ in range(2):
            assert client.get(server.url).recv().body == b"ok"


def test_a_cookie_that_cannot_be_sent_is_refused_at_once(serve: Any, reply: Any) -> None:
    server = serve(reply(b"", "Set-Cookie: a=1"))
    jar = CookieJar()
    with Client(cookies=jar) as client:
        client.get(server.url).recv()
        for cookie in jar:
            cookie.value = "1\r\nX: y"
        with pytest.raises(InvalidRequest):
            client.get(server.url)
    assert len(server.requests) == 1


class _Broken(CookieJar):
    """A jar whose storage fails: when it is asked for the second time, or told."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self._where = where
        self._asked = 0

    def add_cookie_header(self, request: Any) -> None:
        self._asked += 1
        if self._where == "asked" and self._asked == 2:
            raise OSError("the disk is full")

    def extract_cookies(self, response: Any, request: Any) -> None:
        if self._where == "told":
            raise OSError("the disk is full")


def test_a_jar_that_raises_at_a_redirect_fails_the_request(serve: Any, reply: Any) -> None:
    server = serve(reply(b"", "Location: /x", status="302 x"))
    with Client(cookies=_Broken("asked"), timeout=20) as client:
        with pytest.raises(RedirectRefused, match="the disk is full") as caught:
            client.get(server.url).recv()
    assert isinstance(caught.value.__cause__, OSError)
    assert len(server.requests) == 1


def test_what_a_jar_raises_that_is_told_is_reported_and_the_response_comes(
    serve: Any, reply: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[BaseException] = []
    monkeypatch.setattr(ae, "exception_hook", lambda error, watcher: seen.append(error))
    server = serve(reply(b"x", "Set-Cookie: a=b"))
    with Client(cookies=_Broken("told"), timeout=20) as client:
        assert client.get(server.url).recv().body == b"x"
    assert [str(error) for error in seen] == ["the disk is full"]


def test_a_policy_may_ask_what_a_request_of_the_standard_library_tells(
    serve: Any, reply: Any
) -> None:
    seen = []

    class Policy(DefaultCookiePolicy):
        def set_ok(self, cookie: Any, request: Any) -> bool:
            seen.append((request.unverifiable, request.origin_req_host, request.host, request.type))
            return super().set_ok(cookie, request)

    server = serve(reply(b"", "Set-Cookie: a=b"))
    with Client(cookies=CookieJar(Policy(strict_ns_unverifiable=True))) as client:
        client.get(server.url).recv()
    assert seen == [(False, "127.0.0.1", f"127.0.0.1:{server.port}", "http")]


def test_a_cookie_of_rfc_2965_is_taken_by_a_policy_that_wants_those(serve: Any, reply: Any) -> None:
    server = serve(reply(b"", 'Set-Cookie2: a=b; Version=1; Path="/"; Port'))
    jar = CookieJar(DefaultCookiePolicy(rfc2965=True))
    with Client(cookies=jar) as client:
        client.get(server.url).recv()
    assert [(cookie.name, cookie.port) for cookie in jar] == [("a", str(server.port))]
