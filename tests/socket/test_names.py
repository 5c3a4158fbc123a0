"""Services, hosts files and the order of addresses: what is known without asking anybody."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ae_socket import AddressInfo, HostsFile, order_addresses, parse_ipv6
from ae_socket._hosts import parse_hosts
from ae_socket._ordering import destination_key
from ae_socket._services import parse_service


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        (80, (None, 80)),
        ("80", (None, 80)),
        (0, (None, 0)),
        (65535, (None, 65535)),
        ("smtp", ("smtp", 25)),
        ("https=8443", ("https", 8443)),
        ("no-such-thing=1", ("no-such-thing", 1)),
        ("xmpp-client", ("xmpp-client", 5222)),
    ],
)
def test_service_is_read(service: str | int, expected: tuple[str | None, int]) -> None:
    assert parse_service(service, "stream") == expected


@pytest.mark.parametrize(
    "service",
    [
        -1, 65536, "65536", "-1", "", "no-such-service", "a=", "=80", "http=x", "http=-1",
        "http=65536", " 80", "80 ", "80\n", "१", "ht\0tp", "http\0", "é", "9" * 5000, "1.5", "+1",
    ],
    ids=lambda service: repr(service)[:20],
)  # fmt: skip
def test_bad_service_is_a_value_error_that_names_it(service: str | int) -> None:
    with pytest.raises(ValueError) as caught:
        parse_service(service, "stream")
    assert repr(service)[:20] in str(caught.value)


def test_well_known_service_needs_no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, protocol: str) -> int:
        raise OSError("service/proto not found")

    monkeypatch.setattr(socket, "getservbyname", missing)
    assert parse_service("https", "stream") == ("https", 443)
    with pytest.raises(ValueError, match="unknown service 'gopherette' for udp"):
        parse_service("gopherette", "dgram")


def test_hosts_lines_are_read() -> None:
    lines = """
        127.0.0.1  localhost Loop.EXAMPLE   # 127.0.0.9 comment
        ::1        localhost localhost.
        # 10.0.0.1 nobody
        junk       example.org
        fe80::1%lo scoped
        10.1 short
        10.0.0.2
        unix/ unix
    """.splitlines()
    assert parse_hosts(lines) == {
        "localhost": ["127.0.0.1", "::1"],
        "loop.example": ["127.0.0.1"],
        "scoped": ["fe80::1%lo"],
        "short": ["10.1"],
    }


@given(st.lists(st.text(max_size=30), max_size=5))
def test_no_text_breaks_the_hosts_parser(lines: list[str]) -> None:
    for name, addresses in parse_hosts(lines).items():
        assert name == name.lower()
        assert addresses


def test_hosts_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    hosts = HostsFile(path)
    assert hosts.addresses("a") == []
    path.write_text("10.0.0.1 a\n")
    assert hosts.addresses("a") == hosts.addresses("A.") == ["10.0.0.1"]
    replacement = tmp_path / "new"
    replacement.write_text("10.0.0.2 a\n")
    stamp = path.stat()
    os.utime(replacement, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    replacement.replace(path)  # same size, same time: only the inode tells
    assert hosts.addresses("a") == ["10.0.0.2"]
    path.unlink()
    assert hosts.addresses("a") == []


def test_hosts_file_is_not_read_when_nothing_changed(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("10.0.0.1 a\n")
    hosts = HostsFile(path)
    first = hosts.addresses("a")
    first.append("mine")
    assert hosts.addresses("a") == ["10.0.0.1"]


@pytest.mark.environment
def test_hosts_file_of_the_environment_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = HostsFile()
    assert hosts.addresses("test.invalid") == []
    path = tmp_path / "hosts"
    path.write_bytes(b"127.9.9.9 test.invalid. \xff\xfe\n")
    monkeypatch.setenv("AE_HOSTS", str(path))
    assert hosts.addresses("test.invalid") == ["127.9.9.9"]
    monkeypatch.delenv("AE_HOSTS")
    assert hosts.addresses("test.invalid") == []


def by_rfc6724(*pairs: tuple[str, str | None]) -> list[str]:
    """Sort (destination, source) texts and return the destinations."""

    def key(pair: tuple[str, str | None]) -> tuple[int, ...]:
        destination, source = parse_ipv6(pair[0]), pair[1] and parse_ipv6(pair[1])
        assert destination
        return destination_key(destination, source or None)

    return [pair[0] for pair in sorted(pairs, key=key)]


@pytest.mark.parametrize(
    ("pairs", "first"),
    [
        # RFC 6724 10.2, in its order, as far as the rules can be known here
        pytest.param(
            [("2001:db8:1::1", "2001:db8:1::2"), ("198.51.100.121", "169.254.13.78")],
            "2001:db8:1::1", id="matching-scope"),
        pytest.param(
            [("2001:db8:1::1", "fe80::1"), ("198.51.100.121", "198.51.100.117")],
            "198.51.100.121", id="matching-scope-v4"),
        pytest.param(
            [("10.1.2.3", "10.1.2.4"), ("2001:db8:1::1", "2001:db8:1::2")],
            "2001:db8:1::1", id="higher-precedence"),
        pytest.param(
            [("2001:db8:1::1", "2001:db8:1::2"), ("fe80::1", "fe80::2")],
            "fe80::1", id="smaller-scope"),
        pytest.param(
            [("2002:c633:6401::1", "2002:c633:6401::2"), ("2001:db8:1::1", "2002:c633:6401::2")],
            "2002:c633:6401::1", id="matching-label"),
        pytest.param(
            [("2002:c633:6401::1", "2002:c633:6401::2"), ("2001:db8:1::1", "2001:db8:1::2")],
            "2001:db8:1::1", id="precedence-over-6to4"),
        pytest.param([("2001:db8::1", None), ("10.0.0.1", "10.0.0.2")], "10.0.0.1", id="unusable"),
        pytest.param(
            [("2001:db8:3ffe::1", "2001:db8:1::2"), ("2001:db8:1::1", "2001:db8:1::2")],
            "2001:db8:1::1", id="longest-prefix"),
        pytest.param(
            [("fd00::1", "fd00::2"), ("10.0.0.1", "10.0.0.2")], "10.0.0.1", id="ula-after-v4"),
    ],
)  # fmt: skip
def test_addresses_are_ordered_by_rfc_6724(pairs: list[tuple[str, str | None]], first: str) -> None:
    assert by_rfc6724(*pairs)[0] == first
    assert by_rfc6724(*reversed(pairs))[0] == first


def test_equal_addresses_keep_their_order() -> None:
    pairs = [("10.0.0.3", "10.0.0.9"), ("10.0.0.1", "10.0.0.9"), ("10.0.0.8", "10.0.0.9")]
    assert by_rfc6724(*pairs) == [destination for destination, _ in pairs]


def test_kernel_is_asked_for_the_source() -> None:
    def info(family: int, *sockaddr: object) -> AddressInfo:
        return AddressInfo(family, socket.SOCK_STREAM, 6, sockaddr)

    nowhere = info(socket.AF_INET6, "fe80::1", 80, 0, 4_000_000)  # a scope that is no interface
    here = info(socket.AF_INET, "127.0.0.1", 80)
    assert order_addresses([nowhere, here]) == [here, nowhere]
    assert order_addresses([nowhere]) == [nowhere]
    assert order_addresses([]) == []


@pytest.mark.parametrize(
    ("nearer", "farther"),
    [
        (("ff02::1", "fe80::1"), ("ff0e::1", "2001:db8::1")),  # multicast says its scope itself
        (("fe80::1", "fe80::2"), ("fec0::1", "fec0::2")),
        (("::1", "::1"), ("2001:db8::1", "2001:db8::2")),
        (("127.0.0.1", "127.0.0.1"), ("10.0.0.1", "10.0.0.2")),
        (("169.254.1.1", "169.254.1.2"), ("10.0.0.1", "10.0.0.2")),
    ],
)
def test_nearer_scopes_come_first(nearer: tuple[str, str], farther: tuple[str, str]) -> None:
    assert by_rfc6724(farther, nearer) == [nearer[0], farther[0]]


@pytest.mark.unix_sockets
def test_unix_sockets_among_addresses_come_first() -> None:
    path = AddressInfo(socket.AF_UNIX, socket.SOCK_STREAM, 0, "/run/x")
    loopback = AddressInfo(socket.AF_INET, socket.SOCK_STREAM, 6, ("127.0.0.1", 80))
    assert order_addresses([loopback, path]) == [path, loopback]
