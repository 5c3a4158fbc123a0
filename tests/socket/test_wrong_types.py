"""Arguments of the wrong type are refused at the call: what was expected, and what was given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ae_socket import (
    HostsFile,
    ThreadResolver,
    address_family,
    format_address,
    format_host_port,
    format_ipv4,
    format_ipv6,
    order_addresses,
    parse_address,
    parse_host_port,
    parse_ipv4,
    parse_ipv6,
    parse_unix,
    resolve,
    tcp_connect,
    tcp_server,
    udp_endpoint,
)

X: Any = object()
FIVE: Any = 5
TEXT: Any = "0"
LOOPBACK = ("127.0.0.1", 9)
NOT_ADDRESSES: list[Any] = [
    X, 5, ("127.0.0.1",), ("127.0.0.1", None), ("127.0.0.1", 1.0), ("127.0.0.1", True),
    ("127.0.0.1", 1, 2), ["127.0.0.1", 1], (b"127.0.0.1", 1), b"127.0.0.1", (None, 1),
]  # fmt: skip


def nobody(*_: object) -> None:
    raise AssertionError("nothing is called")


WRONG: list[Callable[[], object]] = [
    lambda: tcp_connect(*LOOPBACK, X),
    lambda: tcp_connect(*LOOPBACK, FIVE),
    lambda: tcp_connect(*LOOPBACK, on_prepare=X),
    lambda: tcp_connect(*LOOPBACK, timeout=X),
    lambda: tcp_connect(*LOOPBACK, local_address=("127.0.0.1", TEXT)),
    lambda: tcp_connect("127.0.0.1", True),
    lambda: tcp_server("127.0.0.1", 0, X),
    lambda: tcp_server("127.0.0.1", 0, nobody, on_prepare=X),
    lambda: tcp_server("127.0.0.1", 0, nobody, backlog=X),
    lambda: tcp_server("127.0.0.1", 0, nobody, backlog=TEXT),
    lambda: tcp_server(X, 0, nobody),
    lambda: tcp_server("127.0.0.1", X, nobody),
    lambda: tcp_server(None, None, nobody, sock=X),
    lambda: udp_endpoint(X),
    lambda: udp_endpoint(nobody, on_error=X),
    lambda: udp_endpoint(nobody, on_error=FIVE),
    lambda: resolve(X, 80),
    lambda: resolve("x.test", X),
    lambda: ThreadResolver().getaddrinfo(X, 80),
    lambda: ThreadResolver().getaddrinfo("x.test", X),
    lambda: ThreadResolver(max_threads=X),
    lambda: HostsFile(X),
    lambda: HostsFile().addresses(X),
    lambda: order_addresses([X]),
    lambda: order_addresses([TEXT, TEXT]),
    lambda: format_host_port(X),
    lambda: format_host_port("x", X),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_callbacks_and_addresses_are_looked_at_in_the_call(number: int) -> None:
    with pytest.raises(TypeError, match=r"expected .*, (got|not) "):
        WRONG[number]()


@pytest.mark.parametrize("address", NOT_ADDRESSES, ids=repr)
def test_what_is_no_address_by_its_type_is_refused_in_the_call(address: Any) -> None:
    with pytest.raises(TypeError, match=r"expected local_address as str or .*, got "):
        tcp_connect(*LOOPBACK, local_address=address)
    for name in ("local_address", "remote_address"):
        arguments = {name: address}
        with pytest.raises(TypeError, match=rf"expected {name} as str or .*, got "):
            udp_endpoint(nobody, **arguments)
    with udp_endpoint(nobody, local_address="127.0.0.1") as endpoint:
        with pytest.raises(TypeError, match=r"expected address as str or .*, got "):
            endpoint.send(b"x", address)


@pytest.mark.parametrize("parse", [parse_ipv4, parse_ipv6, parse_unix, parse_address])
@pytest.mark.parametrize("text", [None, 5, b"10.1", b"unix/"])
def test_only_text_is_parsed(parse: Callable[[Any], object], text: Any) -> None:
    with pytest.raises(TypeError, match="expected an address as str, got "):
        parse(text)
    with pytest.raises(TypeError, match="expected a text as str, got "):
        parse_host_port(text)


@pytest.mark.parametrize("format", [format_ipv4, format_ipv6, format_address, address_family])
@pytest.mark.parametrize("packed", ["10.1", "abcd", "x" * 16, "", None, 4, [1, 2, 3, 4], (1, 2)])
def test_only_octets_are_packed_addresses(format: Callable[[Any], object], packed: Any) -> None:
    with pytest.raises(TypeError, match="expected a packed address as bytes, got "):
        format(packed)
