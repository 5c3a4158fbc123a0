"""What outlives a handle: its unsent octets, until the peer has them.

Owned by the loop: nobody refers to a lingering stream, and it calls nobody back.
"""

from __future__ import annotations

__all__ = ("Linger", "close", "end_lingering", "let_go", "lingering")

from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet, ref

import ae_core as ae

from ._streams import DescriptorStream, shut_down, watch

if TYPE_CHECKING:
    from ae_core.abc import Backend

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

# A lingering stream is held by its watchers, that is, by the loop. When the loop ends it is
# closed at once: of the mark that tells the loop about it (`ae.pending`) only the loop knows, and
# a weak reference sees it go.

_all: Final[WeakSet[Linger]] = WeakSet()


def lingering() -> int:
    """Return how many streams of this thread's loop linger."""
    return len(_of_this_loop())


def end_lingering() -> int:
    """Close the lingering streams of this thread's loop, whatever is unsent; return how many."""
    ended = _of_this_loop()
    for linger in ended:
        linger.close()
    return len(ended)


def _of_this_loop() -> list[Linger]:
    if ae.backend() is None:
        return []
    loop = ae.detect()
    return [linger for linger in _all if linger.loop is loop]


def let_go(
    io: Any,
    out: WriteQueue,
    session: TlsSession | None,
    seconds: float,
    *,
    loop: Backend,
    ended: bool = False,
) -> None:
    """Close *io*, after what is to be sent is sent, in *seconds* at most.

    If the peer has *ended* its side, there is nothing to wait for when everything is sent.
    """
    if session is not None and session.state == "closed":
        session = None
    if session is None and not (out.pieces or out.block):
        if not ended and seconds > 0 and not isinstance(io, DescriptorStream):
            _drop_arrived(io)
        close(io)
    elif seconds <= 0 or ae.backend() is None or ae.detect() is not loop:
        out.clear()  # nobody is there to send it later
        close(io)
    else:
        Linger(io, out, session, seconds, loop, ended)


def _drop_arrived(io: Any) -> None:
    try:
        for _ in range(16):
            if not io.recv(_PIECE):
                return
    except OSError:
        return  # nothing more is there, or never will be


def close(io: Any) -> None:
    """Close *io*, whatever it says to that."""
    try:
        io.close()
    except OSError as error:
        ae.log("trace", "close of %r: %s", io, error)


class Linger:
    """A stream whose handle has gone."""

    __slots__ = (
        "__weakref__",
        "_done",
        "_io",
        "_mark",
        "_out",
        "_reading",
        "_session",
        "_timer",
        "_until",
        "_writing",
        "loop",
    )

    def __init__(
        self,
        io: Any,
        out: WriteQueue,
        session: TlsSession | None,
        seconds: float,
        loop: Backend,
        ended: bool,
    ) -> None:
        self.loop = loop
        self._io = io
        self._out = out
        self._session = session
        self._done = 0  # 1: close_notify is queued; 2: the write side is shut down
        self._writing: Any = None
        self._reading: Any = None
        self._timer: Any = None
        self._mark: Any = None
        self._until = loop.clock() + seconds
        try:
            if ended:
                self._flush()  # a close_notify, most often, and with that it is over
                if self._done == 2:
                    return
            self._timer = ae.timer(seconds, self.close)
            self._mark = ref(ae.pending(), self._loop_ended)
            if not ended and not isinstance(io, DescriptorStream):
                self._reading = watch(io, "r", self._drop)
        except (ae.WrongLoop, OSError, ValueError):
            # another loop runs in this thread by now; or the stream was closed behind our back,
            # as the garbage collector does at the interpreter's end
            self.close()
            return
        _all.add(self)
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
        mark = None if self._mark is None else self._mark()
        self._mark = None
        if mark is not None:
            mark.cancel()
        close(self._io)

    def _loop_ended(self, mark: object) -> None:
        self._timer = self._reading = self._writing = self._mark = None
        close(self._io)

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
        self._timer.cancel()
        left = self._until - self.loop.clock()
        self._timer = ae.timer(max(0.0, min(_QUIET, left)), self.close)

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
            if self._done == 2 or (session is not None and session.state == "handshake"):
                self.close()
            elif self._reading is not None:
                self._reading.cancel()
                self._reading = None
