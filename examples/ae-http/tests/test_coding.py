"""Content codings: undone however they are cut, with a bounded output."""

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ae_http import BadResponse, Headers, ResponseTooLarge
from ae_http._coding import Decoder, decode_all, decoder_for


def raw_deflate(data: bytes) -> bytes:
    return zlib.compress(data, wbits=-15)


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "deflate-raw": raw_deflate,
}


@pytest.mark.parametrize("kind", ENCODERS)
@given(data=st.binary(max_size=2000), step=st.integers(1, 700))
def test_what_was_packed_is_unpacked_however_it_is_cut(kind: str, data: bytes, step: int) -> None:
    packed = ENCODERS[kind](data)
    decoder = Decoder(kind.partition("-")[0])
    pieces = []
    for start in range(0, len(packed), step):
        decoder.feed(packed[start : start + step])
        while piece := decoder.read():
            pieces.append(piece)
    decoder.finish()
    assert b"".join(pieces) == data


@pytest.mark.parametrize("kind", ENCODERS)
def test_pieces_are_small_whatever_they_unpack_to(kind: str) -> None:
    data = bytes(20_000_000)
    decoder = Decoder(kind.partition("-")[0])
    decoder.feed(ENCODERS[kind](data))
    sizes = []
    while piece := decoder.read():
        sizes.append(len(piece))
    decoder.finish()
    assert sum(sizes) == len(data)
    assert max(sizes) <= 2 * 65536


def test_bomb_stops_at_the_limit() -> None:
    with pytest.raises(ResponseTooLarge, match="unpacks to more than 1000000"):
        decode_all(Decoder("gzip"), gzip.compress(bytes(50_000_000)), 1_000_000)
    assert decode_all(Decoder("gzip"), gzip.compress(b"x" * 10), 10) == b"x" * 10


def test_several_gzip_members_are_one_body() -> None:
    packed = gzip.compress(b"one ") + gzip.compress(b"two") + b"\0" * 8
    assert decode_all(Decoder("gzip"), packed, None) == b"one two"


@pytest.mark.parametrize("kind", ENCODERS)
def test_truncated_body_is_refused(kind: str) -> None:
    packed = ENCODERS[kind](b"hello hello hello")
    for size in range(1, len(packed)):
        with pytest.raises(BadResponse):
            decode_all(Decoder(kind.partition("-")[0]), packed[:size], None)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_damaged_body_is_refused(coding: str) -> None:
    with pytest.raises(BadResponse, match=f"no valid {coding}"):
        decode_all(Decoder(coding), b"\xff\xff\xff\xff not packed at all", None)


def test_empty_body_is_an_empty_body() -> None:
    assert decode_all(Decoder("gzip"), b"", None) == b""


def unpacked(packed: bytes, *codings: str, step: int = 1) -> bytes:
    """Return what a client makes of a body with these Content-Encoding fields."""
    decoder = decoder_for(Headers([("Content-Encoding", coding) for coding in codings]))
    if decoder is None:
        return packed
    pieces = []
    for start in range(0, len(packed), step):
        decoder.feed(packed[start : start + step])
        while piece := decoder.read():
            pieces.append(piece)
    decoder.finish()
    return b"".join(pieces)


PACKED: list[tuple[list[str], list[Callable[[bytes], bytes]]]] = [
    (["gzip"], [gzip.compress]),
    (["X-GZIP"], [gzip.compress]),
    ([" deflate\t"], [zlib.compress]),
    (["gzip, gzip"], [gzip.compress, gzip.compress]),
    (["gzip", "gzip"], [gzip.compress, gzip.compress]),
    (["deflate ,x-gzip"], [zlib.compress, gzip.compress]),
    (
        ["gzip", "deflate", "Deflate"],
        [ENCODERS[name] for name in ("gzip", "deflate", "deflate-raw")],
    ),
    (["gzip, identity"], [gzip.compress]),
    (["identity", "gzip"], [gzip.compress]),
    ([",, gzip,"], [gzip.compress]),
    (["gzip,gzip,gzip,gzip,gzip"], [gzip.compress] * 5),
    (["identity"], []),
    (["Identity, identity"], []),
    ([""], []),
    ([], []),
]


