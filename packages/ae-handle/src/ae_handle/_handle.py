"""The handle: buffered, framed reads and writes on a stream, on any loop.

The public methods, which check their arguments. What they bring about is in the classes that
``Handle`` derives from, from the bottom: ``_options``, ``_work``, ``_transport``, ``_connection``,
``_tls_connection``, ``_connecting``, ``_requests``; what the loop calls is in ``_events``.

Long because this is the interface: every method with its documentation and its overloads.
"""

from __future__ import annotations

__all__ = ("Handle",)

import sys

import ae_core as ae

from . import _transport
from ._buffers.octets import not_a_class, octets
from ._events import Events
from ._pending import Awaited, Each, FailPending
from ._phases import (
    BROKEN,
    CONNECTING,
    DESTROYED,
    DISPATCHING,
    DUE_DRAINED,
    DUE_WRITE,
    FAILED,
    OPEN,
)
from ._protocol.inactivity import check_period
from ._protocol.registry import LINE
from ._requests import Requests
from ._statistics import HandleStatistics, describe, state_name
from ._streams.adapters import adapt
from ._streams.nested import NestedStream
from ._tls.engines import check_role, find_context
from ._tls_connection import leave_in_plaintext
from ._typing import overload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import TracebackType
    from typing import Any, Final, Literal, Self, TypeAlias, TypeVar

    from ae_core import CondVar

    from ._buffers.read_buffer import ReadBuffer
    from ._descriptors import Callback
    from ._errors import HandleError
    from ._options import Route
    from .abc import Frame, Reader, TlsDetails, TlsRole

    T = TypeVar("T")

    # The names of the frame types that read bytes.
    _BytesFrame: TypeAlias = Literal["line", "netstring"]

_modules: Final = sys.modules


class _Missing:
    """The type of a value that was not given."""


_MISSING: Final = _Missing()


