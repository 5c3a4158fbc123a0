"""Slips of the pen: what is wrong is refused in the call, with a text that says what is right."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from ae_handle import (
    Cbor,
    Chunk,
    Handle,
    Json,
    Line,
    NetString,
    PackString,
    Regex,
    TlsAutostart,
    TlsDetect,
    register_frame_type,
)
from ae_handle.testing import MemoryStream

Half = Callable[..., tuple[Handle, socket.socket]]

TYPES = (Cbor, Chunk, Json, Line, NetString, PackString, Regex, TlsAutostart, TlsDetect)


class Own:
    """A frame type of the user's."""

    def __call__(self, buf: Any, /) -> Any:
        return buf.take()

    def encode(self, value: Any, /) -> bytes:
        return bytes(value)


@pytest.mark.parametrize("kind", [*TYPES, Own], ids=lambda kind: kind.__name__)
def test_a_frame_class_instead_of_an_object_is_refused_at_once(half: Half, kind: type) -> None:
    h, _ = half()
    name = kind.__name__
    calls: list[Callable[[], object]] = [
        lambda: h.push_read(kind, print),
        lambda: h.push_read(kind),
        lambda: h.unshift_read(kind, print),
        lambda: h.unshift_read(kind),
        lambda: h.read_each(kind, print),
        lambda: h.each(kind),
        lambda: h.push_write(kind, b"x"),
        lambda: h.push_write(kind),  # type: ignore[arg-type]
    ]
    for call in calls:
        with pytest.raises(TypeError, match=rf"{name}\(\), not {name}$"):
            call()
    assert h.statistics().requests == 0


def test_a_factory_may_be_a_class_but_must_not_make_one(half: Half) -> None:
    h, peer = half()
    register_frame_type("slips.own", Own)
    register_frame_type("slips.class", lambda: Own)
    peer.sendall(b"data")
    assert h.push_read("slips.own").recv() == b"data"
    with pytest.raises(TypeError, match=r"Own\(\), not Own$"):
        h.push_read("slips.class")


class Coder:
    """A coder whose functions need no object, and that is still to be given as one."""

    loads = staticmethod(json.loads)
    dumps = staticmethod(json.dumps)


def test_contexts_coders_and_streams_are_objects(half: Half) -> None:
    h, peer = half()

    class Context:
        def new_session(self, role: Any, peer_name: Any, /) -> Any: ...

    takers: list[Callable[[Any], object]] = [
        lambda context: h.start_tls("accept", context),
        lambda context: setattr(h, "tls_context", context),
        lambda context: Handle(peer, tls="accept", tls_context=context),
        lambda context: Handle(peer, tls_context=context),
        lambda context: TlsAutostart("accept", context),
    ]
    for kind in (ssl.SSLContext, Context):
        for take in takers:
            with pytest.raises(TypeError, match=rf"{kind.__name__}\(\), not {kind.__name__}$"):
                take(kind)
    coder: Any = Coder
    for call in (
        lambda: Handle(peer, json=coder),
        lambda: Handle(peer, cbor=coder),
        lambda: setattr(h, "json", coder),
    ):
        with pytest.raises(TypeError, match=r"Coder\(\), not Coder$"):
            call()
    h.json = Coder()
    for stream in (MemoryStream, socket.socket):
        with pytest.raises(TypeError, match=r"expected a stream as an object"):
            Handle(stream)
    peer.getsockname()  # nothing has taken it


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("on_starttls", "on_tls_started"),
        ("on_reed", "on_read"),
        ("rbuf_max", "max_read_buffer"),
        ("max_readbuffer", "max_read_buffer"),
        ("tls_ctx", "tls_context"),
        ("peername", "peer_name"),
        ("time_out", "timeout"),
        ("on_line", "on_"),
    ],
)
def test_an_unknown_option_names_handle_and_the_closest_right_one(
    half: Half, wrong: str, right: str
) -> None:
    _, peer = half()
    options: dict[str, Any] = {wrong: None}
    with pytest.raises(TypeError, match=rf"^Handle\(\) got an .*'{wrong}'.*'{right}"):
        Handle(peer, **options)
    with pytest.raises(TypeError, match=r"Handle\.__init__\(\) takes"):
        Handle(peer, None)  # type: ignore[misc]
