"""The one table of host names: what is looked up, sent and verified is one and the same text."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ae_core as ae
from ae_socket import (
    AddressInfo,
    HostsFile,
    ThreadResolver,
    host_to_ascii,
    resolve,
    set_resolver,
    tcp_connect,
)

RECV = 30
WIDE_LOCALHOST = "\uff4c\uff4f\uff43\uff41\uff4c\uff48\uff4f\uff53\uff54"


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "www.example.org", "WWW.Example.ORG", "www.example.org.", "_dmarc.example.org",
        "a-.example.org", "-a.example.org", "a--b.example", "xn--fa-hia.test", "XN--FA-HIA.test",
        "my_host", "1.example", "0x.example", ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61]),
        "127.0.0.1", "10.1", "0x7f.1", "0x7f000001", "2130706433", "::1", "fe80::1%eth0",
        "fe80::1%2", "::ffff:10.0.0.1",
    ],
)  # fmt: skip
def test_what_is_ascii_already_comes_back_as_it_is(host: str) -> None:
    assert host_to_ascii(host) == host


def test_brackets_around_an_ipv6_address_are_taken_off() -> None:
    assert host_to_ascii("[::1]") == "::1"
    assert host_to_ascii("[fe80::1%eth0]") == "fe80::1%eth0"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        pytest.param("faß.test", "xn--fa-hia.test", id="sharp-s-stays"),
        pytest.param("σωλις.test", "xn--uxadwb4a.test", id="final-sigma-stays"),
        pytest.param("Bücher.Example", "xn--bcher-kva.example", id="lower-case"),
        pytest.param("bücher.example.", "xn--bcher-kva.example.", id="final-dot"),
        pytest.param("bücher\u3002example\uff0e", "xn--bcher-kva.example.", id="other-full-stops"),
        pytest.param("_dmarc.bücher.example", "_dmarc.xn--bcher-kva.example", id="underscore"),
        pytest.param("e\u0301.test", "xn--9ca.test", id="composed"),
        pytest.param("xn--fa-hia.bücher", "xn--fa-hia.xn--bcher-kva", id="encoded-in-part"),
        pytest.param(WIDE_LOCALHOST, "localhost", id="wide"),
        pytest.param("日本.jp", "xn--wgv71a.jp", id="kanji"),
        pytest.param("e\u0301" * 63 + ".test", None, id="too-long-encoded"),
    ],
)
def test_other_names_are_mapped_by_uts_46(host: str, expected: str | None) -> None:
    pytest.importorskip("idna")
    if expected is None:
        with pytest.raises(ValueError):
            host_to_ascii(host)
    else:
        assert host_to_ascii(host) == expected


IMPOSSIBLE = [
    "", ".", "..", "a..b", ".a", "a..", "a" * 64, "*", "a*b", "a?b", "a#b", "a\\b", "a[b", "[a]",
    ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 62]), "a\0b", "a b", "a\tb", "a\n", "a\r\nb",
    "a\x1bb", "a\x7fb", "a/b", "a@b", "a:80", "a%b", "[127.0.0.1]", "[::1", "::1]", "[::1]x",
    "::1%", "::1%a b", "::1%a/b", "127.0.0.1%lo", "1.2.3.4.5", "example.1", "256.1.1.1", "unix/",
    "a,b", "a;b", "a'b",
]  # fmt: skip
IMPOSSIBLE_UNICODE = [
    "\u2100.test", "①.②.③.④", "\uff11\uff12\uff17.\uff10.\uff10.\uff11", "\uff10\uff587f.1", "é..b",
    "\u2488.example", "a\ud800.example", ".é", "é b", "é\0b", "é.1", "*.é", "\xad", "a\u200db.é",
    "é" * 64, "é" * 100_000, "\u202eé", "a≠b.de", "☃.test", "xn--ß",
]  # fmt: skip


@pytest.mark.parametrize("host", IMPOSSIBLE, ids=lambda host: ascii(host)[:20])
def test_what_no_host_can_be_called_is_refused_with_the_reason(host: str) -> None:
    with pytest.raises(ValueError, match=r"expected the name or address of a host, got .*: "):
        host_to_ascii(host)


@pytest.mark.parametrize("host", IMPOSSIBLE_UNICODE, ids=lambda host: ascii(host)[:20])
def test_what_no_mapping_makes_a_host_of_is_refused(host: str) -> None:
    pytest.importorskip("idna")
    with pytest.raises(ValueError, match="expected the name ") as caught:
        host_to_ascii(host)
    assert len(str(caught.value)) < 800


@pytest.mark.parametrize("host", [None, b"example.org", 5])
def test_what_is_no_text_is_a_type_error(host: Any) -> None:
    with pytest.raises(TypeError, match="expected a host as str, got "):
        host_to_ascii(host)


@given(st.text(max_size=40))
def test_any_text_gives_a_name_or_a_value_error(text: str) -> None:
    try:
        name = host_to_ascii(text)
    except ValueError:
        return
    assert name.isascii()
    assert host_to_ascii(name) == name
    assert len(name) <= 254


@pytest.fixture
def no_idna(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "idna", None)


class Recorder:
    """A resolver that answers every name with 127.0.0.1, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def getaddrinfo(
        self, host: str, service: str | int, *, family: int = 0, type: str = "stream"
    ) -> ae.CondVar[list[AddressInfo]]:
        self.asked.append(host)
        return resolve("127.0.0.1", service)


