"""The handle: buffered, framed reads and writes on a stream, on any loop.

The shell. It checks arguments, keeps the state and offers the methods; what happens when the
loop calls is in ``_events``, ``_reading``, ``_writing``, ``_tls`` and ``_lifecycle``; the
options are in ``_settings``.

Long because this is the interface: every method with its documentation and its overloads.
"""

from __future__ import annotations

__all__ = ("Handle",)

from _thread import get_ident
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, overload

import ae_core as ae

from . import _ending, _events, _lifecycle, _reading, _tls_connection, _writing
from ._buffers.octets import not_a_class, octets
from ._buffers.read_buffer import NEED_MORE, ReadBuffer
from ._buffers.write_queue import WriteQueue
from ._errors import HandleError
from ._pending import Awaited, Each
from ._phases import BROKEN, CONNECTING, DESTROYED, DUE_DRAINED, DUE_READ, DUE_WRITE, FAILED, OPEN
from ._protocol.read_queue import ReadQueue
from ._protocol.registry import LINE, resolve_frame
from ._settings import Settings
from ._statistics import HandleStatistics, describe, statistics
from ._streams.adapters import adapt
from ._streams.nested import NestedStream
from ._tls.engines import check_role, find_context
from .types import Line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import TracebackType
    from typing import Self

    from ae_core import CondVar

    from ._tls.layer import Tls
    from .abc import Frame, Reader, TlsRole, TlsSession

T = TypeVar("T")


class _Missing:
    """The type of a value that was not given."""


_MISSING: Final = _Missing()


