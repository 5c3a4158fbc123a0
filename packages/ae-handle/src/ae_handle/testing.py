"""For authors of frame types and protocols: testing them without a network.

No pytest is imported: everything here fails with AssertionError.
"""

from __future__ import annotations

__all__ = (
    "MemoryStream",
    "ScriptedNetwork",
    "ScriptedPeer",
    "check_cuts",
    "check_reader",
    "end_lingering",
    "handle_pair",
    "lingering",
    "memory_pair",
    "ssl_context",
)

import errno
import socket
from typing import TYPE_CHECKING, Any

import ae_core as ae
import ae_socket

from ._buffers.octets import octets
from ._buffers.read_buffer import NEED_MORE, ReadBuffer
from ._handle import Handle
from ._streams.closing import end_lingering as end_lingering
from ._streams.closing import lingering as lingering
from ._tls.ssl_engine import SslContext

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Mapping
    from typing import Self, TypeAlias

    from .abc import Reader, TlsContext

    #: The outcome of one attempt to connect; None is one that never ends.
    Outcome: TypeAlias = "ScriptedPeer | MemoryStream | OSError | None"


def check_reader(read: Reader[Any], wire: bytes, expected: object) -> None:
    """Assert that *read* decodes *wire* however the network cuts it up.

    Whole, byte by byte, and with something behind it. For frame types that know their end from
    their own bytes; one that needs what follows (a JSON number) fails, rightly.

    Raises:
        AssertionError: If it does not.
    """
    whole = ReadBuffer(wire)
    _same(read(whole), expected, "whole")
    assert not whole, f"whole: {bytes(whole)!r} is left"

    trickle = ReadBuffer()
    for i in range(len(wire)):
        value = read(trickle)
        assert value is NEED_MORE, f"read {value!r} after {i} of {len(wire)} bytes"
        assert len(trickle) == i, f"consumed {i - len(trickle)} bytes of an incomplete item"
        trickle.feed(wire[i : i + 1])
    _same(read(trickle), expected, "byte by byte")
    assert not trickle, f"byte by byte: {bytes(trickle)!r} is left"

    trailing = ReadBuffer(wire + b"next")
    _same(read(trailing), expected, "with trailing data")
    assert bytes(trailing) == b"next", f"with trailing data: {bytes(trailing)!r} is left"


def check_cuts(read: Reader[Any], wire: bytes, expected: list[Any]) -> None:
    """Assert that *read* decodes the items of *wire* wherever it is cut in two.

    Raises:
        AssertionError: If it does not.
    """
    for cut in range(len(wire) + 1):
        buf = ReadBuffer()
        items = []
        for piece in (wire[:cut], wire[cut:]):
            buf.feed(piece)
            while buf and (value := read(buf)) is not NEED_MORE:
                items.append(value)
        _same(items, expected, f"cut at {cut}")


def _same(got: object, expected: object, when: str) -> None:
    assert type(got) is type(expected), f"{when}: read {got!r}, expected {expected!r}"
    assert got == expected, f"{when}: read {got!r}, expected {expected!r}"


def handle_pair(**options: Any) -> tuple[Handle, Handle]:
    """Return two handles that talk to each other over a pair of sockets.

    Args:
        options: Options of both.
    """
    a, b = socket.socketpair()
    return Handle(a, **options), Handle(b, **options)


def ssl_context(context: ssl.SSLContext) -> TlsContext:
    """Return *context* behind the TLS seam, as ``tls_context=`` does with it."""
    return SslContext(context)


# ---------------------------------------------------------------------- streams in memory


