"""Content codings: undone however they are cut, with a bounded output."""

from __future__ import annotations

import gzip
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


@pytest.mark.parametrize(
    ("coding", "undone"),
    [("gzip", True), ("X-GZIP", True), (" deflate ", True), ("br", False), ("gzip, gzip", False)],
)
def test_only_codings_that_we_ask_for_are_undone(coding: str, undone: bool) -> None:
    decoder = decoder_for(Headers({"Content-Encoding": coding}))
    assert (decoder is not None) is undone


def test_no_coding_is_nothing_to_undo() -> None:
    assert decoder_for(Headers()) is None
