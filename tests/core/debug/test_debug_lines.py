"""What the debug shell takes for a line of a person's, and what ends the connection (DEBUG-15)."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

import ae_core as ae
from ae_core import debug
from ae_core.debug import _lines, _shell

pytestmark = pytest.mark.usefixtures("fresh_logs")

TLS_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(0xE0, 0x100)) + b"\x20"
NO_TEXT = "a line must be UTF-8 text"
CONTROLS = "a line must not contain control characters"
NO_WEB = "this is no web server"
NO_TLS = "this is no TLS server"

REFUSED = {
    "latin-1": (b"x = '\xe9'", NO_TEXT),
    "cut character": (b"x = '\xe2\x82", NO_TEXT),
    "surrogate": (b"'\xed\xa0\x80'", NO_TEXT),
    "overlong slash": (b"6 \xc0\xaf 3", NO_TEXT),
    "CR within": (b"1\r2", CONTROLS),
    "two CR at the end": (b"1\r\r", CONTROLS),
    "C1 control": (b"'\xc2\x9b2J'", CONTROLS),
    "next line": (b"1\xc2\x85 2", CONTROLS),
    **{f"control {n:#x}": (b"'%c'" % n, CONTROLS) for n in (*range(9), 11, 12, 14, 27, 31, 127)},
    "GET": (b"GET / HTTP/1.1", NO_WEB),
    "get": (b"get / http/1.1".replace(b"http", b"HTTP"), NO_WEB),
    "GET of HTTP/0.9": (b"GET /__import__('os')", NO_WEB),
    "GET with blanks": (b"GET /a b c HTTP/1.1", NO_WEB),
    "POST": (b"POST /x HTTP/1.1", NO_WEB),
    "own method": (b"REPORT http://127.0.0.1/ HTTP/1.1", NO_WEB),
    "CONNECT": (b"CONNECT localhost:1 HTTP/1.1", NO_WEB),
    "OPTIONS": (b"OPTIONS * HTTP/1.1", NO_WEB),
    "HTTP/2": (b"PRI * HTTP/2.0", NO_WEB),
    "response": (b"HTTP/1.1 200 OK", NO_WEB),
    "Host": (b"Host: localhost", NO_WEB),
    "host": (b"  host : localhost", NO_WEB),
    "Origin": (b"Origin: null", NO_WEB),
    "Content-Type": (b"Content-Type: text/plain", NO_WEB),
    "sec-fetch-mode": (b"sec-fetch-mode: no-cors", NO_WEB),
    "TLS": (TLS_HELLO, NO_TLS),
    "SSL 2": (b"\x80\x2e\x01\x00\x02", NO_TEXT),
    "TLS alert": (b"\x15\x03\x01\x00\x02\x02\x28", CONTROLS),
}  # fmt: skip
TAKEN = [
    b"", b"\t1", b"x = 1\t# one", b"'\xc3\xa9\xe2\x82\xac'", b"'\xe2\x80\xae'", b"1\r",
    b"x: int = 5", b"lambda: 5", b"x = {'Host': 1}", b"h.push_write('GET / HTTP/1.1')",
    b"['GET / HTTP/1.1']", b"GET = 5", b"HTTP = 1", b"a-b", b"{a-b: 1}", b"host = 'x'",
]  # fmt: skip


@pytest.mark.parametrize(("line", "reason"), REFUSED.values(), ids=REFUSED)
def test_line_of_another_protocol_is_refused(line: bytes, reason: str) -> None:
    assert _lines.refusal(line) == reason
    assert _lines.refusal(line + b"\r") == reason


@pytest.mark.parametrize("line", TAKEN)
def test_line_that_a_person_may_type_is_taken(line: bytes) -> None:
    assert _lines.refusal(line) is None
    assert _lines.binary(line, 0) is None


# Over sockets


@pytest.fixture(params=["unix", "tcp"])
def shell(request: pytest.FixtureRequest, address: Any) -> Iterator[debug.Shell]:
    """A shell of each kind."""
    if request.param == "unix" and not hasattr(socket, "AF_UNIX"):
        pytest.skip("needs UNIX sockets")
    with debug.shell(*(address if request.param == "unix" else ("127.0.0.1", 0))) as shell:
        yield shell


def says(shell: debug.Shell, connect: Any, pieces: list[bytes], *, end: bool = False) -> str:
    """Say some pieces, one after the other is read; return what the shell says to the end."""

    async def main() -> str:
        client = connect(shell.address)
        await client.greeted()
        (connection,) = shell._listener.connections
        with contextlib.suppress(OSError):
            for piece in pieces:
                await client.say(piece)
                while connection._reader is not None and client_has_unread(connection._sock):
                    await ae.sleep(0)
            if end:
                client.sock.shutdown(socket.SHUT_WR)
        got: str = await client.rest()
        client.close()
        while shell._listener.connections:
            await ae.sleep(0)
        return got

    return ae.run(main())


def client_has_unread(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except OSError:
        return False


def cuts(data: bytes) -> dict[str, list[bytes]]:
    """*data* in one piece, line by line, and octet by octet."""
    return {
        "whole": [data],
        "lines": data.splitlines(keepends=True),
        "octets": [data[i : i + 1] for i in range(len(data))],
    }


@pytest.mark.parametrize("cut", ["whole", "lines", "octets"])
@pytest.mark.parametrize(
    "kind", ["latin-1", "control 0x0", "GET", "Content-Type", "TLS", "CR within"]
)
def test_nothing_behind_a_bad_line_is_run(
    kind: str, cut: str, shell: debug.Shell, connect: Any, shown: Any
) -> None:
    line, reason = REFUSED[kind]
    ran: list[str] = []
    shell._listener.namespace.update(ran=ran)
    data = b"ran.append('before')\n" + line + b"\nran.append('behind')\n\xff\nran.append('last')\n"
    got = says(shell, connect, cuts(data)[cut])
    assert ran == ["before"]  # as ever the octets are cut
    if kind == "TLS" and cut == "octets":
        reason = CONTROLS  # the first octet is enough
    assert got == f"> refused: {reason}\r\n"
    assert shown() == ""  # a warning: not shown by default


@pytest.mark.parametrize("tail", [b"\n", b""], ids=["line", "no line"])
def test_tls_client_with_a_poisoned_ticket_is_thrown_out(
    tail: bytes, shell: debug.Shell, connect: Any
) -> None:
    ran: list[str] = []
    shell._listener.namespace.update(ran=ran)
    hello = TLS_HELLO + b"ticket:\nran.append('poison')\nran.append('more')" + tail
    assert says(shell, connect, [hello]) == f"refused: {NO_TLS}\r\n"
    assert ran == []


def test_binary_data_without_a_line_feed_ends_the_connection(
    shell: debug.Shell, connect: Any
) -> None:
    assert says(shell, connect, [b"\x16\x03\x01\x02"]) == f"refused: {NO_TLS}\r\n"
    assert says(shell, connect, [b"abc", b"def\x00"]) == f"refused: {CONTROLS}\r\n"


def test_line_without_its_end_is_never_run(shell: debug.Shell, connect: Any) -> None:
    ran: list[str] = []
    shell._listener.namespace.update(ran=ran)
    for pieces in ([b"ran.append(1)"], [b"ran.append(1)\r"], [b"ran.append('\xe2\x82"]):
        assert says(shell, connect, pieces, end=True) == ""
    assert ran == []


def test_line_that_is_too_long_is_not_run_nor_what_is_behind(
    shell: debug.Shell, connect: Any
) -> None:
    ran: list[str] = []
    shell._listener.namespace.update(ran=ran)
    long = b"ran.append(1)".ljust(_lines.LONGEST_LINE)
    got = says(shell, connect, [long + b"\n", b" " + long + b"\nran.append(2)\n"])
    assert got == f"> refused: line longer than {_lines.LONGEST_LINE} bytes\r\n"
    assert ran == [1]


def test_bad_line_that_waits_for_the_reader_is_refused_all_the_same(
    shell: debug.Shell, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines behind much output are looked at when the client has read it."""
    monkeypatch.setattr(_shell, "MOST_OUTPUT", 1000)
    ran: list[str] = []
    shell._listener.namespace.update(ran=ran)
    got = says(shell, connect, [b"'x' * 900\n" * 40 + b"\x00\nran.append(1)\n"])
    assert got.count("x" * 900) == 40
    assert got.endswith(f"> refused: {CONTROLS}\r\n")
    assert ran == []
