"""What a handle can work on: sockets of all kinds, pipes, FIFOs, terminals, objects."""

from __future__ import annotations

import os
import socket
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ae_core as ae
from ae_core.testing import Trace
from ae_handle import Chunk, Handle
from ae_handle.testing import MemoryStream, memory_pair

Turns = Callable[..., None]

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows waits for sockets only")


def test_a_socket_is_made_non_blocking_without_a_time_out_of_its_own(made: list[Handle]) -> None:
    a, b = socket.socketpair()
    a.settimeout(5)
    h = Handle(a)
    made.append(h)
    assert a.gettimeout() == 0.0
    assert h.socket is a
    b.close()


def test_tcp_sockets(tcp: Any, made: list[Handle]) -> None:
    a, b = tcp()
    client, server = Handle(a, no_delay=True, keepalive=True), Handle(b)
    made += [client, server]
    assert a.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert a.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert a.getsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE)
    client.push_write(b"hi\n")
    assert server.push_read("line").recv() == b"hi"
    client.no_delay = client.keepalive = client.oob_inline = False
    assert not a.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert not a.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert not a.getsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE)
    assert (client.no_delay, client.keepalive, client.oob_inline) == (False, False, False)
    plain, _ = tcp()
    made.append(Handle(plain, no_delay=False, oob_inline=False))
    assert not plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert not plain.getsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE)


def test_a_stream_that_has_no_shutdown_is_open_until_it_is_closed(
    made: list[Handle], hooked: list[str], turns: Callable[..., None]
) -> None:
    class Bare:
        def __init__(self, stream: MemoryStream) -> None:
            self.recv, self.send = stream.recv, stream.send
            self.watch, self.close = stream.watch, stream.close

    ours, peer = memory_pair()
    h = Handle(Bare(ours))
    made.append(h)
    h.push_write(b"last")
    h.push_shutdown()
    turns()
    assert hooked == []
    assert peer.recv(10) == b"last"
    with pytest.raises(BlockingIOError):
        peer.recv(10)
    h.destroy()
    assert peer.recv(10) == b""


@posix
def test_options_a_stream_has_not_are_no_error(made: list[Handle]) -> None:
    a, b = socket.socketpair()
    h = Handle(a, no_delay=True, keepalive=True)
    made += [h, Handle(b)]
    h.no_delay = True
    r, w = os.pipe()
    made.append(Handle(os.fdopen(r, "rb", 0), keepalive=True, no_delay=True))
    os.close(w)


@posix
def test_a_pipe(made: list[Handle], trace: Trace, turns: Turns) -> None:
    r, w = os.pipe()
    reader = Handle(os.fdopen(r, "rb", 0), on_eof=lambda h: trace("eof"))
    writer = Handle(os.fdopen(w, "wb", 0))
    made += [reader, writer]
    reader.read_each("line", lambda h, line: trace(line))
    writer.push_write(b"1\n2\n")
    turns()
    writer.push_shutdown()  # a pipe has no such thing: nothing happens
    turns()
    writer.destroy()
    turns()
    assert trace == [b"1", b"2", "eof"]


@posix
def test_a_pipe_lingers(made: list[Handle], until: Any) -> None:
    r, w = os.pipe()
    reader = Handle(os.fdopen(r, "rb", 0), max_read_buffer=None)
    made.append(reader)
    Handle(os.fdopen(w, "wb", 0)).push_write(bytes(300_000))
    assert reader.push_read(Chunk(300_000)).recv() == bytes(300_000)