class MemoryStream:
    """One end of a stream in memory: what a handle needs of a socket, without a kernel.

    Made by :func:`memory_pair`. Everything happens in the loop's own turns, in a fixed order, so
    a test that uses it fails the same way each time; and a wait for data that will never come is
    a ``Deadlock``, not a hang.

    Attributes:
        capacity: How many bytes it takes before it is full.
        piece: The most that one ``recv`` returns: 1 delivers everything byte by byte.
        shut: Whether the write side was shut down.
        closed: Whether it was closed.
    """

    def __init__(self, capacity: int = 65536, piece: int = 65536) -> None:
        self.capacity: int = capacity
        self.piece: int = piece
        self.shut: bool = False
        self.closed: bool = False
        self.peer: MemoryStream = self
        self._arrived = bytearray()
        self._ended = False
        self._broken: int | None = None
        self._watchers: list[_MemoryWatcher] = []

    def recv(self, size: int) -> bytes:
        """Read as a socket does."""
        if self._arrived:
            size = min(size, self.piece)
            data = bytes(self._arrived[:size])
            del self._arrived[:size]
            self.peer.wake()
            return data
        if self._broken is not None:
            raise OSError(self._broken, "broken by the test")
        if self._ended:
            return b""
        raise BlockingIOError(errno.EAGAIN, "nothing has arrived")

    def send(self, data: bytes | memoryview) -> int:
        """Write as a socket does."""
        if self._broken is not None or self.shut or self.peer.closed:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        room = self.capacity - len(self.peer._arrived)
        if room <= 0:
            raise BlockingIOError(errno.EAGAIN, "the peer reads nothing")
        part = data[:room]
        self.peer._arrived += part
        self.peer.wake()
        return len(part)

    def watch(self, direction: str, callback: Callable[[], object]) -> _MemoryWatcher:
        """Call *callback* in every turn in which this end is ready."""
        watcher = _MemoryWatcher(self, direction, callback)
        self._watchers.append(watcher)
        watcher.wake()
        return watcher

    def is_ready(self, direction: str) -> bool:
        """Whether ``recv`` (``send``) would not block."""
        if self._broken is not None:
            return True
        if direction == "r":
            return bool(self._arrived) or self._ended
        return self.peer.closed or len(self.peer._arrived) < self.capacity

    def shutdown(self, how: int) -> None:
        """End the write side."""
        self.shut = True
        self.peer.end()

    def close(self) -> None:
        """End both sides; unread data makes it a reset, as with TCP."""
        if self.closed:
            return
        self.closed = True
        self._watchers.clear()
        if self._arrived:
            self.peer.break_off(errno.ECONNRESET)
        self.peer.end()

    def end(self) -> None:
        """Let the reader of this end see the end of the stream."""
        self._ended = True
        self.wake()

    def break_off(self, number: int) -> None:
        """Let reads and writes at this end fail with this error number from now on."""
        self._broken = number
        self.wake()

    def wake(self) -> None:
        """Check which watchers are ready: something has changed."""
        for watcher in self._watchers.copy():
            watcher.wake()

    def forget(self, watcher: _MemoryWatcher) -> None:
        """End the interest of *watcher*."""
        if watcher in self._watchers:
            self._watchers.remove(watcher)


class _MemoryWatcher:
    """An interest in a memory stream, level triggered as all watchers are."""

    def __init__(
        self, stream: MemoryStream, direction: str, callback: Callable[[], object]
    ) -> None:
        self._stream = stream
        self._direction = direction
        self._callback = callback
        self._active = True
        self._posted = False

    def wake(self) -> None:
        if self._active and not self._posted and self._stream.is_ready(self._direction):
            self._posted = True
            ae.postpone(self._fire)

    def _fire(self) -> None:
        self._posted = False
        if self._active and self._stream.is_ready(self._direction):
            try:
                self._callback()
            finally:
                self.wake()

    def cancel(self) -> None:
        """End the interest."""
        self._active = False
        self._stream.forget(self)


def memory_pair(*, capacity: int = 65536, piece: int = 65536) -> tuple[MemoryStream, MemoryStream]:
    """Return the two ends of a stream in memory, for ``Handle(stream)``.

    Args:
        capacity: How many bytes each direction takes before it is full.
        piece: The most that one read returns.
    """
    a, b = MemoryStream(capacity, piece), MemoryStream(capacity, piece)
    a.peer, b.peer = b, a
    return a, b


class ScriptedPeer:
    """The other side of a conversation, played from a script.

    ``expect``, ``send``, ``close`` and ``reset`` add steps; they are done one after the other as
    the handle under test talks. ``stream`` is for that handle; ``done`` is ready at the end of
    the script, and raises AssertionError if something else was said.

    Example:
        >>> peer = ScriptedPeer().send(b"220 hi\\r\\n").expect(b"QUIT\\r\\n").close()
        >>> handle = Handle(peer.stream, on_eof=lambda handle: None)
        >>> handle.push_read("line").recv()
        b'220 hi'
        >>> handle.push_write(b"QUIT\\r\\n")
        >>> peer.done.recv()
    """

    def __init__(self) -> None:
        self.stream: MemoryStream
        self.stream, self._end = memory_pair(capacity=1 << 30)
        self.done: ae.CondVar[None] = ae.CondVar()
        self.received: bytearray = bytearray()
        self._steps: list[tuple[str, bytes]] = []
        self._unchecked = bytearray()
        self._watcher = self._end.watch("r", self._read)
        self._posted = False

    def expect(self, data: bytes) -> Self:
        """Wait for exactly *data*."""
        return self._add("expect", octets(data))

    def send(self, data: bytes) -> Self:
        """Say *data*."""
        return self._add("send", octets(data))

    def close(self) -> Self:
        """Close the stream."""
        return self._add("close", b"")

    def reset(self) -> Self:
        """Break the connection, as a host that crashed and came back."""
        return self._add("reset", b"")

    def _add(self, step: str, data: bytes) -> Self:
        self._steps.append((step, data))
        if not self._posted:
            self._posted = True
            ae.postpone(self._play)
        return self

    def _read(self) -> None:
        try:
            data = self._end.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._watcher.cancel()
            if any(step == "expect" for step, _ in self._steps):
                self._fail(f"the handle closed; still to be done: {self._steps!r}")
            return
        self.received += data
        self._unchecked += data
        self._play()

    def _play(self) -> None:
        self._posted = False
        while self._steps:
            step, data = self._steps[0]
            if step == "expect":
                size = len(data)
                got = bytes(self._unchecked[:size])
                if not data.startswith(got):
                    self._fail(f"expected {data!r}, got {bytes(self._unchecked)!r}")
                    return
                if len(got) < size:
                    return
                del self._unchecked[:size]
            elif step == "send":
                self._end.send(data)
            elif step == "close":
                self._watcher.cancel()
                self._end.close()
            else:
                self._watcher.cancel()
                self._end.peer.break_off(errno.ECONNRESET)
            del self._steps[0]
        if not self.done.ready:
            self.done.send(None)

    def _fail(self, text: str) -> None:
        self._steps.clear()
        if not self.done.ready:
            self.done.throw(AssertionError(text))