class Handle(Requests):
    """A buffered stream: requests for typed items on one side, pushed items on the other.

    Args:
        stream: A stream socket, or an object with ``fileno()`` and ``close()`` (pipe, FIFO,
            terminal), or another handle, for TLS inside TLS. It belongs to the handle from now
            on: it is made non-blocking, and closed at the end.
        connect: ``(host, service)`` instead of a stream: connect as ``ae_socket.tcp_connect``
            does. Reads and writes may be queued immediately.
        connector: Makes the connection of *connect* in its own way, through a proxy for example
            (``ae_socket.socks5``, ``ae_socket.http_connect``). TLS still verifies the host of
            *connect*. ``on_prepare`` is not called, and ``retry()`` finds no other address.
        local_address, resolver: As for ``ae_socket.tcp_connect``; not with *connector*.
        on_prepare: ``(handle) -> seconds | None``: before each attempt to connect, with
            :attr:`socket` set; returns the timeout of this attempt.
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
        on_drain: ``(handle)``: no more than *low_water_mark* bytes are unsent. Once for each
            time that this becomes true, and once when it is set.
        on_timeout, on_read_timeout, on_write_timeout: ``(handle)``: the timeout has passed.
            Without it a :class:`HandleTimedOut`, which is not fatal, is raised in all awaited
            reads (*timeout*, *read_timeout*), which are taken back, and in all ``drained()``
            (*timeout*, *write_timeout*); then ``on_error`` is called, once. With none of these
            the handle is destroyed.
        on_tls_started: ``(handle, error)``: the handshake is done, error is None; or it failed.
            Then the handle is not destroyed, and nothing can be done with it but that.
        on_tls_stopped: ``(handle)``: TLS is over, plaintext goes on, unless ``start_tls`` is
            called here. Without it, the peer's close_notify is the end of its stream.
        timeout, read_timeout, write_timeout: Seconds without any activity, without reading,
            without writing; 0 or None for no limit. Active even while nothing is queued.
            *timeout* counts while connecting, too, where nothing is activity; the others begin
            with the connection. Setting one begins its period anew.
        max_read_buffer: How many bytes may remain unread after the readers had their chance;
            more is fatal (:class:`BufferLimitExceeded`). None for no limit.
        max_write_buffer: How many bytes may remain unsent, likewise. None, the default, means
            that a peer which asks and never reads fills the memory: reading does not pause by
            itself while writing is full, or two such peers would wait for ever.
        autocork: Send in the next turn, everything together, instead of at each ``push_write``.
        no_delay, keepalive, oob_inline: Socket options, where the stream has them.
        read_size: The most that is read in one call, at first; doubled when that much came.
        max_read_size: The most that is read in one call; with TLS, four times that while data
            streams in and is read by the program, but no more than 256 KiB.
        low_water_mark: See *on_drain*.
        linger: For how many seconds unsent bytes are still sent when the handle has ended; 0 drops
            them. A connection that is not there yet gets 30 seconds at most.
        connect_timeout: How many seconds the look-up, all attempts, what a *connector* does, and
            ``retry()`` may take together; None or 0 for no limit. Then a fatal
            :class:`HandleTimedOut`, which names what was tried, is raised in all that is awaited
            and goes to ``on_connect_error``, else to ``on_error``.
        handshake_timeout: How many seconds a TLS handshake may take, from ``start_tls`` or the
            connection on; None or 0 for no limit. Then it has failed, with
            :class:`HandleTimedOut`.
        watch_eof: Notice that the peer has closed even while nothing is asked for, by reading
            ahead up to *max_read_buffer*. By default an idle handle reads nothing.
        allow_truncated: Take the end of the stream for a good end even without close_notify.
        peer_name: The name that the peer has to prove by its certificate, and that texts show.
            By default the host of *connect*.
        tls: ``"connect"`` or ``"accept"``: speak TLS from the start.
        tls_context: An ``ae_tls.Context``, an ``ssl.SSLContext`` or an object of that shape
            (:class:`ae_handle.abc.TlsContext`). None asks the installed engine.
        json, cbor: Objects with ``loads`` and ``dumps`` for the frame types of these names, used as
            they are: the time that they take is not bounded.

    All options are attributes, and can be changed.

    **When**: no callback runs inside a call of any method or setter. What a call makes due
    is done in the next turn of the loop.

    **Threads**: a handle is for the thread that made it. Strict mode refuses calls and settings
    from others; without it they are not noticed, and may do anything. The way there is
    :func:`ae_core.call_threadsafe`.

    **Lifetime**: a handle ends when the last reference to it is dropped, as by :meth:`destroy`.
    But it lives on by itself while it connects and while one of its own condition variables is
    pending; and what is unsent is sent even then (*linger*). Callbacks that refer to the handle
    by a name of their own keep it alive; the argument they get is there so that they need not.

    Raises:
        TypeError, ValueError: If an argument is of the wrong kind.
        TlsError: If a TLS session cannot be made.

    Perl: ``AnyEvent::Handle->new``
    """

    __slots__ = ("__weakref__", "_given")

    _given: Any  # the stream that the constructor was given, None for connect=

    if TYPE_CHECKING:
        # the options of the same names, whose callbacks know their handle here
        on_prepare: Callback[Callable[[Handle], float | None]]
        on_connect: Callback[Callable[[Handle, str, Any, Callable[[], None]], object]]
        on_connect_error: Callback[Callable[[Handle, HandleError], object]]
        on_error: Callback[Callable[[Handle, HandleError], object]]
        on_read: Callback[Callable[[Handle], object]]
        on_eof: Callback[Callable[[Handle], object]]
        on_drain: Callback[Callable[[Handle], object]]
        on_timeout: Callback[Callable[[Handle], object]]
        on_read_timeout: Callback[Callable[[Handle], object]]
        on_write_timeout: Callback[Callable[[Handle], object]]
        on_tls_started: Callback[Callable[[Handle, HandleError | None], object]]
        on_tls_stopped: Callback[Callable[[Handle], object]]

    def _begin(
        self, stream: Any, connect: tuple[str, str | int] | None, route: Route | None
    ) -> None:
        # The state of all classes that this one derives from: a call for each of them would cost
        # 5 % of making a handle.
        self._phase = DESTROYED  # until there is a stream
        self._events = events = Events(self)
        events.kept = None
        self._process = _transport.process
        self._loop = loop = ae.detect()
        self._clock = clock = loop.clock
        self._read.last_at = self._write.last_at = clock()
        self._given = stream
        self._stream = None
        self._attempts = None
        self._read_watcher = None
        self._write_watcher = None
        self._timer = None
        self._resume_timer = None
        self._fast_path = False
        self._working = False
        self._work_posted = False
        self._work_due = 0
        self._keep_alive_count = 0
        self._tls = None
        self._error = None
        self._on_end = ()
        strict = _modules.get("ae_core.strict")
        if strict is not None and strict.enabled():
            from ._strict import check

            check(self)
        if connect is not None:
            self._connect(*connect, route)
            return
        stream = adapt(stream)
        tls = None if self._rare.tls_role is None else self._make_session(self._rare.tls_role, None)
        self._start(stream, tls)
        if self._work_due:
            self._schedule_work()

    # ------------------------------------------------------------------ options

    def clear_callbacks(self) -> None:
        """Set all callbacks to None, for a handle that changes hands. Requests stay queued."""
        self._forget_callbacks()
        if self._phase == OPEN:
            self._read.put_back_lines()
            self._update_fast_path()
            self._interest_changed()

    # ------------------------------------------------------------------ state

    @property
    def socket(self) -> Any:
        """The socket or stream; None while connecting (but in on_prepare) and at the end."""
        attempts = self._attempts
        if attempts is not None and attempts.socket is not None:
            return attempts.socket
        if self._stream is None:
            return None
        return self._stream if self._given is None else self._given

    @property
    def read_buffer(self) -> ReadBuffer:
        """What has arrived and was not read. Take from it in on_read, on_eof and on_error only."""
        read = self._read
        if read.line_batch is not None or read.untaken is not None:
            read.reveal_buffer()
        return read.buffer

    @property
    def tls(self) -> TlsDetails | None:
        """The TLS session, which tells version, cipher, certificate; None without TLS.

        That of another engine than the two may lack what :class:`ae_handle.abc.TlsSession` does
        not ask for.
        """
        session: Any = None if self._tls is None else self._tls.session
        details: TlsDetails | None = session
        return details

    @property
    def unsent(self) -> int:
        """How many bytes the kernel has not taken; what a producer may want to wait for.

        In TLS that counts ciphertext, too. :meth:`drained` waits, ``max_write_buffer`` limits it.
        """
        return len(self._write.queue)

    def statistics(self) -> HandleStatistics:
        """Return the state of the handle in numbers: requests, unread and unsent bytes."""
        read = self._read
        read.put_back_lines()
        return HandleStatistics(
            self._rare.peer_name,
            state_name(self._phase, read.eof),
            len(read.queue),
            len(read.buffer),
            self.unsent,
            None if self._tls is None else self._tls.session.state,
        )

    def __repr__(self) -> str:
        kind = type(self).__name__
        try:
            return describe(kind, self.statistics(), self._stream)
        except AttributeError:
            return f"<{kind}>"  # its constructor raised

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
        self, reader: _BytesFrame, callback: None = None, *, timeout: float | None = None
    ) -> CondVar[bytes]: ...
    @overload
    def push_read(
        self, reader: str, callback: None = None, *, timeout: float | None = None
    ) -> CondVar[Any]: ...
    @overload
    def push_read(
        self, reader: Reader[T], callback: None = None, *, timeout: float | None = None
    ) -> CondVar[T]: ...
    @overload
    def push_read(
        self,
        reader: _BytesFrame,
        callback: Callable[[Self, bytes], object],
        *,
        timeout: float | None = None,
    ) -> None: ...
    @overload
    def push_read(
        self, reader: str, callback: Callable[[Self, Any], object], *, timeout: float | None = None
    ) -> None: ...
    @overload
    def push_read(
        self,
        reader: Reader[T],
        callback: Callable[[Self, T], object],
        *,
        timeout: float | None = None,
    ) -> None: ...
    # *timeout* is positional for the interpreter only: with a keyword-only parameter a call costs
    # 220 instructions more, of 4,900 for each of many lines.
    def push_read(self, reader: Any, callback: Any = None, timeout: float | None = None) -> Any:
        """Ask for one item, behind all requests there are.

        Args:
            reader: A frame type, its name, or any callable of :class:`ae_handle.abc.Reader`.
            callback: Called with the handle and the item, once.
            timeout: How many seconds the item may take, counted from this call, also while
                connecting and behind other requests. Then the request is taken back, with
                nothing consumed, and a :class:`HandleTimedOut` that is not fatal is raised in
                its awaiter; for a callback it goes to ``on_error``, as other errors that
                are not fatal. 0 reads what has arrived already. None for no limit.

        Returns:
            Without a callback, a condition variable for the item. ``cancel()``, or cancelling the
            coroutine that awaits it, takes the request back and consumes nothing, also if the
            item had come and the coroutine had not run yet: whatever reads next gets those bytes.
            (If a later awaited read has taken its item by then, this one is dropped.) A timeout
            of ``recv`` leaves the request: the item is still consumed when it comes.

        **When**: never inside this call; for buffered data in the next turn. A request made by
        a read callback is looked at when that callback has returned.

        **Lifetime**: without a callback, the handle lives until the item is there.

        An item that is refused (:class:`BadMessage`) is reported and stays in front of the
        queue, to be refused again with more data, unless ``on_error`` does something about it;
        an awaited request is removed and raises. Nothing is consumed in either case.

        On a destroyed or failed handle the request is ignored; an awaited one raises.

        Raises:
            TypeError, ValueError: If there is no such frame type, it cannot be called, or *timeout*
                is no number of seconds.

        Perl: ``$handle->push_read``
        """
        read = self._read
        if reader == "line" and timeout is None and callable(callback):
            if read.dispatching == DISPATCHING:
                queue = read.queue
                if queue.reader is None:
                    # fast path: `queue.push`, written out for the only request
                    queue.reader = LINE
                    queue.callback = callback
                    return None
                queue.push(LINE, callback)
                return None
            self._enqueue(LINE, callback, False)
            return None
        frame = self._reader(reader)
        if callback is None or timeout is not None:
            return self._request(frame, reader, callback, timeout, False)
        callback = self._called_back(frame, callback)
        if read.dispatching == DISPATCHING:
            read.queue.push(frame, callback)
        else:
            self._enqueue(frame, callback, False)
        return None

    @overload
    def unshift_read(
        self, reader: _BytesFrame, callback: None = None, *, timeout: float | None = None
    ) -> CondVar[bytes]: ...
    @overload
    def unshift_read(
        self, reader: str, callback: None = None, *, timeout: float | None = None
    ) -> CondVar[Any]: ...
    @overload
    def unshift_read(
        self, reader: Reader[T], callback: None = None, *, timeout: float | None = None
    ) -> CondVar[T]: ...
    @overload
    def unshift_read(
        self,
        reader: _BytesFrame,
        callback: Callable[[Self, bytes], object],
        *,
        timeout: float | None = None,
    ) -> None: ...
    @overload
    def unshift_read(
        self, reader: str, callback: Callable[[Self, Any], object], *, timeout: float | None = None
    ) -> None: ...
    @overload
    def unshift_read(
        self,
        reader: Reader[T],
        callback: Callable[[Self, T], object],
        *,
        timeout: float | None = None,
    ) -> None: ...
    def unshift_read(self, reader: Any, callback: Any = None, timeout: float | None = None) -> Any:
        """Ask for one item, before all requests there are; else as :meth:`push_read`.

        For what a read callback has just learned must come next: the body behind a length.
        Several ones in one callback are served last-in first-out.

        Perl: ``$handle->unshift_read``
        """
        frame = self._reader(reader)
        if callback is None or timeout is not None:
            return self._request(frame, reader, callback, timeout, True)
        callback = self._called_back(frame, callback)
        read = self._read
        if read.dispatching == DISPATCHING:
            read.add(frame, callback, True)
        else:
            self._enqueue(frame, callback, True)
        return None

    @overload
    def read_each(self, reader: _BytesFrame, callback: Callable[[Self, bytes], object]) -> None: ...
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

        The fast way to read many lines: all whole lines of one read are split together.

        Raises:
            TypeError, ValueError: As :meth:`push_read`.

        Perl: an ``on_read`` that pushes a request
        """
        reader = self._reader(reader)
        if not callable(callback):
            raise TypeError(f"expected a callable, got {callback!r}")
        if self._phase >= FAILED:
            return
        self._read.set_standing_reader(reader, callback)
        self._wake_reading()

    @overload
    def each(
        self, reader: _BytesFrame, *, timeout: float | None = None
    ) -> AsyncIterator[bytes]: ...
    @overload
    def each(self, reader: str, *, timeout: float | None = None) -> AsyncIterator[Any]: ...
    @overload
    def each(self, reader: Reader[T], *, timeout: float | None = None) -> AsyncIterator[T]: ...
    def each(self, reader: Any, *, timeout: float | None = None) -> Any:
        """Iterate over the items in a coroutine: ``async for line in handle.each("line")``.

        One item is asked for at a time, so the peer is read no faster than the loop body runs.
        The iteration ends with the stream. A stream that ends inside an item raises
        :class:`UnexpectedEOF`. With *timeout* each item may take so many seconds from the moment
        it is asked for; then :class:`HandleTimedOut` is raised, and the iterator can be used on.

        Raises:
            TypeError, ValueError: As :meth:`push_read`.
        """
        if timeout is not None:
            timeout = check_period("timeout", timeout)
        return Each(self, self._reader(reader), reader, timeout)

    def start_read(self) -> None:
        """Read again after :meth:`stop_read`. New requests and ``on_read`` do it by themselves."""
        if self._phase == OPEN and self._read.paused:
            self._wake_reading()

    def stop_read(self) -> None:
        """Read nothing more for now. A dispatch that is running still hands out what is buffered.

        Perl: ``$handle->stop_read``
        """
        if self._phase == OPEN:
            self._read.pause()
            self._leave_fast_path()
            self._update_interest()

    # ------------------------------------------------------------------ writing

    @overload
    def push_write(self, data: bytes | bytearray | memoryview, /) -> None: ...
    @overload
    def push_write(self, frame: str | Frame[Any], value: Any, /) -> None: ...
    def push_write(self, data: Any, value: Any = _MISSING, /) -> None:
        """Send bytes, or one item of a frame type.

        Args:
            data: Bytes-like; or a frame type or its name.
            value: The item.

        Sent immediately as far as the kernel takes it, the rest when it takes more; inside a read
        callback, when the dispatch ends, together with everything else pushed by then; before the
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
        pieces = self._write.deferred
        if pieces is not None:
            pieces.append(data)
            return
        self._push(data)

    def _encode(self, frame: Any, value: Any) -> bytes:
        not_a_class("a frame type", frame)
        reader = self._reader(frame) if isinstance(frame, str) else frame
        encode = getattr(reader, "encode", None)
        if encode is None:
            raise TypeError(f"expected a frame type that can be written, got {frame!r}")
        data = encode(value)
        return data if data.__class__ is bytes else octets(data)

    def _push(self, data: bytes) -> None:
        if self._phase >= FAILED or not data:
            return
        write = self._write
        if write.shutdown:
            raise RuntimeError("push_write after push_shutdown")
        if write.error is not None:
            return
        write.pieces.append(data)
        dispatching = self._read.dispatching
        if self._phase == CONNECTING or self._write_watcher is not None:
            self._check_level()
        elif write.autocork and not dispatching:
            write.defer_within_limit()
            self._note_due(DUE_WRITE)
        elif dispatching or self._working:
            self._check_level()
        else:
            self._flush()
        if self._work_due:
            self._schedule_work()

    def push_shutdown(self) -> None:
        """End the write side when everything is sent; with TLS after close_notify.

        ``on_drain`` is not called any more. Reading goes on.

        Perl: ``$handle->push_shutdown``
        """
        write = self._write
        if self._phase >= FAILED or write.shutdown:
            return
        write.want_shutdown(dispatching=self._read.dispatching != 0)
        self._leave_fast_path()
        if self._phase == OPEN:
            write.expect_drain()
            self._make_due(DUE_WRITE)

    def drained(self) -> CondVar[None]:
        """Return a condition variable for the moment at which everything is sent.

        That is: no more than ``low_water_mark`` bytes are unsent; while connecting, it is
        when the connection is there as well. Raises what ends the handle before.

        **When**: never ready inside this call.

        **Lifetime**: the handle lives until then.
        """
        awaited = Awaited(self, "everything sent to")
        condvar: CondVar[None] | None = awaited.condvar
        assert condvar is not None
        write = self._write
        if self._phase >= FAILED or write.error is not None:
            ae.postpone(FailPending([awaited], self._reason()))
            return condvar
        write.wait(awaited)
        self._leave_fast_path()
        if self._phase == OPEN and not write.is_above_mark():
            self._make_due(DUE_DRAINED)
        return condvar

    # ------------------------------------------------------------------ TLS

    def start_tls(self, mode: TlsRole, context: Any = None) -> None:
        """Begin to speak TLS.

        Args:
            mode: ``"connect"`` or ``"accept"``.
            context: As ``tls_context``, which is the default.

        What was pushed before leaves in plaintext. What was read and not consumed goes to the
        TLS engine, never to the application: an attacker who inserts text behind a STARTTLS
        command makes the handshake fail.

        **When**: the handshake begins immediately; ``on_tls_started`` is called before any data
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
        if self._read.eof >= BROKEN:
            self._read.buffer.clear()  # for the engine, which will not run any more
            return
        if self._phase == CONNECTING:
            check_role(mode)
            if self._rare.tls_role is not None:
                raise ValueError("TLS is to be started already on this handle")
            context = self._rare.tls_context if context is None else context
            self._set_tls(mode, find_context(context))
            leave_in_plaintext(self._write.queue)
            return
        self._start_tls(self._make_session(mode, context))
        if self._work_due:
            self._schedule_work()

    def stop_tls(self) -> None:
        """End TLS, and go on in plaintext when the peer agrees.

        What was pushed before is encrypted, what is pushed afterwards waits for the peer's
        close_notify and is not. ``on_tls_stopped`` is called then, on both sides. A peer that
        does not answer within 10 seconds is a fatal :class:`TlsError`.

        Without TLS nothing happens.

        Perl: ``$handle->stoptls``
        """
        if self._phase == CONNECTING:
            self._stop_tls_early()
        elif self._phase == OPEN:
            self._stop_tls()
            if self._work_due:
                self._schedule_work()

    # ------------------------------------------------------------------ the end

    def __del__(self, _destroyed: int = DESTROYED) -> None:
        if getattr(self, "_phase", _destroyed) != _destroyed and _transport is not None:
            self._end_forgotten()  # else the interpreter is going down: the modules are apart

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
