"""Cost is linear in the input, however it is cut: doubling it must not quadruple the work.

Counted in calls and copies where possible; where time is compared, it is processor time of the
same work at two sizes in the same process.
"""

from __future__ import annotations

import os
import re
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from ae_core.testing import Trace
from ae_handle import NEED_MORE, Cbor, Chunk, Handle, Json, Line, NetString, ReadBuffer, Regex
from ae_handle.testing import memory_pair

#: What the clock of a process misses at most, in seconds; Windows counts in steps of 1/64.
TICK = 2 / 64 if os.name == "nt" else 0.0


def assert_linear(work: Callable[[int], None], size: int) -> None:
    """Four times the input must not cost much more than four times the work.

    Quadratic work costs sixteen times as much, on a machine however busy; linear work may look
    worse than it is when somebody else wants the processor, so it gets several chances.
    """
    seen = []
    for _ in range(6):
        small, large = timed(work, size), timed(work, 4 * size)
        if large < small * 4 * 2 + TICK:
            return
        seen.append(f"{small:.4f} s -> {large:.4f} s")
    raise AssertionError("; ".join(seen))


def timed(work: Callable[[int], None], size: int) -> float:
    start = time.process_time()
    work(size)
    return time.process_time() - start


def trickle(read: Any, wire: bytes, piece: int) -> Any:
    buf = ReadBuffer()
    for i in range(0, len(wire), piece):
        assert read(buf) is NEED_MORE
        buf.feed(wire[i : i + piece])
    return read(buf)


WIRES: dict[str, tuple[Any, Callable[[int], bytes]]] = {
    "line": (Line(), lambda n: b"x" * n + b"\n"),
    "line-pattern": (Line(re.compile(rb"\r?\n")), lambda n: b"x" * n + b"\n"),
    "regex": (Regex(rb"\r\n\r\n"), lambda n: b"x\r\n" * (n // 3) + b"\r\n"),
    "regex-reject": (Regex(rb"\n", reject=rb"\0"), lambda n: b"x" * n + b"\n"),
    "chunk": (Chunk(0), lambda n: b"x" * n),
    "netstring": (NetString(), lambda n: b"%d:%b," % (n, b"x" * n)),
    "json-string": (Json(), lambda n: b'"' + b"x" * n + b'"'),
    "json-list": (Json(), lambda n: b"[" + b"1,[]," * (n // 5) + b"1]"),
    "json-escapes": (Json(), lambda n: b'"' + b"\\n" * (n // 2) + b'"'),
    "cbor-string": (Cbor(), lambda n: b"\x5a" + n.to_bytes(4, "big") + b"x" * n),
    "cbor-list": (Cbor(), lambda n: b"\x9f" + b"\x01" * n + b"\xff"),
}


@pytest.mark.parametrize("name", WIRES)
def test_an_item_that_trickles_in_is_looked_at_once(name: str) -> None:
    reader, make = WIRES[name]

    def work(size: int) -> None:
        read = Chunk(size) if name == "chunk" else reader
        assert trickle(read, make(size), 1) is not NEED_MORE

    if name.startswith("cbor"):
        pytest.importorskip("cbor2")
    assert_linear(work, 8_000)


def test_a_long_line_octet_by_octet() -> None:
    assert trickle(Line(), b"x" * 300_000 + b"\n", 1) == b"x" * 300_000


def test_many_values_in_one_read_are_read_in_linear_time() -> None:
    def work(count: int) -> None:
        for read, wire in (
            (Json(), b'{"a":[1]}\n'),
            (NetString(), b"5:hello,"),
            (Chunk(5), b"x" * 5),
        ):
            buf = ReadBuffer(wire * count)
            for _ in range(count):
                assert read(buf) is not NEED_MORE

    assert_linear(work, 2000)


def test_a_big_chunk_is_not_copied_twice() -> None:
    size, piece = 32 << 20, 1 << 16
    data = b"x" * piece
    buf = ReadBuffer()
    read = Chunk(size)
    tracemalloc.start()
    for _ in range(size // piece):
        assert read(buf) is NEED_MORE
        buf.feed(data)  # the same object again and again: what grows is what the buffer copies
    held = tracemalloc.get_traced_memory()[0]
    assert len(read(buf)) == size  # type: ignore[arg-type]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert held < 1 << 20
    assert peak < size + (1 << 20)


def test_a_hundred_thousand_lines_in_one_go(
    made: list[Handle], trace: Trace, turns: Callable[..., None]
) -> None:
    lines = 100_000
    for standing in (True, False):
        trace.clear()
        ours, peer = memory_pair(capacity=1 << 30)
        h = Handle(ours, max_read_buffer=None)
        made.append(h)
        count = 0

        def line(h: Handle, line: bytes) -> None:
            nonlocal count
            count += 1
            h.push_write(line)
            if count == lines:
                trace("done")

        if standing:
            h.read_each("line", line)
        else:
            for _ in range(lines):
                h.push_read("line", line)
        peer.send(b"".join(b"%d\n" % i for i in range(lines)))
        trace.run_until(1)
        turns()
        got = b""
        while len(got) < sum(len(b"%d" % i) for i in range(lines)):
            got += peer.recv(1 << 20)
        assert got == b"".join(b"%d" % i for i in range(lines))


def test_a_conversation_of_lines_and_bodies_is_linear(made: list[Handle]) -> None:
    """A standing reader whose callback asks for a body each time must not split again and again."""

    def work(count: int) -> None:
        ours, peer = memory_pair(capacity=1 << 30)
        h = Handle(ours, max_read_buffer=None)
        made.append(h)
        trace = Trace()
        left = count

        def body(h: Handle, data: bytes) -> None:
            nonlocal left
            left -= 1
            if not left:
                trace("done")

        h.read_each("line", lambda h, line: h.unshift_read(Chunk(2), body))
        peer.send(b"a\nxy" * count)
        trace.run_until(1)

    assert_linear(work, 5000)


def test_many_small_writes_to_a_slow_peer_are_linear(made: list[Handle]) -> None:
    def work(count: int) -> None:
        ours, _ = memory_pair(capacity=10)
        h = Handle(ours, max_write_buffer=1 << 30)
        made.append(h)
        for _ in range(count):
            h.push_write(b"0123456789")
        assert h.statistics().unsent == (count - 1) * 10
        h.linger = 0
        h.destroy()

    assert_linear(work, 5000)
