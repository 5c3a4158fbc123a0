"""URLs and options."""

from __future__ import annotations

from typing import Any

import pytest

from ae_redis import Redis
from ae_redis._url import Settings, parse_url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", {}),
        ("redis://localhost", {}),
        ("redis://h:7000/3", {"host": "h", "port": 7000, "db": 3}),
        ("redis://h/", {"host": "h"}),
        ("redis://[::1]:7000", {"host": "::1", "port": 7000}),
        ("redis://:secret@h", {"host": "h", "password": "secret"}),
        ("redis://me:a%40b%2Fc@h", {"host": "h", "username": "me", "password": "a@b/c"}),
        ("rediss://h", {"host": "h", "tls": True}),
        ("unix:///run/redis.sock", {"host": "unix/", "port": "/run/redis.sock"}),
        ("unix:///a%20b?db=2", {"host": "unix/", "port": "/a b", "db": 2}),
        ("unix://:pw@/a", {"host": "unix/", "port": "/a", "password": "pw"}),
        ("redis://?db=4&protocol=2", {"db": 4, "protocol": 2}),
        ("redis://?timeout=1.5&connect_timeout=none", {"timeout": 1.5, "connect_timeout": None}),
        ("redis://?client_name=me", {"client_name": "me"}),
    ],
)
def test_a_url_says_where_and_how(url: str, expected: dict[str, Any]) -> None:
    assert parse_url(url) == Settings(**expected)


def test_options_win_over_the_url() -> None:
    settings = parse_url("redis://h:1/2?timeout=3", port=5, db=6, timeout=None)
    assert settings == Settings(host="h", port=5, db=6, timeout=None)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://h", "expected redis://, rediss:// or unix://, got 'http'"),
        ("localhost:6379", "expected redis://"),
        ("redis://h:x", "expected a URL with a host and a port"),
        ("redis://h:99999", "expected a URL with a host and a port"),
        ("redis://h/x", "expected a number for db"),
        ("redis://h/-1", "expected db to be 0 or more, got -1"),
        ("redis://h?nosuch=1", "got 'nosuch'"),
        ("redis://h?protocol=4", "expected protocol 2, 3 or None, got 4"),
        ("redis://h?timeout=0", "expected a timeout above 0, or None, got 0.0"),
        ("redis://h?timeout=inf", "expected timeout to be 0 or more, got inf"),
        ("redis://h?timeout=nan", "expected timeout to be 0 or more, got nan"),
        ("redis://me@h", "expected a password for the user 'me'"),
        ("redis://h#x", "expected redis://"),
        ("unix://run/x", "expected unix:// and an absolute path"),
        ("unix://", "expected unix:// and an absolute path"),
    ],
)
def test_what_is_no_such_url_is_refused(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=r"expected") as caught:
        Redis(url)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("options", "kind", "why"),
    [
        ({"nosuch": 1}, TypeError, "there is no option 'nosuch'"),
        ({"db": "1"}, TypeError, "expected db to be int, got '1'"),
        ({"db": True}, TypeError, "expected db to be int, got True"),
        ({"timeout": "1"}, TypeError, "expected timeout to be float, got '1'"),
        ({"timeout": 10**400}, ValueError, "expected timeout to be 0 or more, got 1000"),
        ({"attempts": 0}, ValueError, "expected attempts to be 1 or more, got 0"),
        ({"max_reply": 10}, ValueError, "expected max_reply to be 65536 or more, got 10"),
        ({"password": b"x"}, TypeError, "expected password to be text or None"),
        ({"encoding": "nosuch"}, ValueError, "expected a text encoding, got 'nosuch'"),
        ({"on_connect": 1}, TypeError, "expected a callable, got 1"),
    ],
)
def test_wrong_options_are_refused(
    options: dict[str, Any], kind: type[Exception], why: str
) -> None:
    with pytest.raises(kind) as caught:
        Redis(**options)
    assert why in str(caught.value)


def test_a_url_that_is_no_text_is_refused() -> None:
    with pytest.raises(TypeError, match="expected a URL, got 7"):
        Redis(7)  # type: ignore[arg-type]


def test_a_password_is_never_shown() -> None:
    redis = Redis("redis://me:hidden@h")
    assert "hidden" not in repr(redis) + repr(redis._settings)
    assert repr(redis) == "<Redis h:6379 not connected, 0 pending>"


def test_where_is_for_people() -> None:
    assert [parse_url(url).where for url in ("redis://[::1]", "unix:///a", "redis://h:1")] == [
        "[::1]:6379",
        "unix:/a",
        "h:1",
    ]


def test_a_clone_has_the_options_but_the_changes() -> None:
    redis = Redis("redis://me:pw@h:1/2", timeout=3)
    assert redis.clone(db=5)._settings == Settings(
        host="h", port=1, username="me", password="pw", db=5, timeout=3
    )
    with pytest.raises(TypeError):
        redis.clone(nosuch=1)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="expected db"):
        redis.clone(db=-1)


@pytest.mark.parametrize(
    "url",
    ["redis://[::1]x:6379", "redis://[::1]x", "redis://a b", "redis://u:p@v@h", "redis://a:b:1",
     "redis://[::1", "redis://a]", "redis://[a]", "redis://a..b", "redis://h:+1", "redis://h:99999"],
)  # fmt: skip
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_url(url)
