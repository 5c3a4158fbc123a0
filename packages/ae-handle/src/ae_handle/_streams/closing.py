"""Sending in the background what a handle had not sent when it ended, then closing its stream.

The loop alone refers to a lingering stream, and no callback of the program runs. What can no
longer be sent is reported to the exception hook, once, unless the handle's own error has said it.
"""

from __future__ import annotations

__all__ = (
    "Departing",
    "Linger",
    "close",
    "close_in_background",
    "end_lingering",
    "lingering",
    "peer_text",
    "report_loss",
)

import errno
from weakref import WeakSet

import ae_core as ae
from ae_core.abc import at_loop_end

from .._errors import HandleError, HandleTimedOut, TlsError, TransportError
from .._tls.layer import STOP_SENT, STOP_WANTED
from .adapters import DescriptorStream, peer_address, shut_down, watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from ae_core import CondVar
    from ae_core.abc import Backend

    from .._buffers.write_queue import WriteQueue
    from .._tls.layer import TlsLayer

# The special problem of closing without losing data
# --------------------------------------------------
# If a socket is closed while it holds unread input, the kernel answers with a reset instead of a
# normal end, and forgets what it had not sent yet; the peer may lose even what has arrived. TLS
# 1.3 makes that common: a client that writes its request and goes has the server's session
# tickets unread. So a stream with unsent bytes, or with TLS, goes in four steps: everything is
# sent; close_notify; shutdown of the write side; then input is read and dropped until the peer
# closes too. Input is dropped from the first step on, or two sides that write to each other wait
# for ever. A stream without unsent bytes only drops what has arrived, and is closed immediately.
#
# TLS that is to stop comes first: after our close_notify, what was pushed behind `stop_tls` waits
# for the peer's, as on a live handle, and leaves in plaintext then; also when the peer does not
# answer in time, or ends its side instead. What was to be encrypted never leaves in plaintext.
#
# `linger` bounds all of it. A handshake has its own bound besides, and so has the last step: a peer
# that neither sends nor closes has nothing left that a reset could destroy.

_QUIET: Final = 5.0
_PIECE: Final = 1 << 16

# The states of the write side
_OPEN: Final = 0
_CLOSING: Final = 1  # close_notify is queued
_SHUT: Final = 2

# How long a connection that was under way may take after its handle has ended.
_CONNECT: Final = 30.0

# A lingering stream is held by its watchers, that is, by the loop. When the loop ends it is
# closed immediately.

_all: Final[WeakSet[Linger | Departing]] = WeakSet()


def lingering() -> int:
    """Return how many streams of this thread's loop linger."""
    return len(_of_this_loop())


def end_lingering() -> int:
    """Close the lingering streams of this thread's loop, whatever is unsent; return how many."""
    ended = _of_this_loop()
    for linger in ended:
        linger.close()
    return len(ended)


def _of_this_loop() -> list[Linger | Departing]:
    if ae.backend() is None:
        return []
    loop = ae.detect()
    return [linger for linger in _all if linger.loop is loop]


def close_in_background(
    io: Any,
    out: WriteQueue,
    tls: TlsLayer | None,
    seconds: float,
    *,
    peer: str | None,
    loop: Backend,
    ended: bool = False,
    told: bool = False,
) -> None:
    """Close *io*, after what is to be sent is sent, in *seconds* at most.

    If the peer has *ended* its side, there is nothing to wait for when everything is sent. If
    the program was *told* of an error already, the loss of bytes is not reported besides.
    """
    if tls is not None and (tls.over or tls.session.state == "closed"):
        if not tls.stopping:  # else the pieces are plaintext
            out.drop_pieces()
        tls = None
    if tls is None and not (out.pieces or out.block):
        if not ended and seconds > 0 and not isinstance(io, DescriptorStream):
            discard_input(io)
        close(io)
    elif seconds <= 0:
        out.clear()
        close(io)
    elif ae.backend() is None or ae.detect() is not loop:
        count = 0 if told else _count(out, tls)
        name = peer_text(peer, io)
        out.clear()
        close(io)
        report_loss(count, name, _loop_has_ended())
    else:
        Linger(io, out, tls, seconds, None if told else peer_text(peer, io), loop, ended)


def peer_text(name: str | None, io: Any) -> str:
    """Return the name of the peer, for messages; *io* is None where it is not open."""
    if io is None:
        return name or "a stream that is not open"
    address = peer_address(io)
    if address is None:
        return name or repr(io)
    return address if name is None or address.startswith(name) else f"{name} ({address})"


def discard_input(io: Any) -> None:
    try:
        for _ in range(16):
            if not io.recv(_PIECE):
                return
    except OSError:
        return  # nothing more is there, or never will be


def close(io: Any) -> None:
    """Close *io*; an error is logged and not raised."""
    try:
        io.close()
    except OSError as error:
        ae.log("trace", "close of %r: %s", io, error)


