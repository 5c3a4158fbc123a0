"""Texts of addresses: upstream's tables, row by row, and round trips."""

from __future__ import annotations

import socket
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ae_socket import (
    UNIX,
    _addresses,
    address_family,
    format_address,
    format_host_port,
    format_ipv4,
    format_ipv6,
    parse_address,
    parse_host_port,
    parse_ipv4,
    parse_ipv6,
    parse_unix,
)

IPV4_GOOD = {
    "10.0.0.1": "0a000001",
    "10.1": "0a000001",
    "10.0x020304": "0a020304",
    "0x12345678": "12345678",
    "0377.0377.0377.0377": "ffffffff",
    "1.2.65535": "0102ffff",
    "1.16777215": "01ffffff",
    "4294967295": "ffffffff",
    "037777777777": "ffffffff",
    "010.0.0.1": "08000001",
    "0": "00000000",
    "00": "00000000",
    "00.00": "00000000",
    "1.0x00ffffff": "01ffffff",
}
IPV4_BAD = [
    "256.1.1.1", "1.2.3.256", "1.2.65536", "1.16777216", "4294967296", "08.1.1.1", "1..2",
    "1.2.3.4.5", "", " 10.1", "10.1 ", "10.1\n", "0x", "-1", "+1", "0X1", "1.", ".1", "1.2.3.4.",
    "0xg", "1e1", "09", "0x100000000", "१.1", "1.2.3.4\0", "9" * 100_000, "unix/", "localhost",
]  # fmt: skip
IPV6_GOOD = {
    "::": "00000000000000000000000000000000",
    "1::": "00010000000000000000000000000000",
    "2002:5345::10.0.0.17": "2002534500000000000000000a000011",
    "2002:5345::10.0.0.1": "2002534500000000000000000a000001",
    "192.89.98.1": "00000000000000000000ffffc0596201",
    "1:2:3:4:5:6:7::": "00010002000300040005000600070000",
    "::2:3:4:5:6:7:8": "00000002000300040005000600070008",
    "1:2:3:4:5:6:1.2.3.4": "00010002000300040005000601020304",
    "::1.2": "00000000000000000000000001000002",
    "::0x10.1": "00000000000000000000000010000001",
    "1:2:3:4:5:6:7:8": "00010002000300040005000600070008",
    "1:2:3:4:5::1.2.3.4": "00010002000300040005000001020304",
    "::FFFF:1.2.3.4": "00000000000000000000ffff01020304",
    "FE80::A": "fe80000000000000000000000000000a",
    "::10": "00000000000000000000000000000010",
    "0": "00000000000000000000ffff00000000",
}
IPV6_BAD = [
    "1:2:3:4:5:6:7", "1::2::3", "fe80::1%eth0", "fe80::1%2", "12345::", "00001::", "g::",
    "1:2:3:4:5:6:7:1.2.3.4", ":1:2:3:4:5:6:7", "1:2:3:4:5:6:7:", ":::", "1:2:3:4:5:6:7:8:9",
    "::FFFF:A.B", "1::2:3:4:5:6:7:8", "::1:2:3:4:5:6:1.2.3.4", "1::8:", ":", "1:", ":1", "",
    "::1\n", " ::1", "::1 ", "1.2.3.4::", "::1.2.3.4:5", "::1:2:3:4:5:6:7:8", "::0.0.0.0.1",
    "::-1", "::1_0", "unix/",
]  # fmt: skip


@pytest.mark.parametrize(("text", "packed"), IPV4_GOOD.items())
def test_ipv4_text_is_read(text: str, packed: str) -> None:
    assert parse_ipv4(text) == bytes.fromhex(packed)


@pytest.mark.parametrize("text", IPV4_BAD, ids=lambda text: repr(text[:20]))
def test_what_is_no_ipv4_address_gives_none(text: str) -> None:
    assert parse_ipv4(text) is None


@pytest.mark.parametrize(("text", "packed"), IPV6_GOOD.items())
def test_ipv6_text_is_read(text: str, packed: str) -> None:
    assert parse_ipv6(text) == bytes.fromhex(packed)


@pytest.mark.parametrize("text", IPV6_BAD)
def test_what_is_no_ipv6_address_gives_none(text: str) -> None:
    assert parse_ipv6(text) is None


