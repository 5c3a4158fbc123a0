"""Attacks on the reader of responses: the time must grow as the octets do, however they arrive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ae_http._message import ResponseReader

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
EXTENDED = b"1;" + b"x" * 4000 + b"\r\nx\r\n"
EMPTY = OK + b"Content-Length: 0\r\n\r\n"
LIMIT = 1 << 16  # of a head, and of a trailer section


def names(count: int) -> bytes:
    return b"".join(b"A%d:x\n" % i for i in range(count))


# of about the given size, up to the limit for heads
HEADS: dict[str, Callable[[int], bytes]] = {
    "one-field": lambda n: OK + b"A: " + b"x" * n + b"\r\n\r\n",
    "fields": lambda n: OK + b"".join(b"A%d: x\r\n" % i for i in range(n // 11)) + b"\r\n",
    "one-name": lambda n: OK + b"A: x\r\n" * (n // 6) + b"\r\n",
    "empty-fields": lambda n: OK + b"A:\n" * (n // 3) + b"\r\n",
    "colons": lambda n: OK + b"A:" + b":" * n + b"\r\n\r\n",
    "blanks": lambda n: OK + b"A:" + b" " * n + b"\r\n\r\n",
    "long-reason": lambda n: b"HTTP/1.1 200 " + b"x" * n + b"\r\n\r\n",
    "folds": lambda n: OK + b"A: x" + b"\r\n x" * (n // 4) + b"\r\n\r\n",
    "empty-folds": lambda n: OK + b"A: x" + b"\n " * (n // 2) + b"\r\n\r\n",
    "long-fold": lambda n: OK + b"A: x\r\n" + b" \t" * (n // 2) + b"\r\n\r\n",
    "bad-at-the-end": lambda n: OK + b"A: x\r\n" * (n // 6) + b"\0\r\n\r\n",
    "carriage-returns": lambda n: OK + b"\r" * n + b"\n\n",
    "lengths": lambda n: OK + b"Content-Length: 0" + b", 0" * (n // 3) + b"\r\n\r\n",
    "length-fields": lambda n: OK + b"Content-Length: 0\r\n" * (n // 19) + b"\r\n",
    "options": lambda n: OK + b"Content-Length: 0\r\nConnection: " + b"a," * (n // 2) + b"\r\n\r\n",
    "trailer-line": lambda n: CHUNKED + b"0\r\nA: " + b"x" * n + b"\r\n\r\n",
    "trailers": lambda n: CHUNKED + b"0\r\n" + b"A:x\n" * (n // 4) + b"\r\n",
    "trailer-names": lambda n: CHUNKED + b"0\r\n" + names(n // 10) + b"\r\n",
    "trailer-folds": lambda n: CHUNKED + b"0\r\nA: x" + b"\r\n x" * (n // 4) + b"\r\n\r\n",
}  # fmt: skip

# of any size
BODIES: dict[str, Callable[[int], bytes]] = {
    "length": lambda n: OK + b"Content-Length: %d\r\n\r\n" % n + b"x" * n,
    "close": lambda n: OK + b"\r\n" + b"x" * n,
    "chunks": lambda n: CHUNKED + b"1\r\nx\r\n" * (n // 6) + b"0\r\n\r\n",
    "zeros": lambda n: CHUNKED + b"0000000000000001\r\nx\r\n" * (n // 21) + b"0\r\n\r\n",
    "extensions": lambda n: CHUNKED + EXTENDED * (n // 4007) + b"0\r\n\r\n",
    "extension": lambda n: CHUNKED + b"1;" + b"x" * n,
    "big-chunk": lambda n: CHUNKED + b"%x\r\n" % n + b"x" * n + b"\r\n0\r\n\r\n",
    "responses": lambda n: EMPTY * (n // len(EMPTY)),
    "not-modified": lambda n: b"HTTP/1.1 304 \r\n\r\n" * (n // 17),
}  # fmt: skip


def read(wire: bytes, step: int) -> None:
    reader = ResponseReader()
    for _ in range(wire.count(b"HTTP/1.1")):
        reader.expect("GET")
    for start in range(0, len(wire), step):
        reader.feed(wire[start : start + step])


Doubling = Callable[[Callable[[int], Callable[[], object]], int], None]


def check(make: Callable[[int], bytes], step: int, size: int, doubling: Doubling) -> None:
    def prepare(size: int) -> Callable[[], object]:
        wire = make(size)
        return lambda: read(wire, step)

    doubling(prepare, size)


@pytest.mark.parametrize("step", [1, 1460, 1 << 30], ids=["trickle", "packets", "whole"])
@pytest.mark.parametrize("name", HEADS)
def test_heads_and_trailers_take_linear_time(name: str, step: int, doubling: Any) -> None:
    check(HEADS[name], step, LIMIT - 100, doubling)


@pytest.mark.parametrize("step", [1, 1460, 1 << 30], ids=["trickle", "packets", "whole"])
@pytest.mark.parametrize("name", BODIES)
def test_bodies_take_linear_time(name: str, step: int, doubling: Any) -> None:
    sizes = {1: 1 << 16, 1460: 1 << 20}
    check(BODIES[name], step, sizes.get(step, 1 << 24 if name == "chunks" else 1 << 21), doubling)
