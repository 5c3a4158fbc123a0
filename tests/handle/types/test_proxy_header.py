"""The PROXY protocol's header: by the specification's own shapes, fuzzed, and from haproxy."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ae_handle import (
    NEED_MORE,
    BadMessage,
    Handle,
    Proxied,
    ProxyHeader,
    ReadBuffer,
    serve,
)
from ae_handle.testing import check_cuts, check_reader

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
IPV4 = ("192.0.2.1", 56324), ("198.51.100.1", 443)
IPV6 = ("2001:db8::1", 56324), ("2001:db8::2", 443)
UNIX = ("unix/", "/run/client"), ("unix/", "/run/server")
V2_IPV4 = bytes.fromhex("c0000201 c6336401 dc04 01bb")


def v2(command: int, family: int, body: bytes) -> bytes:
    return SIGNATURE + bytes((command, family)) + len(body).to_bytes(2, "big") + body


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", Proxied(*IPV4)),
        (b"PROXY TCP6 2001:db8::1 2001:0db8::2 56324 443\r\n", Proxied(*IPV6)),
        (b"PROXY UNKNOWN\r\n", Proxied(None, None)),
        (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", Proxied(None, None)),
        (v2(0x21, 0x11, V2_IPV4), Proxied(*IPV4)),
        (v2(0x21, 0x12, V2_IPV4), Proxied(*IPV4)),
        (
            v2(0x21, 0x11, V2_IPV4 + b"\x01\0\2h2\x05\0\0"),
            Proxied(*IPV4, ((1, b"h2"), (5, b""))),
        ),
        (v2(0x20, 0x00, b""), Proxied(None, None)),
        (v2(0x20, 0x11, V2_IPV4 + b"anything"), Proxied(None, None)),
        (v2(0x21, 0x00, b"anything"), Proxied(None, None)),
        (
            v2(0x21, 0x31, b"/run/client".ljust(108, b"\0") + b"/run/server".ljust(108, b"\0")),
            Proxied(*UNIX),
        ),
    ],
)
def test_headers_of_the_specification(wire: bytes, expected: Proxied) -> None:
    check_reader(ProxyHeader(), wire, expected)


@pytest.mark.parametrize(
    "wire",
    [
        b"G",
        b"\r\n\r\n\0\r\nQUIT\r",
        b"PROXY",
        b"PROXX ",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n",
        b"PROXY TCP4  192.0.2.1 198.51.100.1 56324 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443 \r\n",
        b"PROXY TCP4 192.0.2.1 2001:db8::2 56324 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 056324 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 65536\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 -1 443\r\n",
        b"PROXY TCP4 192.0.2.01 198.51.100.1 1 443\r\n",
        b"PROXY TCP6 fe80::1%eth0 fe80::2 1 443\r\n",
        b"PROXY tcp4 192.0.2.1 198.51.100.1 1 443\r\n",
        b"PROXY UNIX a b\r\n",
        b"PROXY " + b"x" * 101,
        v2(0x11, 0x11, V2_IPV4),
        v2(0x22, 0x11, V2_IPV4),
        v2(0x21, 0x13, V2_IPV4),
        v2(0x21, 0x11, V2_IPV4[:-1]),
        v2(0x21, 0x21, V2_IPV4),
        v2(0x21, 0x11, V2_IPV4 + b"\1\0\3h2"),
        v2(0x21, 0x11, V2_IPV4 + b"\1\0"),
    ],
)
def test_what_is_no_header_is_refused_and_consumes_nothing(wire: bytes) -> None:
    buffer = ReadBuffer(wire)
    if wire in (b"PROXY",):
        assert ProxyHeader()(buffer) is NEED_MORE
        buffer.feed(b"\n")
    with pytest.raises(BadMessage):
        ProxyHeader()(buffer)
    assert len(buffer) == len(wire) + (wire == b"PROXY")


def test_a_client_without_a_balancer_is_refused_by_its_first_octet() -> None:
    for first in set(range(256)) - {ord("P"), ord("\r")}:
        with pytest.raises(BadMessage, match="expected a PROXY header"):
            ProxyHeader()(ReadBuffer(bytes((first,))))


addresses = st.one_of(
    st.tuples(*[st.tuples(st.ip_addresses(v=4).map(str), st.integers(0, 65535))] * 2),
    st.tuples(*[st.tuples(st.ip_addresses(v=6).map(str), st.integers(0, 65535))] * 2),
)
paths = st.text(st.characters(min_codepoint=1, max_codepoint=0x7F), min_size=1, max_size=108).map(
    lambda path: ("unix/", path)
)
tlvs = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=40)), max_size=4).map(tuple)


@given(addresses | st.tuples(paths, paths), tlvs)
def test_every_value_comes_back_through_every_cut_of_version_2(pair: Any, more: Any) -> None:
    value = Proxied(*pair, more)
    check_cuts(ProxyHeader(), ProxyHeader().encode(value), [value])


@given(addresses)
def test_every_value_comes_back_through_every_cut_of_version_1(pair: Any) -> None:
    value = Proxied(*pair)
    check_cuts(ProxyHeader(), ProxyHeader(1).encode(value), [value])


@given(
    st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"!\x11"]), st.binary()
)
def test_whatever_comes_is_a_header_or_refused_or_not_enough(head: bytes, rest: bytes) -> None:
    buffer = ReadBuffer(head + rest)
    with suppress(BadMessage):
        assert ProxyHeader()(buffer) is NEED_MORE or len(buffer) < len(head + rest)


def test_the_largest_header_costs_linear_time(doubling: Callable[..., None]) -> None:
    def make(size: int) -> Callable[[], object]:
        wire = v2(0x21, 0x11, V2_IPV4 + (b"\4\0\0" * ((size - 12) // 3)))

        def work() -> None:
            for _ in range(20):
                buffer = ReadBuffer()
                for start in range(0, len(wire), 16):
                    buffer.feed(wire[start : start + 16])
                    value = ProxyHeader()(buffer)
                assert value is not NEED_MORE

        return work

    doubling(make, 60_000)


def test_what_cannot_be_said_is_refused() -> None:
    one, two = ProxyHeader(1), ProxyHeader()
    assert one.encode(Proxied(None, None)) == b"PROXY UNKNOWN\r\n"
    assert two.encode(Proxied(None, None)) == v2(0x20, 0, b"")
    for value in (
        Proxied(*IPV4, ((1, b""),)),
        Proxied(*UNIX),
        Proxied(IPV4[0], IPV6[0]),
        Proxied(IPV4[0], None),
        Proxied(("localhost", 1), IPV4[0]),
        Proxied(("192.0.2.1", 65536), IPV4[0]),
    ):
        with pytest.raises(ValueError, match=r"."):
            one.encode(value)
    for value in (
        Proxied(IPV4[0], UNIX[0]),
        Proxied(UNIX[0], ("unix/", "x" * 109)),
        Proxied(UNIX[0], ("unix/", 1)),
        Proxied(None, None, ((1, b""),)),
        Proxied(*IPV4, ((1, bytes(65535)),)),
    ):
        with pytest.raises(ValueError, match=r"."):
            two.encode(value)
    with pytest.raises(TypeError, match="expected a Proxied, got 1"):
        two.encode(1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected version 1 or 2, got 3"):
        ProxyHeader(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
def test_haproxy_tells_who_the_client_is(version: str, tmp_path: Path) -> None:
    if shutil.which("haproxy") is None:
        pytest.skip("haproxy is not installed")
    told: list[Any] = []

    async def handler(handle: Handle) -> None:
        told.append(await handle.push_read(ProxyHeader()))
        handle.push_write((await handle.push_read("line")).upper() + b"\n")

    config = tmp_path / "haproxy.cfg"
    with (
        serve("127.0.0.1", 0, handler) as served,
        socket.create_server(("127.0.0.1", 0)) as front,
    ):
        config.write_text(
            "defaults\n mode tcp\n timeout connect 30s\n timeout client 30s\n timeout server 30s\n"
            f"listen front\n bind fd@{front.fileno()}\n"
            f" server s 127.0.0.1:{served.address[1]} {version}\n"
        )
        command = ["haproxy", "-q", "-f", str(config)]
        with subprocess.Popen(command, pass_fds=[front.fileno()]) as haproxy:
            try:
                client = socket.create_connection(front.getsockname())
                source, destination = client.getsockname(), client.getpeername()
                handle = Handle(client, linger=0)
                handle.push_write(b"hello\n")
                assert handle.push_read("line").recv(timeout=30) == b"HELLO"
                handle.destroy()
            finally:
                haproxy.terminate()
    (value,) = told
    assert (value.source, value.destination) == (source, destination)
