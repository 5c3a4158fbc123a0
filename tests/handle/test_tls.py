"""TLS on a handle, through the standard library's engine (HANDLE-100 to 114, cases 80, B140 on)."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest

import ae_core as ae
from ae_core.testing import Trace
from ae_handle import (
    Chunk,
    Handle,
    HandleError,
    TlsAutostart,
    TlsDetect,
    TlsError,
    TlsUnavailable,
    TransportError,
)
from ae_handle.testing import memory_pair, ssl_context

Join = Callable[..., tuple[Handle, Handle]]
Turns = Callable[..., None]


def test_both_sides_are_told_and_lines_arrive(join_tls: Join, trace: Trace) -> None:
    client, server = join_tls(
        {"on_tls_started": lambda h, error: trace("client", error)},
        {"on_tls_started": lambda h, error: trace("server", error)},
    )
    client.push_write(b"from the client\n")
    server.push_write(b"from the server\n")
    assert server.push_read("line").recv() == b"from the client"
    assert client.push_read("line").recv() == b"from the server"
    assert sorted(trace) == [("client", None), ("server", None)]
    assert client.tls is not None
    assert client.tls.state == "established"
    assert client.tls.peer_certificate is not None
    assert server.tls is not None
    assert server.tls.peer_certificate is None
    assert "tls=established" in repr(client)
    assert client.statistics().tls == "established"


def test_on_tls_started_comes_before_any_data(join_tls: Join, trace: Trace, until: Any) -> None:
    client, server = join_tls(
        {"on_tls_started": lambda h, error: trace("client started")},
        {"on_tls_started": lambda h, error: trace("server started")},
    )
    client.read_each("line", lambda h, line: trace("client", line))
    server.read_each("line", lambda h, line: trace("server", line))
    client.push_write(b"1\n2\n")
    server.push_write(b"3\n")
    until(lambda: len(trace) == 5)
    assert [event for event in trace if "server" in event or "server" in event[0]] == [
        "server started",
        ("server", b"1"),
        ("server", b"2"),
    ]
    assert trace.index("client started") < trace.index(("client", b"3"))


@pytest.mark.parametrize("piece", [1, 3, 100])
def test_the_wire_may_be_cut_anywhere(
    certificates: Any, made: list[Handle], turns: Turns, piece: int
) -> None:
    a, b = memory_pair(piece=piece)
    client = Handle(a, tls="connect", tls_context=certificates.client(), peer_name="peer.test")
    server = Handle(b, tls="accept", tls_context=certificates.server())
    made += [client, server]
    server.read_each("line", lambda h, line: h.push_write(line[::-1] + b"\n"))
    client.push_write(b"abc\ndef\n")
    assert client.push_read("line").recv() == b"cba"
    assert client.push_read("line").recv() == b"fed"


def test_a_megabyte_each_way(join_tls: Join) -> None:
    client, server = join_tls({"max_read_buffer": None}, {"max_read_buffer": None})
    data = bytes(range(256)) * 8192
    client.push_write(data)
    server.push_write(data)
    there = server.push_read(Chunk(len(data)))
    back = client.push_read(Chunk(len(data)))
    assert there.recv() == data
    assert back.recv() == data


def test_on_drain_counts_clear_text_and_ciphertext(
    join_tls: Join, trace: Trace, until: Any
) -> None:
    client, server = join_tls({"on_tls_started": lambda h, error: trace("started")})
    client.push_write(b"x")
    client.on_drain = lambda h: trace("drain")
    until(lambda: "drain" in trace)
    assert trace == ["started", "drain"]
    assert server.push_read(Chunk(1)).recv() == b"x"


# ---------------------------------------------------------------------- cases 80 (upstream)


@pytest.mark.parametrize("mode", [1, 2, 3, 4, 5])
def test_upstream_80(join_tls: Join, trace: Trace, until: Any, mode: int) -> None:
    """The five conversations of upstream's TLS test; any on_error fails it."""

    def failed(h: Handle, error: HandleError) -> None:
        trace("ERROR", error)

    options: dict[str, Any] = {
        "timeout": 8,
        "on_error": failed,
        "on_eof": lambda h: trace("eof"),
    }
    client, server = join_tls(options, options)
    server.on_read = lambda h: None

    def drop(h: Handle) -> None:
        h.on_drain = None
        trace("dropped")
        h.destroy()

    if mode == 1:
        server.on_read = None
        server.push_read("line", lambda h, line: (trace(line), setattr(h, "on_read", _nothing)))
        client.push_write(b"1\n")
        client.on_drain = drop
        until(lambda: "eof" in trace)
        assert sorted(map(str, trace)) == ["b'1'", "dropped", "eof"]
    elif mode == 2:
        for i in range(63):
            server.push_read("line", lambda h, line, i=i: trace(i, line))
        client.push_write(b"".join(b"%d\n" % i for i in range(63)))
        until(lambda: len(trace) == 63)
        assert trace == [(i, b"%d" % i) for i in range(63)]
    elif mode == 3:
        # unshift_read inside a read callback precedes the 63 waiting requests
        def first(h: Handle, line: bytes) -> None:
            trace("first", line)
            h.unshift_read("line", lambda h, line: trace("unshifted", line))

        server.push_read("line", first)
        for i in range(63):
            server.push_read("line", lambda h, line, i=i: trace(i, line))
        client.push_write(b"4\n" * 65)
        until(lambda: len(trace) == 65)
        assert trace[:3] == [("first", b"4"), ("unshifted", b"4"), (0, b"4")]
    elif mode == 4:

        def answered(h: Handle, line: bytes) -> None:
            trace("client", line)
            h.push_write(b"6\n")
            h.on_drain = drop

        server.push_write(b"5\n")
        client.push_read("line", answered)
        server.push_read("line", lambda h, line: trace("server", line))
        until(lambda: "eof" in trace)
        assert sorted(map(str, trace)) == [
            "('client', b'5')",
            "('server', b'6')",
            "dropped",
            "eof",
        ]
    else:
        got = bytearray()

        def on_read(h: Handle) -> None:
            got.extend(h.read_buffer.take(len(h.read_buffer)))

        server.on_read = on_read
        client.push_write(b"x" * 500_000)
        client.on_drain = drop
        until(lambda: "eof" in trace)
        assert len(got) == 500_000
    assert not any("ERROR" in str(event) for event in trace)