@pytest.mark.parametrize("step", [1, 5, 1 << 20])
@pytest.mark.parametrize(("codings", "packers"), PACKED)
def test_content_codings_are_undone_in_the_reverse_order(
    codings: list[str], packers: list[Callable[[bytes], bytes]], step: int
) -> None:
    packed = b"hello"
    for pack in packers:
        packed = pack(packed)
    assert unpacked(packed, *codings, step=step) == b"hello"


@pytest.mark.parametrize(
    "coding",
    ["br", "zstd", "gzip, br", "br, gzip", "compress", "gzip;q=1", "gzip gzip", "aes128gcm"],
)
def test_a_coding_that_cannot_be_undone_is_reported(coding: str) -> None:
    with pytest.raises(BadResponse, match="which we do not know"):
        unpacked(b"whatever", coding)
    assert unpacked(b"", coding) == b""


def test_too_many_codings_are_refused() -> None:
    with pytest.raises(BadResponse, match="expected 5 content codings or fewer, got 6"):
        unpacked(b"whatever", "gzip, " * 6)


@pytest.mark.parametrize("step", [1, 3, 1 << 20])
@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize(
    "junk",
    [b"\r\n", b"\0" * 5, b"\x1f", b"\x1f\x8b", b"\x1f\x8b\x07 not", b"\x1f\x1f\x8b", b"x" * 70_000],
)
def test_what_is_behind_the_data_is_ignored(kind: str, junk: bytes, step: int) -> None:
    packed = ENCODERS[kind](b"hello") + junk
    assert unpacked(packed, kind.partition("-")[0], step=step) == b"hello"


def test_a_damaged_or_incomplete_member_behind_the_first_is_refused() -> None:
    member = gzip.compress(b"two")
    assert unpacked(gzip.compress(b"one ") + member, "gzip") == b"one two"
    for bad in (member[:-1], member[:4], member[:-5] + b"xxxxx"):
        with pytest.raises(BadResponse):
            unpacked(gzip.compress(b"one ") + bad, "gzip")


def test_what_is_packed_twice_must_be_worth_unpacking() -> None:
    nothing = gzip.compress(gzip.compress(b"") * 400_000 + gzip.compress(b"x"))
    assert len(nothing) < 40_000
    with pytest.raises(BadResponse, match=r"unpacks to .* bytes, and those to 0 only"):
        unpacked(nothing, "gzip, gzip", step=1 << 20)
    much = gzip.compress(gzip.compress(bytes(30_000_000)))
    assert unpacked(much, "gzip, gzip", step=1 << 20) == bytes(30_000_000)


def members(size: int) -> bytes:
    return gzip.compress(b"", 9, mtime=0) * (size // 20)


LIMITS = {"gzip-members": 1 << 24}
GZIP_NAMED = b"\x1f\x8b\x08\x08" + bytes(6)

COSTS: dict[str, tuple[str, Callable[[int], bytes]]] = {
    "gzip-members": ("gzip", members),
    "gzip-small-members": ("gzip", lambda n: gzip.compress(b"x", 9, mtime=0) * (n // 21)),
    "gzip-then-junk": ("gzip", lambda n: gzip.compress(b"x") + b"\x1f" * n),
    "gzip-long-name": ("gzip", lambda n: GZIP_NAMED + b"x" * n + b"\0\3\0" + bytes(8)),
    "gzip-incompressible": ("gzip", lambda n: gzip.compress(random.Random(1).randbytes(n), 1)),
    "deflate-empty-blocks": ("deflate", lambda n: b"\0\0\0\xff\xff" * (n // 5) + b"\1\0\0\xff\xff"),
    "gzip-gzip": ("gzip, gzip", lambda n: gzip.compress(gzip.compress(bytes(100)) * (n // 25), 0)),
}  # fmt: skip


@pytest.mark.parametrize("step", [1, 1460, 1 << 30], ids=["trickle", "packets", "whole"])
@pytest.mark.parametrize("name", COSTS)
def test_unpacking_takes_linear_time(
    name: str, step: int, doubling: Callable[[Callable[[int], Callable[[], object]], int], None]
) -> None:
    coding, make = COSTS[name]

    def prepare(size: int) -> Callable[[], object]:
        packed = make(size)
        return lambda: unpacked(packed, coding, step=step)

    doubling(prepare, {1: 1 << 15, 1460: 1 << 20}.get(step, LIMITS.get(name, 1 << 22)))
