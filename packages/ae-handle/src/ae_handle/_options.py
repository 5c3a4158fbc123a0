"""The options of a handle: their descriptors, their checks, and the constructor that takes them.

An option is kept where it is used, most often in the read side or the write side. No callback of
the program runs inside a setter: what a change makes due is done in the next turn.
"""

from __future__ import annotations

__all__ = ("Callback", "OnConnect", "OnError", "OnEvent", "OnPrepare", "OnTls", "Options")

from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Generic, Never, TypeAlias, TypeVar, overload

from ._buffers.octets import not_a_class
from ._errors import HandleError
from ._protocol.inactivity import ANY, READ, WRITE, Inactivity, check_period
from ._protocol.read_side import ReadSide
from ._protocol.write_side import WriteSide
from ._tls.engines import check_role, find_context
from .types import Cbor, Json

if TYPE_CHECKING:
    from typing import Self

    from ae_socket import Connector, Resolver

    from .abc import Coder, TlsRole

T = TypeVar("T")

OnEvent: TypeAlias = Callable[[Any], object]
OnError: TypeAlias = Callable[[Any, HandleError], object]
OnPrepare: TypeAlias = Callable[[Any], "float | None"]
OnConnect: TypeAlias = Callable[[Any, str, Any, Callable[[], None]], object]
OnTls: TypeAlias = Callable[[Any, "HandleError | None"], object]

# ---------------------------------------------------------------------- descriptors


class Option(Generic[T]):
    """An option of a handle.

    Args:
        check: Called with the name and the value; returns the value to keep, or raises.
        doc: What the option does.
        changed: The method of the handle that is called after a change. Calls no callback.
        kept: The attribute that keeps the value, by default the option's name with an
            underscore; ``"_read.max_buffer"`` is an attribute of the read side.
    """

    def __init__(
        self,
        check: Callable[[str, Any], T],
        doc: str,
        changed: str | None = None,
        *,
        kept: str = "",
    ) -> None:
        self.__doc__ = doc
        self._check = check
        self._changed = changed
        self._kept = kept
        self._name = ""

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._name = name
        kept = self._kept or "_" + name
        self._get = attrgetter(kept)
        part, _, self._attribute = kept.rpartition(".")
        self._part = attrgetter(part) if part else None

    @overload
    def __get__(self, h: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, h: Any, owner: type[Any]) -> T: ...
    def __get__(self, h: Any, owner: type[Any]) -> Self | T:
        if h is None:
            return self
        value: T = self._get(h)
        return value

    def __set__(self, h: Any, value: T) -> None:
        value = self._check(self._name, value)
        if not h.is_destroyed:
            setattr(h if self._part is None else self._part(h), self._attribute, value)
            if self._changed is not None:
                getattr(h, self._changed)()


class Callback(Option["T | None"], Generic[T]):
    """A callback of a handle: a callable, or None."""

    def __init__(self, doc: str, changed: str | None = None, *, kept: str = "") -> None:
        super().__init__(check_callback, doc, changed, kept=kept)


class Flag(Option[bool]):
    """An option that is on or off: anything goes, as in an ``if``."""

    def __init__(self, doc: str, changed: str | None = None, *, kept: str = "") -> None:
        super().__init__(_any, doc, changed, kept=kept)

    @overload
    def __get__(self, h: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, h: Any, owner: type[Any]) -> bool: ...
    def __get__(self, h: Any, owner: type[Any]) -> Self | bool:
        return self if h is None else bool(self._get(h))


class Seconds:
    """The period of one of the three inactivity timeouts."""

    def __init__(self, kind: int, doc: str) -> None:
        self.__doc__ = doc
        self._kind = kind
        self._name = ""

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, h: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, h: Any, owner: type[Any]) -> float: ...
    def __get__(self, h: Any, owner: type[Any]) -> Self | float:
        if h is None:
            return self
        period: float = 0.0 if h._inactivity is None else h._inactivity.periods[self._kind]
        return period

    def __set__(self, h: Any, seconds: float | None) -> None:
        h._set_period(self._kind, check_period(self._name, seconds))


class TimeoutCallback:
    """The callback of one of the three inactivity timeouts: a callable, or None."""

    def __init__(self, kind: int, doc: str) -> None:
        self.__doc__ = doc
        self._kind = kind
        self._name = ""

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, h: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, h: Any, owner: type[Any]) -> OnEvent | None: ...
    def __get__(self, h: Any, owner: type[Any]) -> Self | OnEvent | None:
        if h is None:
            return self
        callback: OnEvent | None
        callback = None if h._inactivity is None else h._inactivity.callbacks[self._kind]
        return callback

    def __set__(self, h: Any, callback: OnEvent | None) -> None:
        h._set_timeout_callback(self._kind, check_callback(self._name, callback))


