"""The options of a handle: what they are, how they are checked, what changing one brings about.

The base of ``Handle``; it knows no stream. No callback of the user runs inside a setter: what a
change makes due is due in the next turn.
"""

from __future__ import annotations

__all__ = ("Settings",)

from collections.abc import Callable
from os import getpid
from typing import TYPE_CHECKING, Any, Final, Never, TypeAlias, cast

import ae_core as ae

from . import _lifecycle, _reading, _tls_connection, _writing
from ._errors import HandleError
from ._options import (
    Callback,
    Flag,
    Option,
    Seconds,
    check_callback,
    check_coder,
    check_limit,
    check_size,
)
from ._phases import CONNECTING, DESTROYED, DUE_DRAIN, DUE_READ, DUE_WRITE, FAILED, OPEN
from ._protocol.inactivity import ANY, READ, WRITE, Timeouts, check_period
from ._tls.engines import check_role, find_context
from .types import Cbor, Json

if TYPE_CHECKING:
    from ._handle import Handle
    from .abc import Coder, TlsRole

OnEvent: TypeAlias = Callable[[Any], object]
OnError: TypeAlias = Callable[[Any, HandleError], object]
OnPrepare: TypeAlias = Callable[[Any], "float | None"]
OnConnect: TypeAlias = Callable[[Any, str, Any, Callable[[], None]], object]
OnTls: TypeAlias = Callable[[Any, "HandleError | None"], object]


# What is the very default needs no check: a handle in its 38 options as most are made.
_MAX_READ_BUFFER: Final = 1 << 20
_MAX_READ_SIZE: Final = 65_536
_LOW_WATER_MARK: Final = 0
_LINGER: Final = 3600.0
_HANDSHAKE_TIMEOUT: Final = 60.0


# What the original calls some of them, where a likeness of letters would not find it.
_PERL: Final = {
    "fh": "stream",
    "on_rtimeout": "on_read_timeout",
    "on_stoptls": "on_tls_stopped",
    "on_wtimeout": "on_write_timeout",
    "rbuf_max": "max_read_buffer",
    "rtimeout": "read_timeout",
    "tls_ctx": "tls_context",
    "wbuf_max": "max_write_buffer",
    "wtimeout": "write_timeout",
}


def _unknown_option(name: str, *others: str) -> str:
    from difflib import get_close_matches
    from inspect import signature

    closest = _PERL.get(name)
    if closest is None:
        options = [*signature(Settings.__init__).parameters][1:-1]
        alike = [option for option in options if option[:3] == "on_"] if name[:3] == "on_" else []
        (closest,) = get_close_matches(name, alike or options, n=1, cutoff=0.0)
    return f"Handle() got an unexpected keyword argument {name!r}: did you mean {closest!r}?"


_is_callable: Final[Callable[[object], bool]] = callable  # whatever the annotation says


def _reader_changed(h: Handle) -> None:
    _reading.unburst(h)
    h._untaken = None
    h._each_reader = h._each_callback = None
    if h._on_read is not None:
        h._wake_reading()
    else:
        _interest_changed(h)


def _interest_changed(h: Handle) -> None:
    if h._phase == OPEN and not h._busy:
        _reading.update_interest(h)


def _eof_changed(h: Handle) -> None:
    if h._eof == 1 and h._on_eof is not None:
        h._make_due(DUE_READ)


def _error_changed(h: Handle) -> None:
    if h._eof and h._on_error is not None:
        h._make_due(DUE_READ)


def _drain_changed(h: Handle) -> None:
    if h._phase != OPEN:
        return
    _writing.refresh(h)
    if h._on_drain is None:
        return
    if len(h._out) > h._low_water_mark:
        h._armed = True
    else:
        h._make_due(DUE_DRAIN)


def _read_limit_changed(h: Handle) -> None:
    if not h._busy:
        h._make_due(DUE_READ)


def _write_limit_changed(h: Handle) -> None:
    if h._phase == CONNECTING:
        h._later = h._max_write_buffer is None
    elif not h._busy:
        h._make_due(DUE_WRITE)


def _read_size_changed(h: Handle) -> None:
    h._read_size = min(h._read_size, h._max_read_size)


def _handshake_timeout_changed(h: Handle) -> None:
    tls = h._tls
    if tls is not None and not tls.announced and h._phase == OPEN:
        _tls_connection.bound_handshake(h, tls)