@posix
def test_a_fifo(made: list[Handle], tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    h = Handle(os.fdopen(os.open(path, os.O_RDWR | os.O_NONBLOCK), "r+b", 0))
    made.append(h)
    h.push_write(b"hello\n")
    assert h.push_read("line").recv() == b"hello"


@posix
def test_a_terminal(made: list[Handle]) -> None:
    import pty
    import tty

    master, slave = pty.openpty()
    tty.setraw(slave)
    h = Handle(os.fdopen(master, "r+b", 0))
    made.append(h)
    os.write(slave, b"typed\n")
    assert h.push_read("line").recv() == b"typed"
    h.push_write(b"shown")
    assert os.read(slave, 100) == b"shown"
    os.close(slave)


def test_an_object_that_owns_a_socket(made: list[Handle], turns: Turns) -> None:
    class Wrapper:
        def __init__(self, sock: socket.socket) -> None:
            self.sock = sock

        def fileno(self) -> int:
            return self.sock.fileno()

        def shutdown(self, how: int) -> None:
            self.sock.shutdown(how)

        def close(self) -> None:
            self.sock.close()

    a, b = socket.socketpair()
    wrapper = Wrapper(a)
    h = Handle(wrapper)
    made.append(h)
    assert h.socket is wrapper
    h.push_write(b"x")
    h.push_shutdown()
    turns()
    b.settimeout(5)
    assert b.recv(10) + b.recv(10) == b"x"
    h.destroy()
    assert a.fileno() == -1
    b.close()


def test_the_caller_may_forget_the_sockets(made: list[Handle]) -> None:
    """Upstream's handle/01_readline (AH1): handles own their descriptors."""
    a, b = socket.socketpair()
    made += [Handle(a), Handle(b)]
    del a, b
    made[0].push_write(b"a\r\nb\n\r\n")
    assert [made[1].push_read("line").recv() for _ in range(3)] == [b"a", b"b", b""]


def test_datagrams_are_refused() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        with pytest.raises(ValueError, match="only stream sockets"):
            Handle(sock)


def test_files_and_directories_are_refused(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        with pytest.raises(ValueError, match=r"not a file or directory|only sockets"):
            Handle(file)


def test_what_is_closed_is_refused() -> None:
    a, b = socket.socketpair()
    a.close()
    b.close()
    with pytest.raises(ValueError, match="expected an open socket"):
        Handle(a)


@pytest.mark.parametrize("stream", [5, "path", b"path", object(), []])
def test_what_is_no_stream_is_refused(stream: Any) -> None:
    with pytest.raises(TypeError, match="expected a socket or a stream object"):
        Handle(stream)


def test_an_ssl_socket_is_refused(certificates: Any) -> None:
    a, b = socket.socketpair()
    wrapped = certificates.server().wrap_socket(a, server_side=True, do_handshake_on_connect=False)
    assert isinstance(wrapped, ssl.SSLSocket)
    with pytest.raises(ValueError, match="use tls= for TLS"):
        Handle(wrapped)
    wrapped.close()
    b.close()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_read_buffer": -1}, ValueError),
        ({"max_read_buffer": "1"}, TypeError),
        ({"max_write_buffer": 1.5}, TypeError),
        ({"read_size": 0}, ValueError),
        ({"max_read_size": 0}, ValueError),
        ({"linger": -1}, ValueError),
        ({"linger": "1"}, TypeError),
        ({"peer_name": 5}, TypeError),
        *(
            ({f"on_{name}": wrong}, TypeError)
            for wrong in (5, False)
            for name in (
                *("prepare", "connect", "connect_error", "error", "read", "eof", "drain"),
                *("timeout", "read_timeout", "write_timeout", "tls_started", "tls_stopped"),
            )
        ),
        ({"low_water_mark": False}, TypeError),
        ({"low_water_mark": -1}, ValueError),
        ({"timeout": True}, TypeError),
        ({"timeout": float("inf")}, ValueError),
        ({"cbor": 5}, TypeError),
    ],
)
def test_a_bad_option_is_refused_and_changes_nothing(
    options: dict[str, Any], error: type[Exception]
) -> None:
    a, _ = memory_pair()
    with pytest.raises(error, match=next(iter(options))):
        Handle(a, **options)
    assert not a.closed
    h = Handle(a)
    for name, value in options.items():
        if name != "cbor":
            before = getattr(h, name)
            with pytest.raises(error, match=name):
                setattr(h, name, value)
            assert getattr(h, name) == before
    h.destroy()