def _count(out: WriteQueue, tls: TlsLayer | None) -> int:
    """How many bytes of the program's are unsent."""
    return out.owed + (tls.kept if tls is not None and tls.in_handshake else 0)


def report_loss(count: int, peer: str, error: BaseException) -> None:
    """Report to the exception hook that *count* bytes were not sent, because of *error*."""
    if not count:
        return
    why = getattr(error, "strerror", None) or str(error)
    text = f"{count} bytes to {peer} were not sent: {why}"
    loss: HandleError
    if isinstance(error, TlsError):
        loss = TlsError(text, reason=error.reason)
    elif isinstance(error, HandleTimedOut):
        loss = HandleTimedOut(text, fatal=True)
    else:
        loss = TransportError(text, errno=getattr(error, "errno", None) or errno.ECONNABORTED)
    if not isinstance(error, HandleError):
        loss.__cause__ = error.with_traceback(None)
    else:
        loss.__cause__ = error.__cause__
    ae.report_error(loss)


def _loop_has_ended() -> HandleError:
    return TransportError("the loop has ended", errno=errno.ECANCELED)


class Linger:
    """A stream whose handle has ended, while its unsent bytes are sent."""

    __slots__ = (
        "__weakref__",
        "_bound",
        "_io",
        "_loop_end",
        "_out",
        "_peer",
        "_reading",
        "_seconds",
        "_timer",
        "_tls",
        "_until",
        "_writes",
        "_writing",
        "loop",
    )

    def __init__(
        self,
        io: Any,
        out: WriteQueue,
        tls: TlsLayer | None,
        seconds: float,
        peer: str | None,
        loop: Backend,
        ended: bool,
    ) -> None:
        self.loop = loop
        self._io = io
        self._out = out
        self._tls = tls  # None when everything that is left leaves as it is
        self._peer = peer  # None: no loss is to be reported
        self._seconds = seconds
        self._writes = _OPEN
        self._writing: Any = None
        self._reading: Any = None
        self._timer: Any = None
        self._bound: Any = None  # of the handshake, or of the wait for the peer's close_notify
        self._loop_end: Any = None
        self._until = loop.clock() + seconds
        try:
            if ended:
                self._peer_ended()
                self._flush()  # a close_notify, most often, and with that it is over
                if self._writes == _SHUT:
                    return
            self._timer = ae.timer(seconds, self._time_is_over)
            self._loop_end = at_loop_end(self._loop_ended, at_quit=False)
            if not ended and (tls is not None or not isinstance(io, DescriptorStream)):
                self._reading = watch(self._io, "r", self._readable, self._lose)
            self._set_bound()
        except (ae.WrongLoop, OSError, ValueError) as error:
            # another loop runs in this thread by now; or the stream was closed by other code,
            # as the garbage collector does at the interpreter's end
            self._lose(error)
            return
        _all.add(self)
        self._writable()

    def close(self) -> None:
        """Close the stream now."""
        _all.discard(self)
        for watcher in (self._timer, self._bound, self._reading, self._writing, self._loop_end):
            if watcher is not None:
                watcher.cancel()
        self._timer = self._bound = self._reading = self._writing = self._loop_end = None
        close(self._io)

    # ------------------------------------------------------------------ errors and time limits

    def _lose(self, error: BaseException) -> None:
        """Close the stream, and report what was not sent because of *error*."""
        count = _count(self._out, self._tls)
        self._out.clear()
        self._tls = None
        self.close()
        if self._peer is not None:
            report_loss(count, self._peer, error)

    def _time_is_over(self) -> None:
        self._lose(HandleTimedOut(f"linger of {self._seconds:g} s has passed"))

    def _loop_ended(self) -> None:
        self._lose(_loop_has_ended())

    def _refuse(self, error: TlsError) -> None:
        """TLS has failed: only its alert is sent, and what was to be encrypted is lost."""
        tls, self._tls = self._tls, None
        assert tls is not None
        out = self._out
        count = _count(out, tls)
        out.clear()
        out.append_block(tls.session.drain(), overhead=True)
        self._bound = None
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
            discard_input(self._io)
        self._writable()
        if self._peer is not None:
            report_loss(count, self._peer, error)

    # ------------------------------------------------------------------ sending

    def _flush(self) -> None:
        out = self._out
        while True:
            if not out.block:
                out.offer(self._next_block())
                if not out.block:
                    break
            try:
                sent = self._io.send(out.block)
            except (BlockingIOError, InterruptedError):
                sent = 0
            out.sent(sent)
            if out.block:
                if self._writing is None:
                    self._writing = watch(self._io, "w", self._writable, self._lose)
                return
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        if not self._waits_for_peer():
            self._end_writes()

    def _waits_for_peer(self) -> bool:
        """Whether something is left that may be sent only when the peer has said more."""
        tls = self._tls
        return tls is not None and (
            tls.in_handshake or (tls.stopping == STOP_SENT and bool(self._out.pieces))
        )

    def _next_block(self) -> bytes:
        tls = self._tls
        out = self._out
        if tls is None:
            out.mark_block(overhead=False)
            return out.next()
        session = tls.session
        out.mark_block(overhead=True)
        if not tls.in_handshake:
            if tls.stopping == STOP_WANTED:
                tls.begin_stop(out, self.loop.clock())
                self._set_bound()
                return out.take_block()
            elif tls.stopping:
                if session.state == "closed":
                    self._go_on_in_plaintext()
                    return self._next_block()
            elif out.pieces:
                out.mark_block(overhead=False)
                session.write(out.next())
            elif self._writes == _OPEN:
                self._writes = _CLOSING
                session.shutdown()
        return session.drain()

    def _go_on_in_plaintext(self) -> None:
        self._tls = self._bound = None

    def _end_writes(self) -> None:
        if self._writes == _SHUT:  # a stream of the program's: an event that comes late
            return
        self._writes = _SHUT
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
        except TlsError as error:
            if self._tls is None:  # that of a handle which is the stream
                self._lose(error)
            else:
                self._refuse(error)
        except OSError as error:
            self._lose(error)

    # ------------------------------------------------------------------ waiting for the peer

    def _set_bound(self) -> None:
        """Bound the handshake, or the wait for the peer's close_notify."""
        tls = self._tls
        self._bound = None
        if tls is not None and tls.until is not None and self._waits_for_peer():
            left = max(0.0, tls.until - self.loop.clock())
            self._bound = ae.timer(left, self._bound_passed)

    def _bound_passed(self) -> None:
        tls = self._tls
        assert tls is not None
        if tls.in_handshake:
            self._lose(HandleTimedOut("the TLS handshake took too long"))
        else:
            self._go_on_in_plaintext()
            self._writable()

    def _readable(self) -> None:
        """Read, and drop what was read unless TLS needs it."""
        try:
            data = self._io.recv(_PIECE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(error)
            return
        if not data:
            self._end_of_stream()
        elif self._waits_for_peer():
            self._take(data)

    def _take(self, data: bytes) -> None:
        """Give TLS what it waits for."""
        tls = self._tls
        assert tls is not None
        shaking = tls.in_handshake
        try:
            tls.feed(data, [])  # what it decrypts is dropped
        except TlsError as error:
            self._refuse(error)
            return
        if shaking and not tls.in_handshake:
            self._bound = None
        self._writable()

    def _end_of_stream(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        if self._writes == _SHUT:
            self.close()
        elif self._waits_for_peer():
            try:
                self._peer_ended()
            except TlsError as error:
                self._lose(error)
            else:
                self._writable()

    def _peer_ended(self) -> None:
        """The peer will not answer any more.

        Raises:
            TlsError: If nothing can be sent without its answer.
        """
        tls = self._tls
        if tls is not None and tls.in_handshake:
            text = "the connection was closed during the TLS handshake"
            raise TlsError(text, reason="truncated")
        if tls is not None and tls.stopping:
            self._go_on_in_plaintext()


class Departing:
    """A connection under way whose handle has ended: what was pushed is sent when it is there.

    Held by the handle, which the operation keeps alive until it has ended.
    """

    __slots__ = (
        "__weakref__",
        "_count",
        "_loop_end",
        "_out",
        "_peer",
        "_timer",
        "_until",
        "loop",
        "operation",
    )

    def __init__(
        self,
        operation: CondVar[Any],
        out: WriteQueue,
        count: int,
        seconds: float,
        peer: str,
        loop: Backend,
    ) -> None:
        self.loop = loop
        self.operation = operation
        self._out = out
        self._count = count
        self._peer = peer
        self._until = loop.clock() + seconds
        self._timer: Any = ae.timer(min(seconds, _CONNECT), self._time_is_over)
        self._loop_end: Any = at_loop_end(self._loop_ended, at_quit=False)
        _all.add(self)

    def connected(self, sock: Any, tls: TlsLayer | None) -> None:
        """Send what is to be sent, on *sock*, in TLS if there is a session."""
        self._forget()
        left = self._until - self.loop.clock()
        if left > 0:
            close_in_background(sock, self._out, tls, left, peer=self._peer, loop=self.loop)
        else:
            close(sock)
            report_loss(self._count, self._peer, HandleTimedOut("linger has passed"))

    def failed(self, error: BaseException) -> None:
        """There is no connection."""
        self._forget()
        report_loss(self._count, self._peer, error)

    def close(self) -> None:
        """Give it up."""
        self._forget()
        self.operation.cancel()

    def _time_is_over(self) -> None:
        self.close()
        error = HandleTimedOut("the connection was not there in time")
        report_loss(self._count, self._peer, error)

    def _loop_ended(self) -> None:
        self.close()
        report_loss(self._count, self._peer, _loop_has_ended())

    def _forget(self) -> None:
        _all.discard(self)
        self._timer = self._loop_end = None  # which ends them