# ---------------------------------------------------------------------- checks


def check_callback(name: str, value: Any) -> Any:
    """Return *value* if it can be called, or is None.

    Raises:
        TypeError: If it is neither.
    """
    if value is not None and not callable(value):
        raise TypeError(f"expected {name} as a callable or None, got {value!r}")
    return value


def _check_callbacks(
    on_error: Any, on_read: Any, on_eof: Any, on_drain: Any, on_connect: Any
) -> None:
    """Check the five that most handles have.

    One by one: a loop over all there are would cost 5 % of making a handle.
    """
    if on_error is not None and not callable(on_error):
        check_callback("on_error", on_error)
    if on_read is not None and not callable(on_read):
        check_callback("on_read", on_read)
    if on_eof is not None and not callable(on_eof):
        check_callback("on_eof", on_eof)
    if on_drain is not None and not callable(on_drain):
        check_callback("on_drain", on_drain)
    if on_connect is not None and not callable(on_connect):
        check_callback("on_connect", on_connect)


def check_limit(name: str, value: object) -> int | None:
    """Return *value* if it is a number of octets, or None for no limit.

    Raises:
        TypeError, ValueError: If it is neither.
    """
    return None if value is None else check_size(name, value)


def check_size(name: str, value: object, least: int = 0) -> int:
    """Return *value* if it is a number of octets of at least *least*.

    Raises:
        TypeError, ValueError: If it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"expected {name} as a number of octets, got {value!r}")
    if value < least:
        raise ValueError(f"expected {name} of {least} or more, got {value!r}")
    return value


def _any(name: str, value: Any) -> Any:
    return value


def check_coder(name: str, coder: Any) -> Any:
    """Return *coder* if it has ``loads`` and ``dumps``.

    Raises:
        TypeError: If it has not.
    """
    not_a_class(name, coder)
    if not (callable(getattr(coder, "loads", None)) and callable(getattr(coder, "dumps", None))):
        raise TypeError(f"expected {name} as an object with loads and dumps, got {coder!r}")
    return coder


def _check_read_size(name: str, value: object) -> int:
    return check_size(name, value, 1)


def _check_name(name: str, value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"expected {name} as a str or None, got {value!r}")
    return value


#: How to connect: the connector, or the local address and the resolver of ``tcp_connect``.
Route: TypeAlias = "tuple[Connector | None, str | tuple[str, int] | None, Resolver | None]"


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


class Options:
    """Everything about a handle that can be set. See :class:`ae_handle.Handle`."""

    __slots__ = (
        "_allow_truncated",
        "_connect_timeout",
        "_frames",
        "_handshake_timeout",
        "_inactivity",
        "_keepalive",
        "_linger",
        "_no_delay",
        "_on_connect",
        "_on_connect_error",
        "_on_error",
        "_on_prepare",
        "_on_tls_started",
        "_on_tls_stopped",
        "_oob_inline",
        "_peer_name",
        "_read",
        "_tls_context",
        "_tls_role",
        "_write",
    )

    # as they are called: by a handle that does not know its own class
    _on_prepare: Any
    _on_connect: Any
    _on_connect_error: Any
    _on_error: Any
    _on_tls_started: Any
    _on_tls_stopped: Any

    on_prepare: Callback[OnPrepare] = Callback("Before each attempt to connect.")
    on_connect: Callback[OnConnect] = Callback("The connection is there.")
    on_connect_error: Callback[OnError] = Callback("No address has answered.")
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
    on_tls_started: Callback[OnTls] = Callback("The handshake is done, or has failed.")
    on_tls_stopped: Callback[OnEvent] = Callback("TLS is over.")

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
        _check_read_size,
        "How much is read in one call now; grows by itself.",
        "_read_size_changed",
        kept="_read.read_size",
    )
    max_read_size: Option[int] = Option(
        _check_read_size,
        "The most that is read in one call.",
        "_read_size_changed",
        kept="_read.max_read_size",
    )
    linger: Option[float] = Option(
        check_period, "For how many seconds unsent bytes may outlive the handle."
    )
    connect_timeout: Option[float] = Option(
        check_period,
        "How many seconds connecting may take; 0 for no limit.",
        "_connect_timeout_changed",
    )
    handshake_timeout: Option[float] = Option(
        check_period,
        "How many seconds a TLS handshake may take; 0 for no limit.",
        "_handshake_timeout_changed",
    )
    autocork: Flag = Flag("Whether writes wait for the next turn.", kept="_write.autocork")
    watch_eof: Flag = Flag(
        "Whether an idle handle notices that the peer has closed.",
        "_interest_changed",
        kept="_read.watch_eof",
    )
    allow_truncated: Flag = Flag("Whether a stream may end without close_notify.")
    no_delay: Flag = Flag("Whether TCP sends small segments immediately.", "_socket_option_changed")
    keepalive: Flag = Flag(
        "Whether the kernel probes an idle connection.", "_socket_option_changed"
    )
    oob_inline: Flag = Flag("Whether urgent data is part of the stream.", "_socket_option_changed")
    peer_name: Option[str | None] = Option(_check_name, "Who the peer should be.")
    tls_context: Option[Any] = Option(_check_context, "The context for ``start_tls`` without one.")

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
        _check_callbacks(on_error, on_read, on_eof, on_drain, on_connect)
        if (
            on_prepare is not None
            or on_connect_error is not None
            or on_tls_started is not None
            or on_tls_stopped is not None
        ):
            check_callback("on_prepare", on_prepare)
            check_callback("on_connect_error", on_connect_error)
            check_callback("on_tls_started", on_tls_started)
            check_callback("on_tls_stopped", on_tls_stopped)
        self._on_prepare = on_prepare
        self._on_connect = on_connect
        self._on_connect_error = on_connect_error
        self._on_error = on_error
        self._on_tls_started = on_tls_started
        self._on_tls_stopped = on_tls_stopped
        if max_read_buffer is not _MAX_READ_BUFFER:
            check_limit("max_read_buffer", max_read_buffer)
        if max_read_size is not _MAX_READ_SIZE:
            _check_read_size("max_read_size", max_read_size)
        if read_size is None:
            read_size = max_read_size
        else:
            read_size = min(_check_read_size("read_size", read_size), max_read_size)
        self._read = ReadSide(on_read, on_eof, max_read_buffer, read_size, max_read_size, watch_eof)
        if max_write_buffer is not None:
            check_limit("max_write_buffer", max_write_buffer)
        if low_water_mark is not _LOW_WATER_MARK:
            check_size("low_water_mark", low_water_mark)
        self._write = WriteSide(on_drain, max_write_buffer, low_water_mark, autocork)
        if linger is not _LINGER:
            linger = check_period("linger", linger)
        self._linger = linger
        if connect_timeout is not _CONNECT_TIMEOUT:
            connect_timeout = check_period("connect_timeout", connect_timeout)
        self._connect_timeout = connect_timeout
        if handshake_timeout is not _HANDSHAKE_TIMEOUT:
            handshake_timeout = check_period("handshake_timeout", handshake_timeout)
        self._handshake_timeout = handshake_timeout
        self._no_delay = no_delay
        self._keepalive = keepalive
        self._oob_inline = oob_inline
        self._allow_truncated = allow_truncated
        self._frames: dict[str, Any] | None = None
        if json is not None:
            self.json = json
        if cbor is not None:
            self.cbor = cbor
        if peer_name is not None:
            _check_name("peer_name", peer_name)
        elif connect is not None:
            peer_name = _check_name("peer_name", connect[0])
        self._peer_name = peer_name
        if tls is not None:
            check_role(tls)
            tls_context = find_context(tls_context)
        elif tls_context is not None:
            tls_context = find_context(tls_context)
        self._tls_role: TlsRole | None = tls
        self._tls_context = tls_context
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

    def _begin(
        self, stream: Any, connect: tuple[str, str | int] | None, route: Route | None
    ) -> None:
        """Start on *stream*, or connect, with the options checked and set."""
        raise NotImplementedError

    def _set_tls(self, role: TlsRole, context: Any) -> None:
        """Speak TLS from the beginning of the connection, which is not there yet."""
        self._tls_role = role
        self._tls_context = context

    def _make_inactivity(self) -> Inactivity:
        self._inactivity = inactivity = Inactivity()
        return inactivity

    def _forget_callbacks(self) -> None:
        """Set all callbacks to None; requests stay queued."""
        self._on_prepare = self._on_connect = self._on_connect_error = self._on_error = None
        self._on_tls_started = self._on_tls_stopped = None
        self._read.forget_callbacks()
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
        frame = (self._frames or {}).get(name)
        coder: Coder | None = None if frame is None else frame.coder
        return coder

    def _set_coder(self, name: str, kind: type[Any], coder: Coder | None) -> None:
        frames = dict(self._frames or ())
        frames.pop(name, None)
        if coder is not None:
            frames[name] = kind(check_coder(name, coder))
        self._frames = frames or None


# Where the interpreter names it: it is the handle that is called.
Options.__init__.__qualname__ = "Handle.__init__"
