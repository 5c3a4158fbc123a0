"""The options of a handle, and the constructor that takes and checks them.

An option is kept where it is used, most often in the read side or the write side.
"""

from __future__ import annotations

__all__ = ("Options", "RareOptions", "Route")

from abc import abstractmethod

from ._descriptors import (
    Callback,
    Flag,
    Option,
    Seconds,
    TimeoutCallback,
    check_callback,
    check_coder,
    check_limit,
    check_name,
    check_read_size,
    check_size,
)
from ._protocol.inactivity import ANY, READ, WRITE, Inactivity, check_period
from ._protocol.read_side import ReadSide
from ._protocol.write_side import WriteSide
from ._tls.engines import check_role, find_context
from ._typing import ABC
from .types import Cbor, Json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final, Never, Self, TypeAlias

    from ae_socket import Connector, Resolver

    from ._descriptors import OnConnect, OnError, OnEvent, OnPrepare, OnTls
    from ._errors import HandleError
    from .abc import Coder, TlsRole

    # How to connect: the connector, or the local address and the resolver of `tcp_connect`.
    Route: TypeAlias = "tuple[Connector | None, str | tuple[str, int] | None, Resolver | None]"

# For a type checker, which takes the callbacks to be what their annotations say.
_is_callable: Final[Callable[[object], bool]] = callable

# The defaults, by identity: they need no check.
_MAX_READ_BUFFER: Final = 1 << 20
_MAX_READ_SIZE: Final = 65_536
_LOW_WATER_MARK: Final = 0
_LINGER: Final = 3600.0
_CONNECT_TIMEOUT: Final = 30.0
_HANDSHAKE_TIMEOUT: Final = 60.0


# Perl's names of some options, where the closest match of letters would not find ours.
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
        options = [*signature(Options.__init__).parameters][1:-1]
        alike = [option for option in options if option[:3] == "on_"] if name[:3] == "on_" else []
        (closest,) = get_close_matches(name, alike or options, n=1, cutoff=0.0)
    return f"Handle() got an unexpected keyword argument {name!r}: did you mean {closest!r}?"


def _check_route(connect: object, connector: Any, local_address: Any, resolver: Any) -> Route:
    if connect is None:
        raise ValueError("connector, local_address and resolver are for connect=(host, service)")
    if connector is not None:
        check_callback("connector", connector)
        if local_address is not None or resolver is not None:
            raise ValueError("a connector connects in its own way: no local_address, no resolver")
    return connector, local_address, resolver


def _check_context(name: str, value: Any) -> Any:
    return None if value is None else find_context(value)


class RareOptions:
    """The options that most handles leave at their defaults.

    Those handles share one object of these, and have one of their own as soon as one is set: 120
    bytes less for each of them.
    """

    __slots__ = (
        "allow_truncated",
        "connect_timeout",
        "frames",
        "handshake_timeout",
        "keepalive",
        "linger",
        "on_connect",
        "on_connect_error",
        "on_prepare",
        "on_tls_started",
        "on_tls_stopped",
        "oob_inline",
        "peer_name",
        "tls_context",
        "tls_role",
    )

    def __init__(self) -> None:
        # as they are called: by a handle that does not know its own class
        self.on_prepare: Any = None
        self.on_connect: Any = None
        self.on_connect_error: Any = None
        self.on_tls_started: Any = None
        self.on_tls_stopped: Any = None
        self.connect_timeout: float | None = _CONNECT_TIMEOUT
        self.handshake_timeout: float | None = _HANDSHAKE_TIMEOUT
        self.linger = _LINGER
        self.keepalive = False
        self.oob_inline = True
        self.allow_truncated = False
        self.peer_name: str | None = None
        self.tls_role: TlsRole | None = None
        self.tls_context: Any = None
        self.frames: dict[str, Any] | None = None

    def forget_callbacks(self) -> None:
        """Set all callbacks to None."""
        self.on_prepare = self.on_connect = self.on_connect_error = None
        self.on_tls_started = self.on_tls_stopped = None