def _nothing(h: Handle) -> None:
    return None


# ---------------------------------------------------------------------- failures


def test_a_wrong_name_is_refused_before_any_data(join_tls: Join, trace: Trace, until: Any) -> None:
    client, server = join_tls(
        {"peer_name": "other.test", "on_error": lambda h, error: trace("client", error)},
        {"on_error": lambda h, error: trace("server", error)},
    )
    client.push_write(b"secret\n")
    server.push_read("line", lambda h, line: trace(line))
    until(lambda: len(trace) == 2)
    errors = dict(trace)
    assert isinstance(errors["client"], TlsError)
    assert errors["client"].reason == "wrong-name"
    assert errors["server"].reason == "alert"
    assert client.is_destroyed
    assert server.is_destroyed


def test_on_tls_started_takes_the_failure(join_tls: Join, trace: Trace, until: Any) -> None:
    client, _ = join_tls(
        {
            "peer_name": "other.test",
            "on_tls_started": lambda h, error: trace("client", error.reason),
            "on_error": lambda h, error: trace("ERROR"),
            "on_eof": lambda h: trace("EOF"),
        },
        {
            "on_tls_started": lambda h, error: trace("server", error.reason),
            "on_error": lambda h, error: trace("ERROR"),
            "on_eof": lambda h: trace("EOF"),
        },
    )
    pending = client.push_read("line")
    until(lambda: len(trace) == 2)
    assert sorted(trace) == [("client", "wrong-name"), ("server", "alert")]
    assert not client.is_destroyed
    assert client.statistics().state == "failed"
    with pytest.raises(TlsError):
        pending.recv()
    with pytest.raises(TlsError):
        client.push_read("line").recv()
    client.push_write(b"ignored")
    assert len(trace) == 2


def test_an_unknown_authority_is_refused(
    join_tls: Join, certificates: Any, trace: Trace, until: Any
) -> None:
    join_tls(
        {
            "tls_context": ssl.create_default_context(),
            "on_error": lambda h, error: trace(error.reason),
        },
        {"on_error": lambda h, error: None},
    )
    until(lambda: trace)
    assert trace[0] in ("self-signed", "untrusted")


def test_a_peer_that_speaks_no_tls(half: Any, certificates: Any, trace: Trace) -> None:
    h, peer = half(
        tls="connect",
        tls_context=certificates.client(),
        peer_name="peer.test",
        on_error=lambda h, error: trace(error),
    )
    h.push_read("line", lambda h, line: trace(line))
    peer.sendall(b"SSH-2.0-OpenSSH\r\n")
    trace.run_until(1)
    assert isinstance(trace[0], TlsError)
    assert trace[0].reason == "protocol"