class Handle(Settings):
    """A buffered stream: requests for typed items on one side, pushed items on the other.

    Args:
        stream: A stream socket, or an object with ``fileno()`` and ``close()`` (pipe, FIFO,
            terminal), or another handle, for TLS inside TLS. It belongs to the handle from now
            on: it is made non-blocking, and closed at the end.
        connect: ``(host, service)`` instead of a stream: connect as ``ae_socket.tcp_connect``
            does. Reads and writes may be queued at once.
        on_prepare: ``(handle) -> seconds | None``: before each attempt to connect, with
            :attr:`socket` set; returns the time-out of this attempt.
        on_connect: ``(handle, host, port, retry)``: the connection is there. What was pushed
            before has been sent by then, and ``on_drain`` called for it. ``retry()`` gives the
            connection up for the next address; everything queued is lost.
        on_connect_error: ``(handle, error)``: no address answered. The handle is destroyed
            afterwards. Without it, ``on_error`` is called.
        on_error: ``(handle, error)``: see :class:`HandleError`; called when the readers have had
            what arrived before. If ``error.fatal``, the handle is destroyed afterwards;
            ``read_buffer`` holds what is unread, writes are ignored, and reads raise the error,
            also later ones. Without it every error is fatal. It waits until later reads have
            read the buffer out, and raise it; if there are none until the handle goes, it goes
            to ``ae_core.exception_hook``.
        on_read: ``(handle)``: something is in the read buffer and no request waits for it.
            Called again as long as it consumes something.
        on_eof: ``(handle)``: the peer has sent everything and no request waits. Once. Without
            it, the end is a fatal :class:`UnexpectedEOF`. Writing goes on.
        on_drain: ``(handle)``: no more than *low_water_mark* octets are unsent. Once for each
            time that this becomes true, and once when it is set.
        on_timeout, on_read_timeout, on_write_timeout: ``(handle)``: the time-out has passed.
            Without it: a :class:`HandleTimedOut`, which is not fatal.
        on_tls_started: ``(handle, error)``: the handshake is done, error is None; or it failed.
            Then the handle is not destroyed, and nothing can be done with it but that.
        on_tls_stopped: ``(handle)``: TLS is over, clear text goes on, unless ``start_tls`` is
            called here. Without it, the peer's wish to stop TLS is the end of its stream.
        timeout, read_timeout, write_timeout: Seconds without any activity, without reading,
            without writing; 0 or None for no limit. Active even while nothing is queued.
        max_read_buffer: How many octets may remain unread after the readers had their chance;
            more is fatal (:class:`BufferLimitExceeded`). None for no limit.
        max_write_buffer: How many octets may remain unsent, likewise. None, the default, means
            that a peer which asks and never reads fills the memory: reading does not pause by
            itself while writing is full, or two such peers would wait for ever.
        autocork: Send in the next turn, everything at once, instead of at each ``push_write``.
        no_delay, keepalive, oob_inline: Socket options, where the stream has them.
        read_size: How much is read at once at first; doubled whenever that was filled.
        max_read_size: The most that is read at once; with TLS, four times that while data
            streams in and somebody reads it, but no more than 256 KiB.
        low_water_mark: See *on_drain*.
        linger: For how many seconds unsent octets may outlive the handle; 0 drops them. A
            connection that is not there yet gets 30 seconds at most.
        handshake_timeout: How many seconds a TLS handshake may take, from ``start_tls`` or the
            connection on; None or 0 for no limit. Then it has failed, with
            :class:`HandleTimedOut`.
        watch_eof: Notice that the peer has closed even while nothing is asked for, by reading
            ahead up to *max_read_buffer*. By default an idle handle reads nothing.
        allow_truncated: Take the end of the stream for a good end even without close_notify.
        peer_name: Who the peer should be: for certificates, and for people. By default the
            host of *connect*.
        tls: ``"connect"`` or ``"accept"``: speak TLS from the start.
        tls_context: An ``ae_tls.Context``, an ``ssl.SSLContext`` or an object of that shape
            (:class:`ae_handle.abc.TlsContext`). None asks the installed engine.
        json, cbor: Objects with ``loads`` and ``dumps`` for the frame types of these names, used as
            they are: how long they take is their matter.

    All options are attributes, and can be changed.

    **When**: no callback runs inside a call of any method or setter. What is due at once is due
    in the next turn of the loop.

    **Lifetime**: a handle ends when the last reference to it is dropped, as by :meth:`destroy`.
    But it lives on by itself while it connects and while one of its own condition variables is
    pending; and what is unsent is sent even then (*linger*). Callbacks that refer to the handle
    by a name of their own keep it alive; the argument they get is there so that they need not.

    Raises:
        TypeError, ValueError: If an argument is of the wrong kind.
        TlsError: If a TLS session cannot be made.

    Perl: ``AnyEvent::Handle->new``
    """

    __slots__ = (
        "__weakref__",
        "_again",
        "_armed",
        "_attempt",
        "_buf",
        "_burst",
        "_busy",
        "_connecting",
        "_doing",
        "_drained",
        "_due",
        "_each_callback",
        "_each_reader",
        "_early",
        "_eof",
        "_error",
        "_events",
        "_grace",
        "_holds",
        "_io",
        "_iterators",
        "_later",
        "_may_burst",
        "_on_end",
        "_out",
        "_pieces",
        "_queue",
        "_read_at",
        "_reading",
        "_shutdown",
        "_simple",
        "_stopped",
        "_stream",
        "_target",
        "_thread",
        "_timer",
        "_timer_at",
        "_tls",
        "_turn_posted",
        "_untaken",
        "_write_error",
        "_writing",
        "_wrote_at",
    )

    def _begin(self, stream: Any, connect: tuple[str, str | int] | None) -> None:
        """Called by ``Settings.__init__`` when all options are checked and set."""
        self._thread = get_ident()
        self._events = _events.Events(self)
        self._events.held = None
        self._buf = ReadBuffer()
        self._queue = ReadQueue()
        self._out = WriteQueue()
        self._pieces = self._out.pieces
        self._stream = stream
        self._io: Any = None
        self._attempt: Any = None
        self._reading: Any = None
        self._writing: Any = None
        self._timer: Any = None
        self._again: Any = None
        self._timer_at = 0.0
        self._read_at = self._wrote_at = 0.0
        self._connecting: Any = None
        self._early: bytes | None
        self._target: tuple[str, str | int]
        self._each_reader: Any = None
        self._each_callback: Any = None
        self._burst: Any = None
        self._may_burst = True
        self._busy = 0
        self._later = False
        self._simple = False
        self._doing = False
        self._turn_posted = False
        self._due = 0
        self._eof = 0
        self._armed = False
        self._stopped = False
        self._shutdown = 0
        self._holds = 0
        self._grace = 0
        self._iterators = 0
        self._untaken: Any = None
        self._drained: list[Awaited] | None = None
        self._tls: Tls | None = None
        self._error: HandleError | None = None
        self._write_error: HandleError | None = None
        self._on_end: Callable[[Handle], object] | None = None
        if connect is not None:
            _lifecycle.connect(self, *connect)
            return
        io = adapt(stream)
        session = (
            None if self._tls_role is None else _tls_connection.make(self, self._tls_role, None)
        )
        _lifecycle.start(self, io, session)
        if self._due:
            _lifecycle.post_turn(self)

    # ------------------------------------------------------------------ options

    def clear_callbacks(self) -> None:
        """Set all callbacks to None, for a handle that changes hands. Requests stay queued."""
        _ending.forget_callbacks(self)
        if self._phase == OPEN:
            _reading.unburst(self)
            _writing.refresh(self)
            if not self._busy:
                _reading.update_interest(self)

    # ------------------------------------------------------------------ state

    @property
    def socket(self) -> Any:
        """The socket or stream; None while connecting (but in on_prepare) and at the end."""
        if self._attempt is not None:
            return self._attempt
        if self._io is None:
            return None
        return self._io if self._stream is None else self._stream

    @property
    def read_buffer(self) -> ReadBuffer:
        """What has arrived and was not read. Take from it in on_read, on_eof and on_error only."""
        if self._burst is not None:
            _reading.unburst(self)
        self._untaken = None
        return self._buf

    @property
    def tls(self) -> TlsSession | None:
        """The TLS session, None without TLS."""
        return None if self._tls is None else self._tls.session

    def statistics(self) -> HandleStatistics:
        """Return what the handle is about, in numbers."""
        return statistics(self)

    def __repr__(self) -> str:
        return describe(self)

    def as_stream(self) -> NestedStream:
        """Return what another handle reads and writes when it is made of this one.

        The callbacks of this handle are taken over; ``Handle(handle)`` calls it.

        Raises:
            ValueError: If the handle was destroyed.
        """
        return NestedStream(self)

    # ------------------------------------------------------------------ reading

    @overload
    def push_read(
        self, reader: Literal["line", "netstring"], callback: None = None
    ) -> CondVar[bytes]: ...
    @overload
    def push_read(self, reader: str, callback: None = None) -> CondVar[Any]: ...
    @overload
    def push_read(self, reader: Reader[T], callback: None = None) -> CondVar[T]: ...
    @overload
    def push_read(
        self, reader: Literal["line", "netstring"], callback: Callable[[Self, bytes], object]
    ) -> None: ...
    @overload
    def push_read(self, reader: str, callback: Callable[[Self, Any], object]) -> None: ...
    @overload
    def push_read(self, reader: Reader[T], callback: Callable[[Self, T], object]) -> None: ...
    def push_read(self, reader: Any, callback: Any = None) -> Any:
        """Ask for one item, behind all requests there are.

        Args:
            reader: A frame type, its name, or any callable of :class:`ae_handle.abc.Reader`.
            callback: Called with the handle and the item, once.

        Returns:
            Without a callback, a condition variable for the item. ``cancel()`` takes the
            request back and consumes nothing; giving up waiting, by a time-out of ``recv`` or
            by cancelling the coroutine, does not: the item is still consumed when it comes.

        **When**: never inside this call; for buffered data in the next turn. A request made by
        a read callback is looked at when that callback has returned.

        **Lifetime**: without a callback, the handle lives until the item is there.

        An item that is refused (:class:`BadMessage`) is reported and stays in front of the
        queue, to be refused again with more data, unless ``on_error`` does something about it;
        an awaited request is removed and raises. Nothing is consumed in either case.

        On a destroyed or failed handle the request is ignored; an awaited one raises.

        Raises:
            TypeError, ValueError: If there is no such frame type, or it cannot be called.

        Perl: ``$handle->push_read``
        """
        if callback is None:
            return self._request(self._reader(reader), Awaited(self), front=False)
        reader = LINE if reader == "line" else self._reader(reader)
        if not callable(callback):
            raise TypeError(f"expected a callable, got {callback!r}")
        if self._busy == 1:
            queue = self._queue
            if queue.reader is None:
                queue.reader = reader
                queue.callback = callback
            else:
                queue.push(reader, callback)
            return None
        self._enqueue(reader, callback, False)
        return None

    @overload
    def unshift_read(
        self, reader: Literal["line", "netstring"], callback: None = None
    ) -> CondVar[bytes]: ...
    @overload
    def unshift_read(self, reader: str, callback: None = None) -> CondVar[Any]: ...
    @overload
    def unshift_read(self, reader: Reader[T], callback: None = None) -> CondVar[T]: ...
    @overload
    def unshift_read(
        self, reader: Literal["line", "netstring"], callback: Callable[[Self, bytes], object]
    ) -> None: ...
    @overload
    def unshift_read(self, reader: str, callback: Callable[[Self, Any], object]) -> None: ...
    @overload
    def unshift_read(self, reader: Reader[T], callback: Callable[[Self, T], object]) -> None: ...
    def unshift_read(self, reader: Any, callback: Any = None) -> Any:
        """Ask for one item, before all requests there are; else as :meth:`push_read`.

        For what a read callback has just learned must come next: the body behind a length.
        Several ones in one callback are served last-in first-out.

        Perl: ``$handle->unshift_read``
        """
        reader = self._reader(reader)
        if callback is None:
            return self._request(reader, Awaited(self), front=True)
        if not callable(callback):
            raise TypeError(f"expected a callable, got {callback!r}")
        self._enqueue(reader, callback, True)
        return None

    @overload
    def read_each(
        self, reader: Literal["line", "netstring"], callback: Callable[[Self, bytes], object]
    ) -> None: ...
    @overload
    def read_each(self, reader: str, callback: Callable[[Self, Any], object]) -> None: ...
    @overload
    def read_each(self, reader: Reader[T], callback: Callable[[Self, T], object]) -> None: ...
    def read_each(self, reader: Any, callback: Any) -> None:
        """Call *callback* with the handle and the item, for every item from now on.

        The standing reader: it is asked whenever no request waits, so a callback may push
        requests of its own, which come first. It takes the place of ``on_read``, and setting
        ``on_read``, also to None, ends it. The end of the stream between items is ``on_eof``,
        inside one a fatal :class:`UnexpectedEOF`.

        The fast way to read many lines: all whole lines of one read are split at once.

        Raises:
            TypeError, ValueError: As :meth:`push_read`.

        Perl: an ``on_read`` that pushes a request
        """
        reader = self._reader(reader)
        if not callable(callback):
            raise TypeError(f"expected a callable, got {callback!r}")
        if self._phase >= FAILED:
            return
        _reading.unburst(self)
        self._untaken = None
        self._on_read = None
        self._buf.reset_scan()
        self._each_reader = reader
        self._each_callback = callback
        self._wake_reading()

    @overload
    def each(self, reader: Literal["line", "netstring"]) -> AsyncIterator[bytes]: ...
    @overload
    def each(self, reader: str) -> AsyncIterator[Any]: ...
    @overload
    def each(self, reader: Reader[T]) -> AsyncIterator[T]: ...
    def each(self, reader: Any) -> Any:
        """Iterate over the items in a coroutine: ``async for line in handle.each("line")``.

        One item is asked for at a time, so the peer is read no faster than the loop body runs.
        The iteration ends with the stream. A stream that ends inside an item raises
        :class:`UnexpectedEOF`.

        Raises:
            TypeError, ValueError: As :meth:`push_read`.
        """
        return Each(self, self._reader(reader))

    def start_read(self) -> None:
        """Read again after :meth:`stop_read`. New requests and ``on_read`` do it by themselves."""
        if self._phase == OPEN and self._stopped:
            self._wake_reading()

    def stop_read(self) -> None:
        """Read nothing more for now. What is buffered is still given out by a running drain.

        Perl: ``$handle->stop_read``
        """
        if self._phase == OPEN:
            self._stopped = True
            self._simple = False
            if self._busy:
                _reading.unburst(self)
                self._busy = 2  # requests have to undo this
            _reading.update_interest(self)

    def _reader(self, reader: Any) -> Any:
        """Return *reader*, or the frame type of that name, made for this handle."""
        if isinstance(reader, str):
            if self._frames is not None and reader in self._frames:
                return self._frames[reader]
            return resolve_frame(reader)
        if isinstance(reader, type):
            not_a_class("a frame type", reader)
        if not callable(reader):
            raise TypeError(f"expected a frame type, its name or a callable, got {reader!r}")
        if isinstance(reader, Line) and reader.eol is None:
            return LINE  # the drain knows this one by identity
        return reader

    def _enqueue(self, reader: Any, callback: Any, front: bool) -> None:
        if self._phase >= FAILED:
            return
        if self._burst is not None:
            _reading.unburst(self)
        if self._untaken is not None:
            self._untaken = None
        queue = self._queue
        buf = self._buf
        if queue.reader is None:
            queue.reader = reader
            queue.callback = callback
            if buf.searched or buf.state is not None:
                buf.reset_scan()
        elif front:
            queue.unshift(reader, callback)
            buf.reset_scan()
        else:
            queue.push(reader, callback)
        if reader is not LINE or self._stopped or buf._data or self._eof:
            self._wake_reading()
        elif self._phase == OPEN and self._reading is None and not self._busy:
            _reading.update_interest(self)

    def _wake_reading(self) -> None:
        """Have the buffer offered, and read."""
        if self._stopped:
            self._stopped = False
            if self._busy:
                self._busy = 1
        if self._phase == OPEN and not self._busy:
            _reading.update_interest(self)
            self._make_due(DUE_READ)

    def _make_due(self, bit: int) -> None:
        if self._phase == OPEN:
            self._due |= bit
            _lifecycle.post_turn(self)

    def _request(self, reader: Any, awaited: Awaited, *, front: bool) -> CondVar[Any]:
        if self._phase >= FAILED:
            ae.postpone(_ending.Throw([awaited], _ending.reason(self)))
        else:
            self._enqueue(reader, awaited, front)
        return awaited.condvar

    def _request_next(self, reader: Any, awaited: Awaited, of_line: bool) -> CondVar[Any]:
        """For ``Each``: as ``_request``, but a line is not looked for where nothing is."""
        if not of_line or self._stopped or self._buf._data or self._eof or self._phase != OPEN:
            return self._request(reader, awaited, front=False)
        self._untaken = None
        self._queue.push(reader, awaited)
        if self._reading is None and not self._busy:
            _reading.update_interest(self)
        return awaited.condvar

    def _read_now(self, reader: Any) -> Any:
        """For ``Each``: an item that is buffered already, or NEED_MORE."""
        if (
            self._phase != OPEN
            or self._busy
            or not self._buf
            or self._queue.reader is not None
            or self._each_reader is not None
            or self._on_read is not None
        ):
            return NEED_MORE
        self._untaken = None
        return reader(self._buf)

    def _unread(self, octets: bytes) -> bool:
        """For ``Each``: put the octets of an item back in front; return whether it was done."""
        if self._phase != OPEN:
            return False
        _reading.unburst(self)
        self._buf.unread(octets)
        self._make_due(DUE_READ)
        return True

    def _iterator_ended(self) -> None:
        """For ``Each``: it will not ask for anything more."""
        self._iterators -= 1
        if self._eof and not self._iterators:
            self._make_due(DUE_READ)

    def _forget_request(self, awaited: Awaited) -> None:
        """The user cancelled the condition variable of *awaited*."""
        if self._drained is not None and awaited in self._drained:
            self._drained.remove(awaited)
        elif self._queue.remove(awaited):
            self._buf.reset_scan()
            if self._phase == OPEN and not self._busy:
                _reading.update_interest(self)
                if self._buf:
                    self._make_due(DUE_READ)

    def _notify_end(self, callback: Callable[[Handle], object]) -> None:
        """Have *callback* called at the end of ``destroy``, whoever called it; for ``serve``."""
        self._on_end = callback

    def _hold(self) -> None:
        _lifecycle.hold(self)

    def _release(self) -> None:
        _lifecycle.release(self)

    # ------------------------------------------------------------------ writing

    @overload
    def push_write(self, data: bytes | bytearray | memoryview, /) -> None: ...
    @overload
    def push_write(self, frame: str | Frame[Any], value: Any, /) -> None: ...
    def push_write(self, data: Any, value: Any = _MISSING, /) -> None:
        """Send octets, or one item of a frame type.

        Args:
            data: Bytes-like; or a frame type or its name.
            value: The item.

        Sent at once as far as the kernel takes it, the rest when it takes more; inside a read
        callback, when the drain ends, together with everything else pushed by then; before the
        connection is there, when it is.

        On a destroyed or failed handle it is ignored.

        Raises:
            TypeError: If *data* is not bytes-like, or the frame type cannot carry *value*.
            ValueError: If there is no such frame type, or *value* does not fit it.
            RuntimeError: After :meth:`push_shutdown`.

        Perl: ``$handle->push_write``
        """
        if value is not _MISSING:
            data = self._encode(data, value)
        elif data.__class__ is not bytes:
            data = octets(data)
        if self._later:
            self._pieces.append(data)
            return
        self._write(data)

    def _encode(self, frame: Any, value: Any) -> bytes:
        not_a_class("a frame type", frame)
        reader = self._reader(frame) if isinstance(frame, str) else frame
        encode = getattr(reader, "encode", None)
        if encode is None:
            raise TypeError(f"expected a frame type that can be written, got {frame!r}")
        data = encode(value)
        return data if data.__class__ is bytes else octets(data)

    def _write(self, data: bytes) -> None:
        if self._phase >= FAILED or not data:
            return
        if self._shutdown:
            raise RuntimeError("push_write after push_shutdown")
        if self._write_error is not None:
            return
        self._pieces.append(data)
        if self._phase == CONNECTING or self._writing is not None:
            _writing.look_at_size(self)
        elif self._autocork and not self._busy:
            self._later = self._max_write_buffer is None
            self._due |= DUE_WRITE
        elif self._busy or self._doing:
            _writing.look_at_size(self)
        else:
            _writing.flush(self)
        if self._due:
            _lifecycle.post_turn(self)

    def push_shutdown(self) -> None:
        """End the write side when everything is sent; with TLS after close_notify.

        ``on_drain`` is not called any more. Reading goes on.

        Perl: ``$handle->push_shutdown``
        """
        if self._phase >= FAILED or self._shutdown:
            return
        self._shutdown = 1
        self._low_water_mark = 0
        self._on_drain = None
        self._simple = False
        self._later = self._later and (self._busy != 0)
        if self._phase == OPEN:
            self._armed = True
            self._make_due(DUE_WRITE)

    def drained(self) -> CondVar[None]:
        """Return a condition variable for the moment at which everything is sent.

        That is: no more than ``low_water_mark`` octets are unsent; while connecting, it is
        when the connection is there as well. Raises what ends the handle before.

        **When**: never ready inside this call.

        **Lifetime**: the handle lives until then.
        """
        awaited = Awaited(self)
        condvar: CondVar[None] = awaited.condvar
        if self._phase >= FAILED or self._write_error is not None:
            ae.postpone(_ending.Throw([awaited], _ending.reason(self)))
            return condvar
        if self._drained is None:
            self._drained = []
        self._drained.append(awaited)
        self._simple = False
        if self._phase == OPEN:
            if len(self._out) > self._low_water_mark:
                self._armed = True
            else:
                self._make_due(DUE_DRAINED)
        return condvar

    # ------------------------------------------------------------------ TLS

    def start_tls(self, mode: TlsRole, context: Any = None) -> None:
        """Begin to speak TLS.

        Args:
            mode: ``"connect"`` or ``"accept"``.
            context: As ``tls_context``, which is the default.

        What was pushed before leaves in clear text. What was read and not consumed goes to the
        TLS engine, never to the application: an attacker who slips text in behind a STARTTLS
        command makes the handshake fail.

        **When**: the handshake begins at once; ``on_tls_started`` is called before any data
        that came through it.

        Raises:
            ValueError: If TLS is active already, or *mode* is another word.
            TypeError: If *context* is not one.
            TlsError: If the session cannot be made: there is no ``peer_name`` to verify, or
                (:class:`TlsUnavailable`) no engine.

        Perl: ``$handle->starttls``
        """
        if self._phase >= FAILED:
            return
        if self._eof >= BROKEN:
            self._buf.clear()  # for the engine, which will not run any more
            return
        if self._phase == CONNECTING:
            check_role(mode)
            if self._tls_role is not None:
                raise ValueError("TLS is to be started already on this handle")
            self._tls_context = find_context(self._tls_context if context is None else context)
            self._tls_role = mode
            _tls_connection.leave_in_clear(self._out)
            return
        _tls_connection.start(self, _tls_connection.make(self, mode, context))
        if self._due:
            _lifecycle.post_turn(self)

    def stop_tls(self) -> None:
        """End TLS, and go on in clear text when the peer agrees.

        What was pushed before is encrypted, what is pushed afterwards waits for the peer's
        close_notify and is not. ``on_tls_stopped`` is called then, on both sides. A peer that
        does not answer within 10 seconds is a fatal :class:`TlsError`.

        Without TLS nothing happens.

        Perl: ``$handle->stoptls``
        """
        if self._phase == CONNECTING and self._tls_role is not None and self._early is None:
            self._early = self._out.take_all()
        elif self._phase == OPEN:
            _tls_connection.stop(self)
            if self._due:
                _lifecycle.post_turn(self)

    # ------------------------------------------------------------------ the end

    def destroy(self) -> None:
        """End the handle: nothing is called back any more. Idempotent, allowed everywhere.

        Unsent octets are sent in the background (``linger``), then the stream is closed; what
        cannot be sent is reported to ``ae_core.exception_hook``, unless *linger* is 0. Later
        calls of other methods are ignored; awaited operations, also pending ones, raise
        :class:`HandleDestroyed`, or what had ended the handle before.

        Perl: ``$handle->destroy``
        """
        _ending.destroy(self)

    def __del__(self, _destroyed: int = DESTROYED) -> None:
        if getattr(self, "_phase", _destroyed) == _destroyed:
            return  # or it was never made
        forgotten = getattr(_ending, "forgotten", None)
        if forgotten is not None:  # else the interpreter is going down: the modules are apart
            forgotten(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.destroy()

    async def __aenter__(self) -> Self:
        """Wait until the connection is there, and what was pushed so far is sent."""
        try:
            await self.drained()
        except BaseException:
            self.destroy()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait until everything is sent, unless an exception passes; then destroy."""
        try:
            if error is None and self._phase < FAILED:
                await self.drained()
        finally:
            self.destroy()


Handle.__module__ = "ae_handle"