_SHARED: Final = RareOptions()


class Options(ABC):
    """Everything about a handle that can be set. See :class:`ae_handle.Handle`."""

    __slots__ = (
        "_inactivity",
        "_no_delay",
        "_on_error",
        "_rare",
        "_read",
        "_write",
    )

    _on_error: Any  # as it is called: by a handle that does not know its own class
    _rare: RareOptions

    on_prepare: Callback[OnPrepare] = Callback(
        "Before each attempt to connect.", kept="_rare.on_prepare"
    )
    on_connect: Callback[OnConnect] = Callback("The connection is there.", kept="_rare.on_connect")
    on_connect_error: Callback[OnError] = Callback(
        "No address has answered.", kept="_rare.on_connect_error"
    )
    on_error: Callback[OnError] = Callback("Something went wrong.", "_error_changed")
    on_read: Callback[OnEvent] = Callback(
        "Something is unread, and there is no request. Setting it ends ``read_each``.",
        "_reader_changed",
        kept="_read.on_read",
    )
    on_eof: Callback[OnEvent] = Callback(
        "The peer has sent everything.", "_eof_changed", kept="_read.on_eof"
    )
    on_drain: Callback[OnEvent] = Callback(
        "Everything is sent.", "_drain_changed", kept="_write.on_drain"
    )
    on_timeout = TimeoutCallback(ANY, "Nothing was read or written.")
    on_read_timeout = TimeoutCallback(READ, "Nothing was read.")
    on_write_timeout = TimeoutCallback(WRITE, "Nothing was written.")
    on_tls_started: Callback[OnTls] = Callback(
        "The handshake is done, or has failed.", kept="_rare.on_tls_started"
    )
    on_tls_stopped: Callback[OnEvent] = Callback("TLS is over.", kept="_rare.on_tls_stopped")

    timeout: Seconds = Seconds(ANY, "Seconds without reading or writing; 0 for no limit.")
    read_timeout: Seconds = Seconds(READ, "Seconds without reading; 0 for no limit.")
    write_timeout: Seconds = Seconds(WRITE, "Seconds without writing; 0 for no limit.")

    max_read_buffer: Option[int | None] = Option(
        check_limit,
        "How many bytes may remain unread; None for no limit.",
        "_read_limit_changed",
        kept="_read.max_buffer",
    )
    max_write_buffer: Option[int | None] = Option(
        check_limit,
        "How many bytes may remain unsent; None for no limit.",
        "_write_limit_changed",
        kept="_write.max_buffer",
    )
    low_water_mark: Option[int] = Option(
        check_size,
        "How many bytes may be unsent when on_drain is called.",
        "_write_limit_changed",
        kept="_write.low_water_mark",
    )
    read_size: Option[int] = Option(
        check_read_size,
        "How much is read in one call now; grows by itself.",
        "_read_size_changed",
        kept="_read.read_size",
    )
    max_read_size: Option[int] = Option(
        check_read_size,
        "The most that is read in one call.",
        "_read_size_changed",
        kept="_read.max_read_size",
    )
    linger: Option[float] = Option(
        check_period,
        "For how many seconds unsent bytes are still sent when the handle has ended.",
        kept="_rare.linger",
    )
    connect_timeout: Option[float] = Option(
        check_period,
        "How many seconds connecting may take; 0 for no limit.",
        "_connect_timeout_changed",
        kept="_rare.connect_timeout",
    )
    handshake_timeout: Option[float] = Option(
        check_period,
        "How many seconds a TLS handshake may take; 0 for no limit.",
        "_handshake_timeout_changed",
        kept="_rare.handshake_timeout",
    )
    autocork: Flag = Flag("Whether writes wait for the next turn.", kept="_write.autocork")
    watch_eof: Flag = Flag(
        "Whether an idle handle notices that the peer has closed.",
        "_interest_changed",
        kept="_read.watch_eof",
    )
    allow_truncated: Flag = Flag(
        "Whether a stream may end without close_notify.", kept="_rare.allow_truncated"
    )
    no_delay: Flag = Flag("Whether TCP sends small segments immediately.", "_socket_option_changed")
    keepalive: Flag = Flag(
        "Whether the kernel probes an idle connection.",
        "_socket_option_changed",
        kept="_rare.keepalive",
    )
    oob_inline: Flag = Flag(
        "Whether urgent data is part of the stream.",
        "_socket_option_changed",
        kept="_rare.oob_inline",
    )
    peer_name: Option[str | None] = Option(
        check_name, "The name that the peer has to prove.", kept="_rare.peer_name"
    )
    tls_context: Option[Any] = Option(
        _check_context, "The context for ``start_tls`` without one.", kept="_rare.tls_context"
    )

    def __init__(
        self,
        stream: Any = None,
        *,
        connect: tuple[str, str | int] | None = None,
        connector: Connector | None = None,
        local_address: str | tuple[str, int] | None = None,
        resolver: Resolver | None = None,
        on_prepare: Callable[[Self], float | None] | None = None,
        on_connect: Callable[[Self, str, Any, Callable[[], None]], object] | None = None,
        on_connect_error: Callable[[Self, HandleError], object] | None = None,
        on_error: Callable[[Self, HandleError], object] | None = None,
        on_read: Callable[[Self], object] | None = None,
        on_eof: Callable[[Self], object] | None = None,
        on_drain: Callable[[Self], object] | None = None,
        on_timeout: Callable[[Self], object] | None = None,
        on_read_timeout: Callable[[Self], object] | None = None,
        on_write_timeout: Callable[[Self], object] | None = None,
        on_tls_started: Callable[[Self, HandleError | None], object] | None = None,
        on_tls_stopped: Callable[[Self], object] | None = None,
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
        connect_timeout: float | None = _CONNECT_TIMEOUT,
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
        if unknown:
            raise TypeError(_unknown_option(*unknown))
        if (stream is None) == (connect is None):
            raise ValueError("either a stream or connect=(host, service) must be given")
        if connect is not None and (not isinstance(connect, (tuple, list)) or len(connect) != 2):
            raise TypeError(f"expected connect as (host, service), got {connect!r}")
        route: Route | None = None
        if connector is not None or local_address is not None or resolver is not None:
            route = _check_route(connect, connector, local_address, resolver)
        # one by one: a loop over all callbacks would cost 5 % of making a handle
        if on_error is not None and not _is_callable(on_error):
            check_callback("on_error", on_error)
        if on_read is not None and not _is_callable(on_read):
            check_callback("on_read", on_read)
        if on_eof is not None and not _is_callable(on_eof):
            check_callback("on_eof", on_eof)
        if on_drain is not None and not _is_callable(on_drain):
            check_callback("on_drain", on_drain)
        self._on_error = on_error
        self._no_delay = no_delay
        if max_read_buffer is not _MAX_READ_BUFFER:
            check_limit("max_read_buffer", max_read_buffer)
        if max_read_size is not _MAX_READ_SIZE:
            check_read_size("max_read_size", max_read_size)
        if read_size is None:
            read_size = max_read_size
        else:
            read_size = min(check_read_size("read_size", read_size), max_read_size)
        self._read = ReadSide(on_read, on_eof, max_read_buffer, read_size, max_read_size, watch_eof)
        if max_write_buffer is not None:
            check_limit("max_write_buffer", max_write_buffer)
        if low_water_mark is not _LOW_WATER_MARK:
            check_size("low_water_mark", low_water_mark)
        self._write = WriteSide(on_drain, max_write_buffer, low_water_mark, autocork)
        if (
            connect is not None
            or tls is not None
            or tls_context is not None
            or on_tls_started is not None
            or on_tls_stopped is not None
            or on_prepare is not None
            or on_connect is not None
            or on_connect_error is not None
            or peer_name is not None
            or json is not None
            or cbor is not None
            or keepalive
            or not oob_inline
            or allow_truncated
            or linger is not _LINGER
            or connect_timeout is not _CONNECT_TIMEOUT
            or handshake_timeout is not _HANDSHAKE_TIMEOUT
        ):
            self._rare = rare = RareOptions()
            rare.on_prepare = check_callback("on_prepare", on_prepare)
            rare.on_connect = check_callback("on_connect", on_connect)
            rare.on_connect_error = check_callback("on_connect_error", on_connect_error)
            rare.on_tls_started = check_callback("on_tls_started", on_tls_started)
            rare.on_tls_stopped = check_callback("on_tls_stopped", on_tls_stopped)
            rare.keepalive = keepalive
            rare.oob_inline = oob_inline
            rare.allow_truncated = allow_truncated
            rare.linger = check_period("linger", linger)
            rare.connect_timeout = check_period("connect_timeout", connect_timeout)
            rare.handshake_timeout = check_period("handshake_timeout", handshake_timeout)
            if peer_name is None and connect is not None:
                peer_name = connect[0]
            rare.peer_name = check_name("peer_name", peer_name)
            if tls is not None:
                check_role(tls)
                rare.tls_role = tls
                rare.tls_context = find_context(tls_context)
            elif tls_context is not None:
                rare.tls_context = find_context(tls_context)
            if json is not None:
                self._set_coder("json", Json, json)
            if cbor is not None:
                self._set_coder("cbor", Cbor, cbor)
        else:
            self._rare = _SHARED
        self._inactivity: Inactivity | None = None
        if timeout or read_timeout or write_timeout:
            self._inactivity = inactivity = Inactivity()
            inactivity.set_period(ANY, check_period("timeout", timeout))
            inactivity.set_period(READ, check_period("read_timeout", read_timeout))
            inactivity.set_period(WRITE, check_period("write_timeout", write_timeout))
        if on_timeout is not None or on_read_timeout is not None or on_write_timeout is not None:
            if self._inactivity is None:
                self._inactivity = Inactivity()
            inactivity = self._inactivity
            inactivity.set_callback(ANY, check_callback("on_timeout", on_timeout))
            inactivity.set_callback(READ, check_callback("on_read_timeout", on_read_timeout))
            inactivity.set_callback(WRITE, check_callback("on_write_timeout", on_write_timeout))
        self._begin(stream, connect, route)

    @abstractmethod
    def _begin(
        self, stream: Any, connect: tuple[str, str | int] | None, route: Route | None
    ) -> None:
        """Start on *stream*, or connect, with the options checked and set."""

    def _set_tls(self, role: TlsRole, context: Any) -> None:
        """Speak TLS from the beginning of the connection, which is not there yet."""
        rare = self._own_rare()
        rare.tls_role = role
        rare.tls_context = context

    def _own_rare(self) -> RareOptions:
        """Return the rare options as an object of this handle's own, to be set."""
        if self._rare is _SHARED:
            self._rare = RareOptions()
        return self._rare

    def _make_inactivity(self) -> Inactivity:
        self._inactivity = inactivity = Inactivity()
        return inactivity

    def _forget_callbacks(self) -> None:
        """Set all callbacks to None; requests stay queued."""
        self._on_error = None
        if self._rare is not _SHARED:
            self._rare.forget_callbacks()
        self._read.forget_callbacks()
        if self._write.on_drain is not None:
            self._write.forget_callback()
        if self._inactivity is not None:
            self._inactivity.forget_callbacks()

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
        frame = (self._rare.frames or {}).get(name)
        coder: Coder | None = None if frame is None else frame.coder
        return coder

    def _set_coder(self, name: str, kind: type[Any], coder: Coder | None) -> None:
        rare = self._own_rare()
        frames = dict(rare.frames or ())
        frames.pop(name, None)
        if coder is not None:
            frames[name] = kind(check_coder(name, coder))
        rare.frames = frames or None


# Where the interpreter names it: it is the handle that is called.
Options.__init__.__qualname__ = "Handle.__init__"