@pytest.mark.usefixtures("no_idna")
def test_without_idna_an_international_name_is_refused_and_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"ae-socket\[idna\].*'bücher\.example'") as caught:
        host_to_ascii("bücher.example")
    assert "pip" not in str(caught.value), "where a package is fetched from is not ours to say"
    recorder = Recorder()
    resolver = ThreadResolver()
    starts: list[Callable[[], ae.CondVar[Any]]] = [
        lambda: resolve("bücher.example", 80),
        lambda: tcp_connect("bücher.example", 80),
        lambda: tcp_connect("bücher.example", 80, resolver=recorder),
        lambda: resolver.getaddrinfo("bücher.example", 80),
    ]
    for start in starts:
        found = start()
        assert not found.ready
        with pytest.raises(ValueError, match=r"ae-socket\[idna\]"):
            found.recv(RECV)
    assert recorder.asked == []
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 bücher.example plain.example", encoding="utf-8")
    assert HostsFile(hosts).addresses("plain.example") == ["127.0.0.1"]


def test_a_resolver_is_asked_for_the_encoded_name() -> None:
    pytest.importorskip("idna")
    recorder = Recorder()
    set_resolver(recorder)
    try:
        for host in ("faß.test", "FASS.test.", "_dmarc.bücher.example"):
            resolve(host, 80).recv(RECV)
        assert recorder.asked == ["xn--fa-hia.test", "FASS.test.", "_dmarc.xn--bcher-kva.example"]
        assert resolve(WIDE_LOCALHOST, 80, family=4).recv(RECV)[0].sockaddr == (
            "127.0.0.1",
            80,
        )
        assert resolve("[::1]", 80).recv(RECV)[0].sockaddr == ("::1", 80, 0, 0)
        assert len(recorder.asked) == 3
    finally:
        set_resolver(None)


@pytest.mark.environment
def test_the_hosts_file_is_asked_for_the_encoded_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("idna")
    hosts = tmp_path / "hosts"
    hosts.write_text(
        "127.0.0.2 fass.test\n127.0.0.3 xn--fa-hia.test\n"
        "127.0.0.4 bücher.test.\n127.0.0.5 a≠b.de c.test\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("AE_HOSTS", str(hosts))
    found = [
        ThreadResolver().getaddrinfo(host, 80).recv(RECV)[0].sockaddr[0]
        for host in ("faß.test", "fass.test", "bücher.test", "xn--bcher-kva.test", "c.test")
    ]
    assert found == ["127.0.0.3", "127.0.0.2", "127.0.0.4", "127.0.0.4", "127.0.0.5"]
    assert HostsFile().addresses("Bücher.test") == ["127.0.0.4"]


@pytest.mark.parametrize("host", ["a..b", "a b", "a\r\nb", "a/b", "x" * 64, "1.2.3.4.5"])
def test_an_impossible_name_is_a_value_error_and_nobody_is_asked(host: str) -> None:
    recorder = Recorder()
    starts: list[Callable[[], ae.CondVar[Any]]] = [
        lambda: resolve(host, 80),
        lambda: tcp_connect(host, 80, resolver=recorder),
        lambda: tcp_connect(host, "http=80", resolver=recorder),
        lambda: ThreadResolver().getaddrinfo(host, 80),
    ]
    for start in starts:
        found = start()
        assert not found.ready
        with pytest.raises(ValueError, match="expected the name or address of a host"):
            found.recv(RECV)
    assert recorder.asked == []