@pytest.mark.parametrize("told", [False, True])
def test_the_end_of_the_stream_during_the_handshake_is_its_failure(
    half: Any, certificates: Any, trace: Trace, told: bool
) -> None:
    options: dict[str, Any] = {"on_error": lambda h, error: trace("error", error.reason)}
    if told:
        options["on_tls_started"] = lambda h, error: trace("started", error.reason)
    _, peer = half(
        tls="connect",
        tls_context=certificates.client(),
        peer_name="peer.test",
        on_eof=lambda h: trace("eof"),
        **options,
    )
    peer.recv(5000)
    peer.close()
    trace.run_until(1)
    assert trace == [("started" if told else "error", "truncated")]


def test_a_name_is_needed_to_verify_one(certificates: Any, turns: Turns) -> None:
    a, b = socket.socketpair()
    for name in (None, ""):
        with pytest.raises(TlsError, match="peer_name") as caught:
            Handle(a, tls="connect", tls_context=certificates.client(), peer_name=name)
        assert caught.value.reason == "no-name"
    b.setblocking(False)
    with pytest.raises(BlockingIOError):
        b.recv(1)  # nothing was sent
    a.close()
    b.close()


def test_without_an_engine_the_error_names_one(half: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from ae_handle._tls import engines

    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [])
    monkeypatch.setattr(engines, "_default", None)
    h, _ = half()
    with pytest.raises(TlsUnavailable, match="ae-tls"):
        h.start_tls("connect")
    with pytest.raises(TlsUnavailable):
        Handle(connect=("localhost", 1), tls="connect")


def test_an_engine_is_found_by_its_entry_point(
    half: Any, certificates: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ae_handle._tls import engines

    class Point:
        @staticmethod
        def load() -> Callable[[], Any]:
            return lambda: ssl_context(certificates.client())

    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [Point])
    monkeypatch.setattr(engines, "_default", None)
    h, peer = half(peer_name="peer.test")
    h.start_tls("connect")
    assert peer.recv(3)[:2] == b"\x16\x03"


def test_bad_arguments_are_refused_at_once(half: Any, certificates: Any) -> None:
    h, _ = half(peer_name="peer.test")
    with pytest.raises(ValueError, match='expected tls "connect" or "accept", got \'client\''):
        h.start_tls("client")
    with pytest.raises(ValueError, match="got 'server'"):
        Handle(connect=("localhost", 1), tls="server")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected tls_context as"):
        h.start_tls("connect", 5)
    with pytest.raises(TypeError, match="expected tls_context as"):
        h.tls_context = "cert.pem"
    assert h.tls is None
    h.tls_context = certificates.client()
    h.start_tls("connect")
    with pytest.raises(ValueError, match="active already"):
        h.start_tls("connect")


# ---------------------------------------------------------------------- STARTTLS


def starttls(client: Handle, server: Handle, certificates: Any) -> None:
    """Run the usual exchange: the client asks, the server agrees, both start."""

    def asked(h: Handle, line: bytes) -> None:
        h.push_write(b"go ahead\n")
        h.start_tls("accept", certificates.server())

    def agreed(h: Handle, line: bytes) -> None:
        h.start_tls("connect", certificates.client())

    server.push_read("line", asked)
    client.push_write(b"STARTTLS\n")
    client.push_read("line", agreed)


def test_what_follows_starttls_is_encrypted(join: Join, certificates: Any, until: Any) -> None:
    client, server = join({"peer_name": "peer.test"})
    starttls(client, server, certificates)
    until(lambda: client.tls is not None and client.tls.state == "established")
    client.push_write(b"secret\n")
    assert server.push_read("line").recv() == b"secret"
    assert server.tls is not None


def test_text_slipped_in_behind_starttls_never_arrives(
    half: Any, certificates: Any, trace: Trace, turns: Turns
) -> None:
    h, peer = half(on_error=lambda h, error: trace(type(error).__name__))
    h.push_read("line", lambda h, line: h.start_tls("accept", certificates.server()))
    h.push_read("line", lambda h, line: trace("INJECTED", line))
    peer.sendall(b"STARTTLS\nMAIL FROM:<attacker>\n")
    turns()
    assert trace == ["TlsError"]
    assert not h.read_buffer


