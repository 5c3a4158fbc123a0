"""What is a URL and what is not, where a Location leads, and whom ``no_proxy`` is about."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ae_http
from ae_http import InvalidRequest, RedirectRefused, environment_proxy
from ae_http._redirect import follow
from ae_http._url import join, parse_url


@pytest.mark.parametrize(
    "url",
    [
        # behind the brackets of an IPv6 address, and in them
        "http://[::1]x:8080/", "http://[::1]x/", "http://[::1]8080/", "http://[::1]]/",
        "http://[[::1]]/", "http://[::1/", "http://::1]/", "http://::1/", "http://a[::1]/",
        "http://[]/", "http://[1.2.3.4]/", "http://[a]/", "http://[:::1]/", "http://[::1::]/",
        "http://[::g]/", "http://[1:2:3:4:5:6:7:8:9]/", "http://[v1.x]/", "http://[::1%25]/",
        "http://[::1%eth0]/", "http://[::1%25a/b]/", "http://[::1%25a%20b]/", "http://[::1 ]/",
        # ports
        "http://a:-1/", "http://a:+80/", "http://a:8_0/", "http://a: 80/", "http://a:80 /",
        "http://a:٨٠/", "http://a:99999/", "http://a:000080/", "http://a:80:80/", "http://a:80a/",
        "http://a:0x50/", "http://a:1e2/", "http://[::1]:/x:y:z:/".replace("/x", ":x/"),
        # hosts
        "http://:80/", "http://@/", "http://u:p@/", "http://?x", "http://#x", "http://./",
        "http://a..b/", "http://.a/", "http://a../", "http://a,b/", "http://a*b/", "http://*.a/",
        "http://a%2eb/", "http://%61/", "http://a%/", "http://a'b/", "http://a|b/", "http://a^b/",
        "http://a b/", "http://a\u3000b/", "http://a\u00a0b/", "http://1.2.3.4.5/", "http://256.1.1.1/",
        "http://1.2.3.09/", "http://a.1/", "http://a\uff0fb/", "http://a\u2044b/", "http://\uff1a80/",
        "http://ex\u00adample..com/", "http://xn--\u00fc/", "http://" + "a." * 127 + "aa/",
        # user information
        "http://u@v@a/", "http://u:p@v:q@a/", "http://[::1]@a/", "http://a:80@b\\@c/",
        "http://u%@a/", "http://u%zz@a/", "http://u%0a@a/", "http://u:%00@a/", "http://u%3av:p@a/",
        "http://u<v@a/", 'http://u"v@a/', "http://u v@a/",
        # schemes and slashes
        "http:a/", "http:/a/", "http:///a/", "http:\\\\a/", "http://a\\b", "http://a/b\\c", "//a/",
        "httpx://a/", "http", "http:", "http//a/", " http://a/", "http://a/ ", "1http://a/",
        "ht\ttp://a/", "http://a/\t", "http://a/\x7f", "http://a/\x85", "http://a/\ud800",
        "javascript:http://a/", "file:///etc/passwd", "ws://a/",
    ],
)  # fmt: skip
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_url(url)
    with ae_http.Client() as client, pytest.raises(InvalidRequest):
        client.get(url)


def test_a_message_about_a_url_has_no_password() -> None:
    for url in (
        "http://u:secret@a:x/",
        "http://u:secret@/",
        "ftp://u:secret@a/",
        "http://u:secret@a b",
    ):
        with pytest.raises(InvalidRequest) as caught:
            parse_url(url)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "host", "authority"),
    [
        ("http://A.Example/", "a.example", "a.example"),
        ("HTTP://a/", "a", "a"),
        ("http://a./", "a.", "a."),
        ("http://_a.b-/", "_a.b-", "_a.b-"),
        ("http://faß.test/", "xn--fa-hia.test", "xn--fa-hia.test"),
        ("http://σωλις.test/", "xn--uxadwb4a.test", "xn--uxadwb4a.test"),
        ("http://BÜCHER。example/", "xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("http://[2001:DB8:0::1]/", "2001:db8::1", "[2001:db8::1]"),
        ("http://[::ffff:1.2.3.4]:80/", "::ffff:1.2.3.4", "[::ffff:1.2.3.4]"),
        ("http://[fe80::1%25eth0]:8080/", "fe80::1%eth0", "[fe80::1]:8080"),
        ("http://127.1/", "127.0.0.1", "127.0.0.1"),
        ("http://0x7f000001:81/", "127.0.0.1", "127.0.0.1:81"),
        ("https://a:443/", "a", "a"),
        ("https://a:80/", "a", "a:80"),
        ("http://a:00080/", "a", "a"),
        ("http://@a/", "a", "a"),
        ("http://ü:ü@a/", "a", "a"),
    ],
)
def test_one_string_is_the_host_of_a_url(url: str, host: str, authority: str) -> None:
    if not url.isascii() and "@" not in url:
        pytest.importorskip("idna")
    target = parse_url(url)
    assert (target.host, target.authority) == (host, authority)
    assert parse_url(target.url).authority == target.authority


def test_the_zone_of_an_address_survives_a_redirect() -> None:
    target = parse_url("http://[fe80::1%25eth0]/a")
    kept = [("Cookie", "x")]
    for location in ("/b", "http://[FE80:0::1]/b", "//[fe80::1]/b"):
        _, next_target, fields, _ = follow(302, location, "GET", target, kept)
        assert (next_target.host, next_target.origin, fields) == (
            "fe80::1%eth0",
            target.origin,
            kept,
        )
    assert follow(302, "//[fe80::2]/", "GET", target, kept)[1].host == "fe80::2"


def test_without_idna_an_international_name_is_refused_and_the_extra_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "idna", None)
    with pytest.raises(InvalidRequest, match=r"ae-socket\[idna\]"):
        parse_url("http://not-installed.bücher.example/")


def latin(text: str) -> str:
    """How a header field with this text in UTF-8 is read."""
    return text.encode().decode("latin-1")


BASE = "http://user:pw@a.example:81/dir/page?old#part"


@pytest.mark.parametrize(
    ("location", "url"),
    [
        # octets
        (latin("/café"), "http://a.example:81/caf%C3%A9"),
        ("/caf\xe9", "http://a.example:81/caf%E9"),
        ("/caf\xe9/\xc3\xa9", "http://a.example:81/caf%E9/%C3%A9"),
        (latin("/x?q=ü€😀#ü"), "http://a.example:81/x?q=%C3%BC%E2%82%AC%F0%9F%98%80"),
        ("/x?q=\xff", "http://a.example:81/x?q=%FF"),
        ("/caf%C3%A9?%zz", "http://a.example:81/caf%C3%A9?%zz"),
        (latin("//bücher.example/ü"), "http://xn--bcher-kva.example/%C3%BC"),
        (latin("HTTPS://faß.test"), "https://xn--fa-hia.test/"),
        ("/a b\tc", "http://a.example:81/a%20bc"),
        (" \t/x\t ", "http://a.example:81/x"),
        ('/<">|^`{}', "http://a.example:81/%3C%22%3E%7C%5E%60%7B%7D"),
        # backslashes
        ("\\x\\y", "http://a.example:81/x/y"),
        ("\\\\b.example\\x", "http://b.example/x"),
        ("/\\b.example/x", "http://b.example/x"),
        ("http:\\\\b.example\\x?a\\b#c\\d", "http://b.example/x?a%5Cb"),
        ("x\\..\\y", "http://a.example:81/dir/y"),
        # slashes, fewer or more
        ("///b.example/x", "http://b.example/x"),
        ("https:b.example/x", "https://b.example/x"),
        ("https:/b.example", "https://b.example/"),
        ("https:////b.example", "https://b.example/"),
        ("http:x", "http://a.example:81/dir/x"),
        ("http:/x", "http://a.example:81/x"),
        ("http:", "http://a.example:81/dir/page?old"),
        # relative
        ("", "http://a.example:81/dir/page?old"),
        ("#new", "http://a.example:81/dir/page?old"),
        ("?", "http://a.example:81/dir/page"),
        ("?new", "http://a.example:81/dir/page?new"),
        ("x", "http://a.example:81/dir/x"),
        ("./x/.", "http://a.example:81/dir/x/"),
        ("../../../x", "http://a.example:81/x"),
        ("..", "http://a.example:81/"),
        ("%2E%2e/x/%2e", "http://a.example:81/x/"),
        ("/a//b/../c", "http://a.example:81/a//c"),
        ("x:y"[1:], "http://a.example:81/dir/:y"),
        ("./x:y", "http://a.example:81/dir/x:y"),
        ("/?a=/../b", "http://a.example:81/?a=/../b"),
        ("//[2001:DB8::1]:8080", "http://[2001:db8::1]:8080/"),
        ("http://b.example:80", "http://b.example/"),
    ],
)
def test_a_location_is_read_as_browsers_do(location: str, url: str) -> None:
    if "\xc3" in location.partition("?")[0][:12] or "fa" in location:
        pytest.importorskip("idna")
    assert follow(302, location, "GET", parse_url(BASE), [])[1].url == url


@pytest.mark.parametrize(
    "location",
    [
        "http://u:p@b.example/", "//u@b.example/", "http://@b.example/", "\\\\u@b.example",
        "https:u@b.example", "http://a.example:81@b.example/", "/\\u:p@b.example",
        "http://[::1]x/", "http://b.example:x/", "//", "http://", "https:", "///", "http://b c/",
        "//b%2eexample/", "//b\xfc.example/", "//b.example:0/", "x:y", "mailto:a@b", "ws://a/",
        "javascript:alert(1)", "data:,x", "http://\\", "//a..b/", "//*/",
    ],
)  # fmt: skip
def test_a_location_that_leads_nowhere_is_refused(location: str) -> None:
    with pytest.raises(RedirectRefused):
        follow(302, location, "GET", parse_url(BASE), [])


@given(location=st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=30))
def test_any_location_leads_to_a_url_or_is_refused(location: str) -> None:
    try:
        target = follow(302, location, "GET", parse_url(BASE), [])[1]
    except RedirectRefused:
        return
    assert parse_url(target.url) == target
    assert target.url.isascii()
    assert " " not in target.url
    assert target.credentials is None


@pytest.mark.parametrize("make", [lambda n: "/" + "../" * n, lambda n: "/" * n, lambda n: "/x" * n])
def test_a_long_location_takes_linear_time(make: Callable[[int], str], doubling: Any) -> None:
    def prepare(size: int) -> Callable[[], object]:
        location = make(size)
        return lambda: join(BASE, location)

    doubling(prepare, 1 << 16)


PAST: list[tuple[str, str]] = [
    ("example.com", "http://example.com/"),
    ("example.com", "http://EXAMPLE.com:8080/"),
    ("Example.COM", "http://www.example.com/"),
    ("example.com", "http://example.com./"),
    ("example.com.", "http://example.com/"),
    ("example.com.", "http://www.example.com./"),
    (".example.com", "http://www.example.com/"),
    (".example.com", "http://example.com/"),
    ("*.example.com", "http://www.example.com/"),
    ("bücher.example", "http://bücher.example/"),
    ("BÜCHER.example", "http://www.xn--bcher-kva.example/"),
    (".xn--bcher-kva.example", "http://bücher.example/"),
    ("example.com:80", "http://example.com/"),
    ("example.com:443", "https://www.example.com/"),
    (".example.com:8080", "http://www.example.com:8080/"),
    ("example.com:", "http://example.com:81/"),
    ("192.0.2.1", "http://192.0.2.1/"),
    ("192.0.2.1:8080", "http://192.0.2.1:8080/"),
    ("192.0.513", "http://192.0.2.1/"),
    ("::1", "http://[::1]/"),
    ("::1", "http://[::1]:8080/"),
    ("[::1]", "http://[::1]:8080/"),
    ("[::1]:8080", "http://[::1]:8080/"),
    ("[::1]:80", "http://[::1]/"),
    ("2001:DB8:0:0::1", "http://[2001:db8::1]/"),
    ("[2001:db8::0.0.0.1]", "http://[2001:db8::1]/"),
    ("fe80::1", "http://[fe80::1%25eth0]/"),
    ("10.0.0.0/8", "http://10.1.2.3/"),
    ("10.1.2.3/8", "http://10.9.9.9:8080/"),
    ("192.0.2.1/32", "http://192.0.2.1/"),
    ("fe80::/10", "http://[fe80::1]/"),
    ("fe80::/10", "http://[fe80::1%25eth0]/"),
    ("*", "http://anything/"),
    ("a, *", "http://anything/"),
    ("a,example.com", "http://example.com/"),
    ("a example.com\tb", "http://example.com/"),
    (" ,, example.com ,", "http://example.com/"),
]
NOT_PAST: list[tuple[str, str]] = [
    (".", "http://www.example.com/"),
    ("..", "http://www.example.com./"),
    ("*.", "http://www.example.com/"),
    ("", "http://www.example.com/"),
    (",", "http://www.example.com/"),
    ("example.com", "http://notexample.com/"),
    ("www.example.com", "http://example.com/"),
    ("example.com", "http://example.com.evil/"),
    ("*ample.com", "http://example.com/"),
    ("exa*", "http://example.com/"),
    ("example.com:8080", "http://example.com/"),
    ("example.com:http", "http://example.com/"),
    ("example.com:80:80", "http://example.com/"),
    ("example.com:٨٠", "http://example.com/"),
    ("[example.com]", "http://example.com/"),
    ("0.2.1", "http://192.0.2.1/"),
    ("2.1", "http://192.0.2.1/"),
    ("192.0.2.1:81", "http://192.0.2.1/"),
    ("10.0.0.0/8", "http://11.1.2.3/"),
    ("10.0.0.0/8", "http://ten.example/"),
    ("10.0.0.0/33", "http://10.1.2.3/"),
    ("10.0.0.0/8:80", "http://10.1.2.3/"),
    ("0.0.0.0/0", "http://[::1]/"),
    ("/", "http://10.1.2.3/"),
    ("fe80::/10", "http://[ff80::1]/"),
    ("[::1]:8080", "http://[::1]/"),
    ("[::1", "http://[::2]/"),
    ("[::1]x", "http://[::1]/"),
    ("::1:8080", "http://[::1]:8080/"),
    ("::2", "http://[::1]/"),
    ("fass.test", "http://faß.test/"),
    ("a\x00b", "http://ab/"),
    ("-", "http://a/"),
]


@pytest.mark.parametrize(
    ("no_proxy", "url", "past"),
    [(*each, True) for each in PAST] + [(*each, False) for each in NOT_PAST],
)
def test_no_proxy(no_proxy: str, url: str, past: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (no_proxy + url).isascii() and "٨" not in no_proxy:
        pytest.importorskip("idna")
    for name in ("no_proxy", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("all_proxy", "http://proxy:3128")
    if "\0" not in no_proxy:
        monkeypatch.setenv("no_proxy", no_proxy)
        assert (environment_proxy(url) is None) is past
        monkeypatch.delenv("no_proxy")
        monkeypatch.setenv("NO_PROXY", no_proxy)
        assert (environment_proxy(url) is None) is past


def test_the_lower_case_variable_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "proxy:3128")
    monkeypatch.setenv("no_proxy", "a")
    monkeypatch.setenv("NO_PROXY", "b")
    assert environment_proxy("http://a/") is None
    assert environment_proxy("http://b/") == "http://proxy:3128"
