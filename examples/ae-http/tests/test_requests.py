"""What goes out: URLs, header fields, bodies, redirects and proxies, without a network."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ae_http import Headers, InvalidRequest, RedirectRefused, environment_proxy
from ae_http._proxy import choose_proxy
from ae_http._redirect import follow, is_redirect
from ae_http._request import make_request
from ae_http._url import join, parse_url

AGENT = [("User-Agent", "test")]


@pytest.mark.parametrize(
    ("url", "host", "port", "authority", "path"),
    [
        ("http://a", "a", 80, "a", "/"),
        ("HTTP://A.example/B?c#d", "a.example", 80, "a.example", "/B?c"),
        ("https://a:443/", "a", 443, "a", "/"),
        ("https://a:80/", "a", 80, "a:80", "/"),
        ("http://a:/x", "a", 80, "a", "/x"),
        ("http://a?q", "a", 80, "a", "/?q"),
        ("http://[::1]:8080/x", "::1", 8080, "[::1]:8080", "/x"),
        ("http://[fe80::1%25lo]/", "fe80::1%lo", 80, "[fe80::1]", "/"),
        (
            "http://bücher.example/ü?ö",
            "xn--bcher-kva.example",
            80,
            "xn--bcher-kva.example",
            "/%C3%BC?%C3%B6",
        ),
        ('http://a/%41%zz"<>{}|^`', "a", 80, "a", "/%41%zz%22%3C%3E%7B%7D%7C%5E%60"),
        ("http://a/x//../y", "a", 80, "a", "/x//../y"),
    ],
)
def test_url(url: str, host: str, port: int, authority: str, path: str) -> None:
    target = parse_url(url)
    assert (target.host, target.port, target.authority, target.path) == (
        host,
        port,
        authority,
        path,
    )
    assert parse_url(target.url)[3:6] == target[3:6]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a",
        "/x",
        "ftp://a/",
        "http:///x",
        "http://",
        "http://a b/",
        "http://a/\r\nX: y",
        "http://a/\n",
        "http://a/\0",
        "http://a:0/",
        "http://a:65536/",
        "http://a:x/",
        "http://[::1",
        "http://a\\@b/",
        "http://a%00b/",
        "http://a<b/",
        "http://\u2100.example/",
        "http://" + "a" * 64 + "ü.example/",
    ],
)
def test_url_that_cannot_be_meant_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_url(url)


def test_user_information_becomes_credentials_and_is_not_sent_as_url() -> None:
    target = parse_url("http://us%40er:p%3Aw@a/")
    assert target.credentials == "Basic dXNAZXI6cDp3"
    assert "@" not in target.url
    wire = make_request("GET", target, (), None, AGENT).wire
    assert b"\r\nAuthorization: Basic dXNAZXI6cDp3\r\n" in wire
    wire = make_request("GET", target, {"authorization": "x"}, None, AGENT).wire
    assert wire.count(b"uthorization") == 1


def test_bare_request() -> None:
    assert make_request("GET", parse_url("http://a/b"), (), None, AGENT).wire == (
        b"GET /b HTTP/1.1\r\nHost: a\r\nUser-Agent: test\r\n\r\n"
    )


def test_fields_of_the_caller_replace_the_defaults() -> None:
    wire = make_request(
        "GET", parse_url("http://a/"), {"user-agent": "me", "HOST": "b"}, None, AGENT
    ).wire
    assert wire == b"GET / HTTP/1.1\r\nuser-agent: me\r\nHOST: b\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "body", "line"),
    [
        ("POST", None, b"Content-Length: 0\r\n"),
        ("PUT", b"", b"Content-Length: 0\r\n"),
        ("GET", b"", b"Content-Length: 0\r\n"),
        ("POST", bytearray(b"abc"), b"Content-Length: 3\r\n"),
        ("POST", memoryview(b"abc"), b"Content-Length: 3\r\n"),
        ("POST", [b"abc"], b"Transfer-Encoding: chunked\r\n"),
    ],
)
def test_framing_of_the_body(method: str, body: object, line: bytes) -> None:
    wire = make_request(method, parse_url("http://a/"), (), body, AGENT).wire
    assert line in wire


def test_large_body_is_not_copied_behind_the_head() -> None:
    body = bytes(100_000)
    request = make_request("PUT", parse_url("http://a/"), (), body, AGENT)
    assert request.large_body is body
    assert request.wire.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "headers",
    [
        {"A": "b\r\nC: d"},
        {"A": "b\n"},
        {"A": "b\0"},
        {"A\r\nB": "c"},
        {"A:": "b"},
        {"": "b"},
        {"A b": "c"},
        {"A": "\u20ac"},
        {"Transfer-Encoding": "chunked"},
        {"connection": "close"},
        {"Keep-Alive": "x"},
        {"TE": "gzip"},
        {"Expect": "100-continue"},
        {"Proxy-Authorization": "Basic x"},
        {"Upgrade": "h2c"},
        {"Content-Length": "x"},
        {"Content-Length": "-1"},
        {"Content-Length": "5"},
        [("Content-Length", "0"), ("content-length", "0")],
        [("Host", "a"), ("host", "b")],
    ],
)
def test_header_that_could_deceive_is_refused(headers: object) -> None:
    with pytest.raises(InvalidRequest):
        make_request("POST", parse_url("http://a/"), headers, b"", AGENT)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "headers", [{"A": 1}, {1: "a"}, ["ab"], [("a",)], [("a", b"b")], {"A": None}]
)
def test_header_of_a_wrong_kind_is_refused(headers: object) -> None:
    with pytest.raises(TypeError, match="header"):
        make_request("POST", parse_url("http://a/"), headers, b"", AGENT)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["", "GE T", "GET\r\n", "CONNECT", "G\u00e9t"])
def test_bad_method_is_refused(method: str) -> None:
    with pytest.raises(InvalidRequest, match="method"):
        make_request(method, parse_url("http://a/"), (), None, AGENT)


@pytest.mark.parametrize("body", ["text", 5, object(), 1.5])
def test_body_of_a_wrong_kind_is_refused(body: object) -> None:
    with pytest.raises(TypeError, match="body as bytes"):
        make_request("POST", parse_url("http://a/"), (), body, AGENT)


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=12), max_size=3), st.text(max_size=20))
def test_no_text_of_others_adds_a_line(headers: dict[str, str], path: str) -> None:
    try:
        wire = make_request("GET", parse_url("http://a/" + path), headers, None, []).wire
    except (InvalidRequest, ValueError):
        return
    head, end, rest = wire.partition(b"\r\n\r\n")
    assert end
    assert not rest
    lines = head.split(b"\r\n")
    assert len(lines) == 1 + len(headers) + ("host" not in {name.lower() for name in headers})
    assert b"\n" not in head.replace(b"\r\n", b"")
    assert lines[0].count(b" ") == 2


# ---------------------------------------------------------------------- headers


def test_headers_are_found_however_they_are_spelled() -> None:
    headers = Headers([("A", "1"), ("Set-Cookie", "x"), ("a", "2"), ("set-cookie", "y")])
    assert headers["a"] == headers["A"] == headers.get("A") == "1, 2"
    assert headers.get_all("SET-COOKIE") == ["x", "y"]
    assert "set-COOKIE" in headers
    assert "b" not in headers
    assert headers.get("b") is None
    assert headers.get("b", "c") == "c"
    assert list(headers) == ["a", "set-cookie"]
    assert len(headers) == 2
    assert headers.without("A").raw == [("Set-Cookie", "x"), ("set-cookie", "y")]
    assert Headers(headers).raw == headers.raw
    assert Headers({"X": "y"}) == {"x": "y"}
    assert "Set-Cookie" in repr(headers)
    with pytest.raises(KeyError):
        headers["b"]


# ---------------------------------------------------------------------- redirects


@pytest.mark.parametrize(
    ("status", "method", "then", "keeps"),
    [
        (301, "POST", "GET", False),
        (302, "POST", "GET", False),
        (303, "POST", "GET", False),
        (303, "PUT", "GET", False),
        (307, "POST", "POST", True),
        (308, "POST", "POST", True),
        (301, "PUT", "PUT", True),
        (302, "GET", "GET", True),
        (303, "HEAD", "HEAD", True),
        (301, "HEAD", "HEAD", True),
        (303, "GET", "GET", False),
    ],
)
def test_method_after_a_redirect(status: int, method: str, then: str, keeps: bool) -> None:
    fields = [("Content-Type", "text/plain"), ("X", "y")]
    result = follow(status, "/b", method, parse_url("http://a/"), fields)
    assert (result[0], result[1].url, result[3]) == (then, "http://a/b", keeps)
    assert (("Content-Type", "text/plain") in result[2]) is keeps
    assert ("X", "y") in result[2]


@pytest.mark.parametrize(
    ("location", "kept"),
    [
        ("/b", True),
        ("//a/b", True),
        ("http://A:80/b", True),
        ("//b/", False),
        ("https://a/", False),
        ("http://a:81/", False),
        ("http://sub.a/", False),
        ("b", True),
        ("?x", True),
        ("", True),
        ("#x", True),
    ],
)
def test_credentials_stay_within_the_origin(location: str, kept: bool) -> None:
    fields = [
        ("Authorization", "x"),
        ("COOKIE", "y"),
        ("Proxy-Authorization", "z"),
        ("Host", "h"),
        ("Ok", "v"),
    ]
    result = follow(302, location, "GET", parse_url("http://user:password@a/x/y"), fields)
    assert result[2] == (fields if kept else [("Ok", "v")])
    assert result[1].credentials is None


@pytest.mark.parametrize(
    "location", ["ftp://a/", "javascript:x", "http://a:0/", "http://[::1", "data:,x"]
)
def test_redirect_to_nowhere_is_refused(location: str) -> None:
    with pytest.raises(RedirectRefused):
        follow(302, location, "GET", parse_url("http://a/"), [])


def test_location_with_blanks_and_letters_is_understood() -> None:
    assert join("http://a/x", " /b%20 c?d e#f ") == "http://a/b%20%20c?d%20e#f"
    assert follow(302, "/b\r\nX: y", "GET", parse_url("http://a/"), [])[1].path == "/b%0D%0AX:%20y"


@pytest.mark.parametrize(
    ("status", "fields", "expected"),
    [
        (302, {"Location": "x"}, True),
        (302, {}, False),
        (300, {"Location": "x"}, False),
        (304, {"Location": "x"}, False),
        (201, {"Location": "x"}, False),
    ],
)
def test_what_is_a_redirect(status: int, fields: dict[str, str], expected: bool) -> None:
    assert is_redirect(status, Headers(fields)) is expected


# ---------------------------------------------------------------------- proxies


def test_request_through_a_proxy_has_the_whole_url() -> None:
    proxy = parse_url("http://u:p@proxy:3128")
    wire = make_request("GET", parse_url("http://a:81/b"), (), None, [], proxy=proxy).wire
    assert wire == (
        b"GET http://a:81/b HTTP/1.1\r\nHost: a:81\r\nProxy-Authorization: Basic dTpw\r\n\r\n"
    )


def test_choice_of_a_proxy() -> None:
    target = parse_url("http://a/b")
    assert choose_proxy(None, target) is None
    assert choose_proxy("", target) is None
    chosen = choose_proxy("http://p:1", target)
    assert chosen is not None
    assert chosen.port == 1
    asked: list[str] = []
    assert choose_proxy(asked.append, target) is None
    assert asked == ["http://a/b"]
    chosen = choose_proxy("socks5h://p", target)
    assert chosen is not None
    assert chosen.port == 1080
    with pytest.raises(InvalidRequest, match="proxy"):
        choose_proxy("socks4://p:1", target)


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://a/", "http://plain:1"),
        ("https://a/", "http://secure:2"),
        ("http://x.internal/", None),
        ("http://internal/", None),
        ("http://xinternal/", "http://plain:1"),
        ("http://b:81/", None),
        ("http://b:82/", "http://plain:1"),
        ("http://[::1]/", None),
    ],
)
def test_proxy_of_the_environment(
    url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("all_proxy", "ALL_PROXY", "https_proxy", "NO_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "plain:1")
    monkeypatch.setenv("HTTPS_PROXY", "http://secure:2")
    monkeypatch.setenv("no_proxy", ".internal, b:81,::1")
    assert environment_proxy(url) == proxy


def test_proxy_that_a_cgi_request_could_choose_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://evil:1")
    assert environment_proxy("http://a/") is None
    monkeypatch.setenv("ALL_PROXY", "http://p:1")
    assert environment_proxy("http://a/") == "http://p:1"
    monkeypatch.setenv("no_proxy", "*")
    assert environment_proxy("http://a/") is None