lingering.__module__ = end_lingering.__module__ = __name__


# ---------------------------------------------------------------------- hosts in memory


class ScriptedNetwork:
    """Hosts in memory, for programs that connect by themselves: ``Handle(connect=...)``.

    Args:
        hosts: For each ``(host, service)``, as the program names them, the outcomes of the
            attempts to connect, in their order: a :class:`ScriptedPeer` or a
            :class:`MemoryStream` (of :func:`memory_pair`) to talk to, an ``OSError``, or None for
            an attempt that has no end. Further attempts, and other hosts, are refused.

    In its ``with`` block it stands for ``ae_socket.tcp_connect``, in all threads: nothing is
    resolved, and no socket is opened. A handle with *connector* is not led here.

    Attributes:
        asked: The ``(host, service)`` of each attempt.

    Example:
        >>> peer = ScriptedPeer().send(b"220 hi\\r\\n")
        >>> with ScriptedNetwork({("mail.example.com", 25): [peer]}):
        ...     with Handle(connect=("mail.example.com", 25)) as handle:
        ...         handle.push_read("line").recv()
        b'220 hi'
    """

    def __init__(
        self, hosts: Mapping[tuple[str, str | int], Iterable[Outcome]] | None = None
    ) -> None:
        self.asked: list[tuple[str, str | int]] = []
        self._hosts: dict[tuple[str, str | int], list[Outcome]] = {}
        self._real: Any = None
        for (host, service), outcomes in (hosts or {}).items():
            self.add(host, service, *outcomes)

    def add(self, host: str, service: str | int, *outcomes: Outcome) -> None:
        """Add the outcomes of further attempts to connect to *service* of *host*.

        Raises:
            TypeError: If an outcome is of the wrong kind.
        """
        for outcome in outcomes:
            if not isinstance(outcome, ScriptedPeer | MemoryStream | OSError | None):
                raise TypeError(
                    f"expected a ScriptedPeer, a MemoryStream, an OSError or None, got {outcome!r}"
                )
        self._hosts.setdefault((host, service), []).extend(outcomes)

    def __enter__(self) -> Self:
        if self._real is not None:
            raise RuntimeError("this network stands for the real one already")
        self._real = ae_socket.tcp_connect
        ae_socket.tcp_connect = self._connect
        return self

    def __exit__(self, *exception: object) -> None:
        ae_socket.tcp_connect, self._real = self._real, None

    def _connect(
        self,
        host: str,
        service: str | int,
        on_connect: Callable[..., object] | None = None,
        *,
        on_prepare: Callable[[Any], float | None] | None = None,
        timeout: float | None = None,
        local_address: object = None,
        resolver: object = None,
    ) -> ae.CondVar[Any]:
        """Connect as ``tcp_connect`` does, here."""
        if not isinstance(host, str) or not isinstance(service, str | int):
            raise TypeError(f"expected a host and a service, got {host!r} and {service!r}")
        target = f"{host}:{service}"
        timers: list[ae.Watcher] = []
        operation: ae.CondVar[Any] = ae.CondVar(
            cancel=timers.clear, describe=lambda: f"connecting to {target} in memory"
        )

        def fail(error: OSError) -> None:
            timers.clear()
            if not operation.ready:
                where = f"nothing listens at {target}"
                operation.throw(ae_socket.ConnectFailed(where, [error]))

        def limit(seconds: float | None) -> None:
            if seconds is not None:
                late = TimeoutError(errno.ETIMEDOUT, "timed out")
                timers.append(ae.timer(seconds, lambda: fail(late)))

        def again() -> ae.CondVar[Any]:
            return self._connect(host, service, on_connect, on_prepare=on_prepare)

        def attempt() -> None:
            if operation.ready:
                return
            self.asked.append((host, service))
            outcomes = self._hosts.get((host, service))
            refused = ConnectionRefusedError(errno.ECONNREFUSED, "no script for it")
            outcome = outcomes.pop(0) if outcomes else refused
            stream = outcome.stream if isinstance(outcome, ScriptedPeer) else outcome
            if on_prepare is not None:
                limit(on_prepare(stream if isinstance(stream, MemoryStream) else MemoryStream()))
            if isinstance(stream, OSError):
                fail(stream)
            elif stream is not None:
                timers.clear()
                try:
                    if on_connect is not None:
                        on_connect(stream, host, service, again)
                finally:
                    if not operation.ready:
                        operation.send(stream)

        limit(timeout)
        ae.postpone(attempt)
        return operation
