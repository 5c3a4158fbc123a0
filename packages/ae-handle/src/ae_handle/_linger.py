"""What outlives a handle: its unsent octets, until the peer has them.

Owned by the loop: nobody refers to a lingering stream, and it calls nobody back.
"""

from __future__ import annotations

__all__ = ("Linger", "end_lingering", "let_go", "lingering")

from typing import TYPE_CHECKING, Any, Final

import ae_core as ae

from ._streams import DescriptorStream, shut_down, watch

if TYPE_CHECKING:
    from ._write_queue import WriteQueue
    from .abc import TlsSession

# The special problem of closing without losing data
# --------------------------------------------------
# If a socket is closed while it holds unread input, the kernel answers with a reset instead of a
# normal end, and forgets what it had not sent yet; the peer may lose even what has arrived. TLS
# 1.3 makes that common: a client that writes its request and goes has the server's session
# tickets unread. So a stream with unsent octets, or with TLS, goes in four steps: everything is
# sent; close_notify; shutdown of the write side; then input is read and dropped until the peer
# closes too. Input is dropped from the first step on, or two sides that write to each other wait
# for ever. A stream without unsent octets only drops what has arrived, and is closed at once.
#
# `linger` bounds all of it. The last step has its own bound as well: a peer that neither sends
# nor closes has nothing left that a reset could destroy.

_QUIET: Final = 5.0
_PIECE: Final = 1 << 16

_all: Final[set[Linger]] = set()


def lingering() -> int:
    """Return how many streams linger."""
    return len(_all)


def end_lingering() -> int:
    """Close all lingering streams now, whatever is unsent; return how many there were."""
    ended = list(_all)
    for linger in ended:
        linger.close()
    return len(ended)


def let_go(io: Any, out: WriteQueue, session: TlsSession | None, seconds: float) -> None:
    """Close *io*, after what is to be sent is sent, in *seconds* at most."""
    if seconds <= 0:
        _close(io)
        return
    if session is not None and session.state == "closed":
        session = None
    if not out and session is None:
        if not isinstance(io, DescriptorStream):
            _drop_arrived(io)
        _close(io)
        return
    Linger(io, out, session, seconds)


def _drop_arrived(io: Any) -> None:
    try:
        for _ in range(16):
            if not io.recv(_PIECE):
                return
    except OSError:
        return  # nothing more is there, or never will be


def _close(io: Any) -> None:
    try:
        io.close()
    except OSError as error:
        ae.log("trace", "close of %r: %s", io, error)


class Linger:
    """A stream whose handle has gone."""

    __slots__ = (
        "_clock",
        "_done",
        "_io",
        "_out",
        "_reading",
        "_session",
        "_timer",
        "_until",
        "_writing",
    )

    def __init__(
        self, io: Any, out: WriteQueue, session: TlsSession | None, seconds: float
    ) -> None:
        self._io = io
        self._out = out
        self._session = session
        self._done = 0  # 1: close_notify is queued; 2: the write side is shut down
        self._writing: Any = None
        self._reading: Any = None
        _all.add(self)
        self._clock = ae.detect().clock
        self._until = self._clock() + seconds
        self._timer: Any = ae.timer(seconds, self.close)
        if not isinstance(io, DescriptorStream):
            self._reading = watch(io, "r", self._drop)
        try:
            self._flush()
        except OSError:
            self.close()

    def close(self) -> None:
        """Close the stream now."""
        _all.discard(self)
        for watcher in (self._timer, self._reading, self._writing):
            if watcher is not None:
                watcher.cancel()
        self._timer = self._reading = self._writing = None
        _close(self._io)

    def _flush(self) -> None:
        out = self._out
        while True:
            if not out.block:
                out.block = self._next_block()
                if not out.block:
                    break
            try:
                sent = self._io.send(out.block)
            except (BlockingIOError, InterruptedError):
                sent = 0
            out.sent(sent)
            if out.block:
                if self._writing is None:
                    self._writing = watch(self._io, "w", self._writable)
                return
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        if self._session is not None and self._done == 0:
            return  # the handshake goes on
        self._end_writes()

    def _next_block(self) -> bytes:
        session = self._session
        if session is None:
            return self._out.next()
        if session.state == "handshake":
            return session.drain()
        if self._out.pieces:
            session.write(self._out.next())
        elif self._done == 0:
            self._done = 1
            session.shutdown()
        return session.drain()

    def _end_writes(self) -> None:
        if self._done == 2:
            return
        self._done = 2
        shut_down(self._io)
        if self._reading is None:  # not a socket, or at its end
            self.close()
            return
        self._timer = ae.timer(max(0.0, min(_QUIET, self._until - self._clock())), self.close)

    def _writable(self) -> None:
        try:
            self._flush()
        except OSError:
            self.close()

    def _drop(self) -> None:
        """Read, and drop what was read."""
        try:
            data = self._io.recv(_PIECE)
            session = self._session
            if session is not None and session.state == "handshake":
                session.feed(data)
                self._flush()
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
            return
        if not data:
            if self._done == 2:
                self.close()
            elif self._reading is not None:
                self._reading.cancel()
                self._reading = None