def test_every_option_is_an_attribute(made: list[Handle]) -> None:
    values: dict[str, Any] = {
        "timeout": 11.0,
        "read_timeout": 12.0,
        "write_timeout": 13.0,
        "max_read_buffer": 14,
        "max_write_buffer": 15,
        "autocork": True,
        "no_delay": True,
        "keepalive": True,
        "oob_inline": False,
        "read_size": 16,
        "max_read_size": 17,
        "low_water_mark": 18,
        "linger": 19.0,
        "watch_eof": True,
        "allow_truncated": True,
        "peer_name": "peer.test",
    }
    values |= {f"on_{name}": print for name in ("prepare", "connect", "connect_error", "error")}
    values |= {f"on_{name}": print for name in ("read", "eof", "drain", "timeout")}
    values |= {f"on_{name}": print for name in ("read_timeout", "write_timeout")}
    values |= {f"on_{name}": print for name in ("tls_started", "tls_stopped")}
    a, b = memory_pair()
    made += [Handle(a, **values), Handle(b)]
    for name, value in values.items():
        assert getattr(made[0], name) == value
        setattr(made[1], name, value)
    for name, value in values.items():
        if name not in ("read_size", "max_read_size"):
            assert getattr(made[1], name) == value
        assert getattr(Handle, name).__doc__
    made[0].clear_callbacks()
    assert all(getattr(made[0], name) is None for name in values if name.startswith("on_"))
    for h in made:
        h.destroy()


def test_a_handle_may_be_subclassed(trace: Trace, made: list[Handle]) -> None:
    class Connection(Handle):
        def __init__(self, stream: Any, name: str) -> None:
            super().__init__(stream)
            self.name = name

    a, b = memory_pair()
    h = Connection(a, "mine")
    made.append(h)
    h.push_read("line", lambda h, line: trace(h.name, line))
    b.send(b"x\n")
    trace.run_until(1)
    assert trace == [("mine", b"x")]
    assert repr(h).startswith("<Connection ")


@pytest.mark.parametrize("value", [1, "yes", [0], 0, "", None])
def test_a_flag_takes_anything_and_is_a_bool(made: list[Handle], value: Any) -> None:
    a, b = memory_pair()
    names = ("autocork", "no_delay", "keepalive", "oob_inline", "watch_eof", "allow_truncated")
    made += [Handle(a, **dict.fromkeys(names, value)), Handle(b)]
    for name in names:
        setattr(made[1], name, value)
        assert [getattr(h, name) for h in made] == [bool(value)] * 2


def test_a_typo_is_an_error(made: list[Handle]) -> None:
    a, _ = memory_pair()
    h = Handle(a)
    made.append(h)
    with pytest.raises(AttributeError):
        h.on_raed = print  # type: ignore[attr-defined]


def test_repr_and_statistics_tell_what_it_is_about(
    made: list[Handle], turns: Turns, tcp: Any
) -> None:
    a, b = memory_pair(capacity=4)
    h = Handle(a, peer_name="peer.test")
    made.append(h)
    h.push_write(b"123456")
    h.push_read("line", print)
    h.push_read("line", print)
    b.send(b"abc")
    turns()
    assert repr(h) == "<Handle 'peer.test' open requests=2 unread=3 unsent=2>"
    assert h.statistics() == ("peer.test", "open", 2, 3, 2, None)
    assert h.statistics()._fields == (
        "peer_name",
        "state",
        "requests",
        "unread",
        "unsent",
        "tls",
    )
    ours, _ = tcp()
    made.append(Handle(ours))
    assert f"fd={ours.fileno()}" in repr(made[-1])