def _socket_option_changed(h: Handle) -> None:
    _lifecycle.set_options(h)


def _check_read_size(name: str, value: object) -> int:
    return check_size(name, value, 1)


def _check_name(name: str, value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"expected {name} as a str or None, got {value!r}")
    return value


def _check_context(name: str, value: Any) -> Any:
    return None if value is None else find_context(value)


class Settings:
    """Everything about a handle that can be set. See :class:`ae_handle.Handle`."""

    __slots__ = (
        "_allow_truncated",
        "_autocork",
        "_clock",
        "_frames",
        "_handshake_timeout",
        "_keepalive",
        "_linger",
        "_loop",
        "_low_water_mark",
        "_max_read_buffer",
        "_max_read_size",
        "_max_write_buffer",
        "_no_delay",
        "_on_connect",
        "_on_connect_error",
        "_on_drain",
        "_on_eof",
        "_on_error",
        "_on_prepare",
        "_on_read",
        "_on_read_timeout",
        "_on_timeout",
        "_on_tls_started",
        "_on_tls_stopped",
        "_on_write_timeout",
        "_oob_inline",
        "_peer_name",
        "_phase",
        "_process",
        "_read_size",
        "_timeouts",
        "_tls_context",
        "_tls_role",
        "_watch_eof",
    )

    on_prepare: Callback[OnPrepare] = Callback("Before each attempt to connect.")
    on_connect: Callback[OnConnect] = Callback("The connection is there.")
    on_connect_error: Callback[OnError] = Callback("No address has answered.")
    on_error: Callback[OnError] = Callback("Something went wrong.", _error_changed)
    on_read: Callback[OnEvent] = Callback(
        "Something is unread, and no request waits. Setting it ends ``read_each``.",
        _reader_changed,
    )
    on_eof: Callback[OnEvent] = Callback("The peer has sent everything.", _eof_changed)
    on_drain: Callback[OnEvent] = Callback("Everything is sent.", _drain_changed)
    on_timeout: Callback[OnEvent] = Callback("Nothing was read or written.")
    on_read_timeout: Callback[OnEvent] = Callback("Nothing was read.")
    on_write_timeout: Callback[OnEvent] = Callback("Nothing was written.")
    on_tls_started: Callback[OnTls] = Callback("The handshake is done, or has failed.")
    on_tls_stopped: Callback[OnEvent] = Callback("TLS is over.")

    timeout: Seconds = Seconds(ANY, "Seconds without reading or writing; 0 for no limit.")
    read_timeout: Seconds = Seconds(READ, "Seconds without reading; 0 for no limit.")
    write_timeout: Seconds = Seconds(WRITE, "Seconds without writing; 0 for no limit.")

    max_read_buffer: Option[int | None] = Option(
        check_limit, "How many octets may remain unread; None for no limit.", _read_limit_changed
    )
    max_write_buffer: Option[int | None] = Option(
        check_limit, "How many octets may remain unsent; None for no limit.", _write_limit_changed
    )
    low_water_mark: Option[int] = Option(
        check_size, "How many octets may be unsent when on_drain is called.", _write_limit_changed
    )
    read_size: Option[int] = Option(
        _check_read_size, "How much is read at once now; grows by itself.", _read_size_changed
    )
    max_read_size: Option[int] = Option(
        _check_read_size, "The most that is read at once.", _read_size_changed
    )
    linger: Option[float] = Option(
        check_period, "For how many seconds unsent octets may outlive the handle."
    )
    handshake_timeout: Option[float] = Option(
        check_period,
        "How many seconds a TLS handshake may take; 0 for no limit.",
        _handshake_timeout_changed,
    )
    autocork: Flag = Flag("Whether writes wait for the next turn.")
    watch_eof: Flag = Flag(
        "Whether an idle handle notices that the peer has closed.", _interest_changed
    )
    allow_truncated: Flag = Flag("Whether a stream may end without close_notify.")
    no_delay: Flag = Flag("Whether TCP sends small segments at once.", _socket_option_changed)
    keepalive: Flag = Flag("Whether the kernel probes an idle connection.", _socket_option_changed)
    oob_inline: Flag = Flag("Whether urgent data is part of the stream.", _socket_option_changed)
    peer_name: Option[str | None] = Option(_check_name, "Who the peer should be.")
    tls_context: Option[Any] = Option(_check_context, "The context for ``start_tls`` without one.")

    def __init__(
        self,
        stream: Any = None,
        *,
        connect: tuple[str, str | int] | None = None,
        on_prepare: OnPrepare | None = None,
        on_connect: OnConnect | None = None,
        on_connect_error: OnError | None = None,
        on_error: OnError | None = None,
        on_read: OnEvent | None = None,
        on_eof: OnEvent | None = None,
        on_drain: OnEvent | None = None,
        on_timeout: OnEvent | None = None,
        on_read_timeout: OnEvent | None = None,
        on_write_timeout: OnEvent | None = None,
        on_tls_started: OnTls | None = None,
        on_tls_stopped: OnEvent | None = None,
        timeout: float | None = 0.0,
        read_timeout: float | None = 0.0,
        write_timeout: float | None = 0.0,
        max_read_buffer: int | None = _MAX_READ_BUFFER,
        max_write_buffer: int | None = None,
        autocork: bool = False,
        no_delay: bool = False,
        keepalive: bool = False,
        oob_inline: bool = True,
        read_size: int | None = None,
        max_read_size: int = _MAX_READ_SIZE,
        low_water_mark: int = _LOW_WATER_MARK,
        linger: float = _LINGER,
        handshake_timeout: float | None = _HANDSHAKE_TIMEOUT,
        watch_eof: bool = False,
        allow_truncated: bool = False,
        peer_name: str | None = None,
        tls: TlsRole | None = None,
        tls_context: Any = None,
        json: Coder | None = None,
        cbor: Coder | None = None,
        **unknown: Never,
    ) -> None:
        self._phase = DESTROYED  # until everything is checked
        if unknown:
            raise TypeError(_unknown_option(*unknown))
        if (stream is None) == (connect is None):
            raise ValueError("either a stream or connect=(host, service) must be given")
        if connect is not None and (not isinstance(connect, (tuple, list)) or len(connect) != 2):
            raise TypeError(f"expected connect as (host, service), got {connect!r}")
        self._on_prepare = on_prepare
        if not (on_prepare is None or _is_callable(on_prepare)):
            check_callback("on_prepare", on_prepare)
        self._on_connect = on_connect
        if not (on_connect is None or _is_callable(on_connect)):
            check_callback("on_connect", on_connect)
        self._on_connect_error = on_connect_error
        if not (on_connect_error is None or _is_callable(on_connect_error)):
            check_callback("on_connect_error", on_connect_error)
        self._on_error = on_error
        if not (on_error is None or _is_callable(on_error)):
            check_callback("on_error", on_error)
        self._on_read = on_read
        if not (on_read is None or _is_callable(on_read)):
            check_callback("on_read", on_read)
        self._on_eof = on_eof
        if not (on_eof is None or _is_callable(on_eof)):
            check_callback("on_eof", on_eof)
        self._on_drain = on_drain
        if not (on_drain is None or _is_callable(on_drain)):
            check_callback("on_drain", on_drain)
        self._on_timeout = on_timeout
        if not (on_timeout is None or _is_callable(on_timeout)):
            check_callback("on_timeout", on_timeout)
        self._on_read_timeout = on_read_timeout
        if not (on_read_timeout is None or _is_callable(on_read_timeout)):
            check_callback("on_read_timeout", on_read_timeout)
        self._on_write_timeout = on_write_timeout
        if not (on_write_timeout is None or _is_callable(on_write_timeout)):
            check_callback("on_write_timeout", on_write_timeout)
        self._on_tls_started = on_tls_started
        if not (on_tls_started is None or _is_callable(on_tls_started)):
            check_callback("on_tls_started", on_tls_started)
        self._on_tls_stopped = on_tls_stopped
        if not (on_tls_stopped is None or _is_callable(on_tls_stopped)):
            check_callback("on_tls_stopped", on_tls_stopped)
        if max_read_buffer is not _MAX_READ_BUFFER:
            check_limit("max_read_buffer", max_read_buffer)
        self._max_read_buffer = max_read_buffer
        if max_write_buffer is not None:
            check_limit("max_write_buffer", max_write_buffer)
        self._max_write_buffer = max_write_buffer
        if max_read_size is not _MAX_READ_SIZE:
            _check_read_size("max_read_size", max_read_size)
        self._max_read_size = self._read_size = max_read_size
        if read_size is not None:
            self._read_size = min(_check_read_size("read_size", read_size), max_read_size)
        if low_water_mark is not _LOW_WATER_MARK:
            check_size("low_water_mark", low_water_mark)
        self._low_water_mark = low_water_mark
        if linger is not _LINGER:
            linger = check_period("linger", linger)
        self._linger = linger
        if handshake_timeout is not _HANDSHAKE_TIMEOUT:
            handshake_timeout = check_period("handshake_timeout", handshake_timeout)
        self._handshake_timeout = handshake_timeout
        self._autocork = autocork
        self._no_delay = no_delay
        self._keepalive = keepalive
        self._oob_inline = oob_inline
        self._watch_eof = watch_eof
        self._allow_truncated = allow_truncated
        self._frames: dict[str, Any] | None = None
        if json is not None:
            self.json = json
        if cbor is not None:
            self.cbor = cbor
        if peer_name is None and connect is not None:
            peer_name = connect[0]
        self._peer_name = None if peer_name is None else _check_name("peer_name", peer_name)
        if tls is not None:
            check_role(tls)
            tls_context = find_context(tls_context)
        self._tls_role: TlsRole | None = tls
        self._tls_context = None if tls_context is None else find_context(tls_context)
        self._process = getpid()
        self._loop = loop = ae.detect()
        self._clock = loop.clock
        self._timeouts: Timeouts | None = None
        if timeout or read_timeout or write_timeout:
            self._timeouts = Timeouts()
            for kind, name, seconds in (
                (ANY, "timeout", timeout),
                (READ, "read_timeout", read_timeout),
                (WRITE, "write_timeout", write_timeout),
            ):
                self._timeouts.periods[kind] = check_period(name, seconds)
        self._begin(stream, connect)

    def _begin(self, stream: Any, connect: tuple[str, str | int] | None) -> None:
        """Go to work, with the options checked and set."""
        raise NotImplementedError

    def timeout_reset(self) -> None:
        """Start the period of ``timeout`` again, as activity would.

        Perl: ``$handle->timeout_reset``
        """
        self._reset_period(ANY)

    def read_timeout_reset(self) -> None:
        """Start the period of ``read_timeout`` again."""
        self._reset_period(READ)

    def write_timeout_reset(self) -> None:
        """Start the period of ``write_timeout`` again."""
        self._reset_period(WRITE)

    def _set_period(self, kind: int, period: float) -> None:
        if self._phase >= FAILED:
            return
        timeouts = self._timeouts
        if timeouts is None:
            if not period:
                return
            timeouts = self._timeouts = Timeouts()
        timeouts.periods[kind] = period
        if self._phase == OPEN:
            _lifecycle.arm(cast("Handle", self))

    def _reset_period(self, kind: int) -> None:
        if self._phase >= FAILED:
            return
        if self._timeouts is None:
            self._timeouts = Timeouts()
        self._timeouts.reset(kind, self._clock())

    @property
    def json(self) -> Coder | None:
        """The coder of the frame type of this name; None for the standard library's."""
        return self._coder("json")

    @json.setter
    def json(self, coder: Coder | None) -> None:
        self._set_coder("json", Json, coder)

    @property
    def cbor(self) -> Coder | None:
        """The coder of the frame type of this name; None for cbor2."""
        return self._coder("cbor")

    @cbor.setter
    def cbor(self, coder: Coder | None) -> None:
        self._set_coder("cbor", Cbor, coder)

    def _coder(self, name: str) -> Coder | None:
        frame = (self._frames or {}).get(name)
        coder: Coder | None = None if frame is None else frame.coder
        return coder

    def _set_coder(self, name: str, kind: type[Any], coder: Coder | None) -> None:
        frames = dict(self._frames or ())
        frames.pop(name, None)
        if coder is not None:
            frames[name] = kind(check_coder(name, coder))
        self._frames = frames or None

    @property
    def is_destroyed(self) -> bool:
        """Whether it was destroyed, or never came to life."""
        return self._phase == DESTROYED


# Where the interpreter names it: it is the handle that is called.
Settings.__init__.__qualname__ = "Handle.__init__"