@pytest.mark.parametrize(
    ("packed", "text"),
    [
        ("00000000000000000000000000000000", "::"),
        ("00000000000000000000000000000001", "::1"),
        ("00000000000000000000000000000002", "::0.0.0.2"),
        ("0000000000000000000000000a000001", "::10.0.0.1"),
        ("00000000000000000000ffff01020304", "::ffff:1.2.3.4"),
        ("0000000000000000ffff000001020304", "::ffff:0:1.2.3.4"),
        ("00000000000000000000fffe01020304", "::fffe:102:304"),
        ("20010db8000000000001000000000001", "2001:db8::1:0:0:1"),
        ("20010db8000000010001000100010001", "2001:db8:0:1:1:1:1:1"),
        ("20010000000000000001000000000001", "2001::1:0:0:1"),
        ("20010000000000010000000000000001", "2001:0:0:1::1"),
        ("00010000000000000000000000000000", "1::"),
        ("00000001000000000000000000000000", "0:1::"),
        ("00000000000100020003000400050006", "::1:2:3:4:5:6"),
        ("00000000000000010000000000000000", "0:0:0:1::"),
        ("00000000000000000001000000000000", "::1:0:0:0"),
        ("fe80000000000000abcdef0123456789", "fe80::abcd:ef01:2345:6789"),
    ],
)
def test_ipv6_is_formatted_like_upstream(packed: str, text: str) -> None:
    assert format_ipv6(bytes.fromhex(packed)) == text


def test_format_address_goes_by_length() -> None:
    assert format_address(b"\x0a\0\0\x01") == "10.0.0.1"
    assert format_address(bytes(15) + b"\x01") == "::1"
    assert format_address(bytes(10) + b"\xff\xff\x01\x02\x03\x04") == "1.2.3.4"
    assert format_address(UNIX) == "unix/"
    for octets in (b"", b"\0", b"\0\0", b"12345", bytes(17)):
        assert format_address(octets) is None


@pytest.mark.parametrize(("function", "wrong"), [(format_ipv4, bytes(5)), (format_ipv6, bytes(4))])
def test_formatting_the_wrong_length_raises(function: object, wrong: bytes) -> None:
    with pytest.raises(ValueError, match="bytes, got"):
        function(wrong)  # type: ignore[operator]


def test_parse_address_knows_all_kinds() -> None:
    assert parse_address("10.1") == b"\x0a\0\0\x01"
    assert parse_address("::1") == bytes(15) + b"\x01"
    assert parse_address("::ffff:10.0.0.1") == b"\x0a\0\0\x01"
    assert parse_address("unix/") == UNIX == parse_unix("unix/")
    for text in ("localhost", "", "fe80::1%eth0", "unix", "/unix"):
        assert parse_address(text) is None
        assert parse_unix(text) is None


@pytest.mark.unix_sockets
def test_family_of_a_packed_address() -> None:
    assert address_family(bytes(4)) is socket.AF_INET
    assert address_family(bytes(16)) is socket.AF_INET6
    assert address_family(UNIX) is socket.AF_UNIX
    assert address_family(bytes(5)) is None


@given(st.binary(min_size=4, max_size=4))
def test_every_ipv4_address_survives_its_text(packed: bytes) -> None:
    text = format_ipv4(packed)
    assert parse_ipv4(text) == parse_address(text) == packed
    assert socket.inet_aton(text) == packed


# Mostly zeros: that is where the rules are.
_groups = st.lists(
    st.one_of(st.just(0), st.just(0), st.just(0xFFFF), st.integers(0, 0xFFFF)),
    min_size=8,
    max_size=8,
)


@given(_groups)
def test_every_ipv6_address_survives_its_text(groups: list[int]) -> None:
    packed = b"".join(group.to_bytes(2, "big") for group in groups)
    text = format_ipv6(packed)
    assert parse_ipv6(text) == packed
    assert socket.inet_pton(socket.AF_INET6, text) == packed
    full = ":".join(f"{group:X}" for group in groups)
    assert parse_ipv6(full) == packed


@given(st.text(alphabet="0123456789abcdefgx.:% /[]#\n", max_size=40))
def test_no_text_breaks_the_parsers(text: str) -> None:
    for parse, size in ((parse_ipv4, 4), (parse_ipv6, 16)):
        packed = parse(text)
        assert packed is None or len(packed) == size
    split = parse_host_port(text, 80)
    assert split is None or (split[0] and split[1])
    # Where the system's own parser sees a full IPv6 address, so do we.
    try:
        expected = socket.inet_pton(socket.AF_INET6, text)
    except OSError:
        return
    assert parse_ipv6(text) == expected


NOTHING = object()