def test_what_was_pushed_before_leaves_in_clear(
    made: list[Handle], certificates: Any, turns: Turns
) -> None:
    a, b = memory_pair(capacity=10)
    h = Handle(a)
    made.append(h)
    h.push_write(b"0123456789" * 3)
    h.start_tls("accept", certificates.server())
    got = b""
    while len(got) < 30:
        got += b.recv(10)
        turns(2)
    assert got == b"0123456789" * 3


def test_the_client_hello_may_be_buffered_already(join: Join, certificates: Any) -> None:
    client, server = join({"peer_name": "peer.test"})
    server.watch_eof = True  # so that it reads ahead
    client.start_tls("connect", certificates.client())
    while not server.read_buffer:
        ae.sleep(0).recv()
    server.start_tls("accept", certificates.server())
    assert not server.read_buffer
    client.push_write(b"hi\n")
    assert server.push_read("line").recv() == b"hi"


@pytest.mark.parametrize("encrypted", [False, True])
def test_autostart_detects_what_the_peer_speaks(
    join: Join, certificates: Any, trace: Trace, encrypted: bool
) -> None:
    client, server = join(
        {"peer_name": "peer.test"},
        {"tls_context": certificates.server()},
    )
    server.push_read(TlsAutostart("accept"), lambda h, version: trace(version is not None))
    server.push_read("line", lambda h, line: trace(line))
    if encrypted:
        client.start_tls("connect", certificates.client())
        client.push_write(b"enc secret\n")
    else:
        client.push_write(b"clear plain\n")
    trace.run_until(2)
    assert trace == [encrypted, b"enc secret" if encrypted else b"clear plain"]


def test_autostart_wants_a_callback_that_can_be_called(half: Any) -> None:
    h, _ = half()
    with pytest.raises(TypeError, match="expected a callable, got 5"):
        h.push_read(TlsAutostart("accept"), 5)


def test_autostart_starts_nothing_on_a_connection_that_has_broken(
    made: list[Handle], trace: Trace, turns: Turns
) -> None:
    """What has arrived is the engine's, and never the application's."""
    hello = b"\x16\x03\x01\x00\x05hello"
    ours, peer = memory_pair()
    h = Handle(ours, watch_eof=True)
    made.append(h)
    peer.send(b"STARTTLS\n" + hello)
    turns()
    ours.break_off(errno.ECONNRESET)
    turns()
    h.push_read("line", lambda h, line: trace(line))
    h.push_read(
        TlsAutostart("accept"),
        lambda h, version: (trace(version), h.push_read(Chunk(1), lambda h, data: trace(data))),
    )
    h.on_error = lambda h, error: trace(error.errno)
    turns()
    assert trace == [b"STARTTLS", (3, 1), errno.ECONNRESET]


def test_tls_is_not_started_on_a_connection_that_has_broken(
    made: list[Handle], certificates: Any, turns: Turns
) -> None:
    ours, peer = memory_pair()
    h = Handle(ours, watch_eof=True, peer_name="peer.test")
    made.append(h)
    peer.send(b"OK begin TLS\nciphertext")
    turns()
    ours.break_off(errno.ECONNRESET)
    turns()
    assert h.push_read("line").recv() == b"OK begin TLS"
    h.start_tls("connect", certificates.client())
    assert h.tls is None
    assert not h.read_buffer
    with pytest.raises(TransportError, match="broken by the test"):
        h.push_read("line").recv()


def test_autostart_can_be_awaited(join: Join, certificates: Any) -> None:
    client, server = join({"peer_name": "peer.test"})
    client.start_tls("connect", certificates.client())
    version = server.push_read(TlsAutostart("accept", certificates.server())).recv()
    assert version is not None
    assert version[0] == 3
    client.push_write(b"hi\n")
    assert server.push_read("line").recv() == b"hi"


def test_autostart_without_an_engine_is_a_tls_failure(
    half: Any, trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ae_handle._tls import engines

    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [])
    monkeypatch.setattr(engines, "_default", None)
    h, peer = half(on_error=lambda h, error: trace(type(error)))
    h.push_read(TlsAutostart("accept"), lambda h, version: None)
    peer.sendall(bytes.fromhex("1603010200"))
    trace.run_until(1)
    assert trace == [TlsUnavailable]


def test_detection_consumes_nothing(half: Any) -> None:
    h, peer = half()
    peer.sendall(b"GET /\n")
    assert h.push_read(TlsDetect()).recv() is None
    assert h.push_read("line").recv() == b"GET /"