def test_clearing_callbacks_hands_the_handle_over(
    made: list[Handle], trace: Trace, turns: Turns
) -> None:
    """USER-12: a connection changes hands without losing anything."""
    a, b = memory_pair()
    h = Handle(a, on_eof=lambda h: trace("old eof"), on_drain=lambda h: trace("old drain"))
    made.append(h)
    h.read_each("line", lambda h, line: trace("old", line))
    b.send(b"1\n2\n3")
    turns()
    trace.clear()
    h.clear_callbacks()
    b.send(b"\n4\n")
    b.close()
    turns()
    assert trace == []
    h.on_eof = lambda h: trace("new eof")
    h.read_each("line", lambda h, line: trace("new", line))
    turns()
    assert trace == [("new", b"3"), ("new", b"4"), "new eof"]


def test_a_loop_inside_a_callback_does_not_disturb_the_drain(
    made: list[Handle], trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a modal dialogue of a GUI does: more data arrives while a callback runs."""
    a, b = memory_pair()
    h = Handle(a)
    made.append(h)

    def line(h: Handle, line: bytes) -> None:
        trace("start", line)
        if line == b"1":
            b.send(b"3\n")
            h._events.readable()  # the inner loop's doing
        trace("end", line)

    h.read_each("line", line)
    b.send(b"1\n2\n")
    trace.run_until(6)
    names = [b"1", b"2", b"3"]
    assert trace == [(what, name) for name in names for what in ("start", "end")]


@posix
def test_a_regular_file_is_no_stream_even_by_number(tmp_path: Path) -> None:
    class ByNumber:
        def __init__(self, fd: int) -> None:
            self.fd = fd

        def fileno(self) -> int:
            return self.fd

    fd = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(ValueError, match="not a file or directory"):
        Handle(ByNumber(fd))
    os.close(fd)
    with pytest.raises(ValueError, match="expected an open stream"):
        Handle(ByNumber(-1))


@posix
def test_an_object_with_a_datagram_socket_is_no_stream() -> None:
    class Wrapped:
        def __init__(self, sock: socket.socket) -> None:
            self.fileno, self.type, self.close = sock.fileno, sock.type, sock.close

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        with pytest.raises(ValueError, match="only stream sockets"):
            Handle(Wrapped(sock))


@posix
def test_the_null_device_is_always_ready(made: list[Handle]) -> None:
    h = Handle(open(os.devnull, "r+b", 0))  # noqa: SIM115  # the handle owns it
    made.append(h)
    h.push_write(b"gone")
    told = ae.CondVar[None]()
    h.on_eof = lambda h: told.send()
    h.on_read = lambda h: None
    told.recv()


@pytest.mark.parametrize("kind", ["SOCK_STREAM", "SOCK_DGRAM"])
def test_a_borrowed_socket_works_as_on_windows(kind: str) -> None:
    """The adapter for objects that own a socket, where a descriptor is no file."""
    from ae_handle._streams.adapters import BorrowedSocket

    with socket.socket(socket.AF_INET, getattr(socket, kind)) as owner:
        if kind == "SOCK_DGRAM":
            with pytest.raises(ValueError, match=r"only (stream )?sockets"):
                BorrowedSocket(owner, owner.fileno())
            return
        with socket.create_server(("127.0.0.1", 0)) as server:
            owner.connect(server.getsockname())
            peer, _ = server.accept()
        stream = BorrowedSocket(owner, owner.fileno())
        assert stream.fileno() == owner.fileno()
        with pytest.raises(BlockingIOError):
            stream.recv(1)
        assert stream.send(b"hi") == 2
        assert peer.recv(2) == b"hi"
        stream.shutdown(socket.SHUT_WR)
        assert peer.recv(1) == b""
        assert repr(stream) == repr(owner)
        peer.close()
        stream.close()
        assert owner.fileno() == -1


@posix
def test_what_windows_cannot_watch_is_refused() -> None:
    from ae_handle._streams.adapters import BorrowedSocket

    r, w = os.pipe()
    with os.fdopen(r, "rb", 0) as stream:
        with pytest.raises(ValueError, match="on Windows only sockets"):
            BorrowedSocket(stream, r)
    os.close(w)