HOST_PORT = [
    ("", None, None),
    ("localhost", None, None),
    ("localhost", 443, ("localhost", "443")),
    ("localhost:444", 443, ("localhost", "444")),
    ("10.0.0.1", 443, ("10.0.0.1", "443")),
    ("10.1:80", 443, ("10.1", "80")),
    ("::1", 443, ("::1", "443")),
    ("[::1]:80", None, ("::1", "80")),
    ("[::1] 80", None, ("::1", "80")),
    ("::1 smtp", 443, ("::1", "smtp")),
    ("[www.linux.org] 80", None, ("www.linux.org", "80")),
    ("[10.1]:80", None, ("10.1", "80")),
    ("10.1 80", None, ("10.1", "80")),
    ("www.linux.org", None, None),
    ("www.linux.org", "http", ("www.linux.org", "http")),
    ("www.x.de:443", None, ("www.x.de", "443")),
    ("www.x.de:https=443", None, ("www.x.de", "https=443")),
    ("198.182.196.56", 25, ("198.182.196.56", "25")),
    ("127.1:22", None, ("127.1", "22")),
    ("::1", 80, ("::1", "80")),
    ("::1", None, None),
    ("[::1]", 80, ("::1", "80")),
    ("[10.0.1]:80", None, ("10.0.1", "80")),
    ("[www.x.org] 17", None, ("www.x.org", "17")),
    ("::1 443", None, ("::1", "443")),
    ("10.0.0.1 smtp", None, ("10.0.0.1", "smtp")),
    ("unix/:/path/to/socket", None, ("unix/", "/path/to/socket")),
    ("/path/to/socket", None, ("unix/", "/path/to/socket")),
    ("/path/to/socket", 80, ("unix/", "/path/to/socket")),
    ("/a:b c", 80, ("unix/", "/a:b c")),
    ("host:", 80, None),
    ("host :80", None, None),
    ("host: 80", None, None),
    ("host  80", None, ("host", "80")),
    ("host#80", None, None),
    ("host#80", 80, None),
    ("host ", 80, None),
    ("host\n", 80, None),
    ("host:80\n", 1, None),
    ("host:80 ", 1, ("host", "80")),
    ("::1#80", None, ("::1", "80")),
    ("::1:80", 443, ("::1:80", "443")),
    ("::1:80 22", 443, ("::1:80", "22")),
    ("[::1]:", 443, None),
    ("[::1]80", 443, None),
    ("a:b:c", 443, None),
    (" host:80 ", None, None),
    ("  host", 80, None),
    (" ::1", 80, ("::1", "80")),
    ("\t::1 80 ", 1, ("::1", "80")),
    ("host:80:90", 80, None),
    ("[::1, ::1]", 80, None),
    ("[[::1]]:80", 80, None),
    ("[::1", 80, None),
    ("::1]", 80, None),
    ("   ", 80, None),
    ("[]:80", 80, None),
    ("[a:b]:80", 80, None),
    ("host", 0, ("host", "0")),
    ("host:0", None, ("host", "0")),
    ("host", "", None),
    ("fe80::1%eth0", 80, ("fe80::1%eth0", "80")),
    ("fe80::1%eth0", None, None),
    ("fe80::1%2 81", 80, ("fe80::1%2", "81")),
    ("fe80::1%eth0#81", 80, ("fe80::1%eth0", "81")),
    ("[fe80::1%eth0]:80", 80, ("fe80::1%eth0", "80")),
    ("[fe80::1%eth0.100]:80", None, ("fe80::1%eth0.100", "80")),
    ("[fe80::1%]:80", 80, None),
    ("fe80::1%", 80, None),
    ("fe80::1%eth0:80", 443, ("fe80::1%eth0", "80")),
    ("2002:58c6:438b::10.0.0.17", 443, ("2002:58c6:438b::10.0.0.17", "443")),
    ("::", 80, ("::", "80")),
    ("h\0st:80", 80, None),
    ("/pa\0th", 80, None),
]


@pytest.mark.parametrize(("text", "default", "expected"), HOST_PORT)
def test_host_and_port_are_split(
    text: str, default: str | int | None, expected: tuple[str, str] | None
) -> None:
    assert parse_host_port(text, default) == expected


def test_host_and_port_are_joined() -> None:
    assert format_host_port("::1", 80) == "[::1]:80"
    assert format_host_port("[::1]", 80) == "[::1]:80"
    assert format_host_port("fe80::1%eth0", "80") == "[fe80::1%eth0]:80"
    assert format_host_port("unix/", "/p") == "unix/:/p"
    assert format_host_port("h", 0) == "h:0"
    assert format_host_port("h", "") == format_host_port("h") == format_host_port("h", None) == "h"


@given(
    st.one_of(
        st.sampled_from(["localhost", "x.org", "unix/", "fe80::1%eth0", "a_b-c.test"]),
        st.binary(min_size=4, max_size=4).map(format_ipv4),
        st.binary(min_size=16, max_size=16).map(format_ipv6),
    ),
    st.sampled_from(["80", "0", "http", "https=8443", "/run/a socket", "xmpp-client"]),
)
def test_joined_host_and_port_are_split_again(host: str, port: str) -> None:
    if " " in port:
        return  # a path with a blank survives only in the form that begins with the path
    assert parse_host_port(format_host_port(host, port)) == (host, port)


@given(
    st.text("0123456789.x", max_size=18)
    | st.lists(st.sampled_from(["0", "1", "08", "010", "127", "255", "256"]), max_size=5).map(
        ".".join
    )
)
def test_four_decimal_numbers_mean_the_same_the_short_way(text: str) -> None:
    short = parse_ipv4(text)
    with mock.patch.object(_addresses, "_plain_ipv4", return_value=None):
        assert parse_ipv4(text) == short
