"""What the user holds: guards that end an interest when they are dropped or cancelled.

A guard owns nothing but a reference to its record; the loop owns the record and never refers to
the guard. So a callback that closes over its own guard keeps it alive, and setting that variable
to ``None`` cancels immediately.
"""

from __future__ import annotations

__all__ = (
    "Cancellable",
    "IoWatcher",
    "RecordWatcher",
    "TimerWatcher",
    "Watcher",
    "name_of",
    "unwrapped",
    "weak",
)

from abc import abstractmethod

from .._base.errors import WrongLoop
from .._base.thread_identity import get_ident, wrong_thread
from .timers import TimerEntry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from abc import ABC
    from collections.abc import Callable
    from types import MethodType, TracebackType
    from typing import Any, Self
    from weakref import ref

    from .state import LoopState
else:  # the C module itself: its wrapper costs a millisecond
    from _weakref import ref

    ABC = object  # type checkers see what is missing; isinstance() of an ABC takes longer


class Cancellable(ABC):
    """Something that a program holds, and that ends by ``cancel()`` or with a ``with`` block.

    For libraries: derive from it, and define :meth:`cancel`. It has no state of its own.

    Example:
        >>> class Subscription(Cancellable):
        ...     def cancel(self):
        ...         print("unsubscribed")
        >>> with Subscription():
        ...     print("at work")
        at work
        unsubscribed
    """

    __slots__ = ()

    @abstractmethod
    def cancel(self) -> None:
        """End it, now. Idempotent."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cancel()


class Watcher(Cancellable):
    """An interest in one kind of event, as returned by ``io``, ``timer``, ``signal`` ...

    Hold it for as long as the callback shall be called: dropping the last reference cancels it,
    as does :meth:`cancel` and leaving a ``with`` block.
    """

    # slots of a base class make the garbage collector's walk longer, so there are none here
    __slots__ = ("__weakref__",)

    @abstractmethod
    def cancel(self) -> None:
        """End the interest. The callback is not called again, not even for what is ready now.

        Idempotent, and allowed everywhere, also inside any callback.

        Raises:
            RuntimeError: In another thread than the one that made the watcher.
        """

    @property
    @abstractmethod
    def active(self) -> bool:
        """Whether the callback may still be called."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """``"io"``, ``"timer"``, ``"signal"``, ``"child"``, ``"idle"`` or ``"end"``."""

    @property
    @abstractmethod
    def callback(self) -> Callable[..., object] | None:
        """The function that is called, None once there is none."""

    def __enter__(self) -> Self:
        core = self._core_of()
        if core.closed:
            raise WrongLoop(f"this watcher belongs to a {core.backend.name} loop that has ended")
        return self

    def __eq__(self, other: object) -> bool:
        # the exception hook gets a view of the watcher, not the guard itself
        return isinstance(other, Watcher) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        state = "active" if self.active else "inactive"
        return f"<Watcher {self._describe()} {name_of(self.callback)} {state}>"

    @abstractmethod
    def _key(self) -> tuple[int, int]: ...

    @abstractmethod
    def _core_of(self) -> LoopState: ...

    @abstractmethod
    def _describe(self) -> str: ...


# A guard is collected when nothing refers to it any more, and Python then calls its `__del__`. For
# a timeout that is moved at every request that is a tenth of all that the loop does. So an I/O
# watcher or a timer that was cancelled becomes an object of another class, which has none.


class _Recorded(Watcher):
    __slots__ = ("_record",)

    _record: Any

    @property
    def active(self) -> bool:
        """Whether the callback may still be called."""
        active: bool = self._record.active
        return active

    @property
    def kind(self) -> str:
        """What it watches for."""
        kind: str = self._record.kind
        return kind

    @property
    def callback(self) -> Callable[..., object] | None:
        """The function that is called, None once there is none."""
        record = self._record
        return unwrapped(record.callback) if record.active else None

    def _key(self) -> tuple[int, int]:
        return (id(self._record), 0)

    def _core_of(self) -> LoopState:
        core: LoopState = self._record.core
        return core

    def _describe(self) -> str:
        return f"{self._record.kind}{self._record.describe()}"


class RecordWatcher(_Recorded):
    """A signal, child or idle watcher: the guard of a record with ``active`` and ``cancel()``."""

    __slots__ = ()

    def __init__(self, record: Any) -> None:
        self._record = record

    def cancel(self) -> None:
        """End the interest."""
        record = self._record
        if record.active:
            if record.core.thread != get_ident():
                wrong_thread()
            record.cancel()

    def __del__(self) -> None:
        # not cancel(): a guard may be collected in any thread
        record = self._record
        if record.active:
            _drop(record)


class IoWatcher(_Recorded):
    """An I/O watcher: the guard of an ``IoRecord``."""

    __slots__ = ()

    def cancel(self) -> None:
        """End the interest."""
        self._record.cancel()
        self.__class__ = EndedIo  # type: ignore[assignment]

    def __del__(self) -> None:
        try:
            record = self._record
        except AttributeError:
            return  # the constructor raised
        if record.callback is not None:
            _drop(record)


class EndedIo(_Recorded):
    """An I/O watcher after its ``cancel()``."""

    __slots__ = ()

    def cancel(self) -> None:
        """Nothing is left to end."""
        return None


def _drop(record: Any) -> None:
    """Cancel *record* from whatever thread its guard was collected in."""
    core = record.core
    if core.thread == get_ident():
        record.cancel()
    elif not core.closed:
        _tell(core, record.cancel)


def _tell(core: LoopState, call: Callable[[], None]) -> None:
    try:
        core.raw_threadsafe(call)
    except RuntimeError:
        return  # the loop has ended, and with it what was watched


class _Timer(Watcher):
    __slots__ = ("_core", "_number")

    _core: LoopState
    _number: int

    @property
    def kind(self) -> str:
        """Always ``"timer"``."""
        return "timer"

    def _key(self) -> tuple[int, int]:
        return (id(self._core), self._number)

    def _core_of(self) -> LoopState:
        return self._core


class EndedTimer(_Timer):
    """A timer after its ``cancel()``."""

    __slots__ = ()

    def cancel(self) -> None:
        """Nothing is left to end."""
        return None

    @property
    def active(self) -> bool:
        """Always False."""
        return False

    @property
    def callback(self) -> None:
        """Always None."""
        return None

    def _describe(self) -> str:
        return "timer"


class TimerWatcher(_Timer):
    """A timer: its record is a number in the core's timer queue."""

    __slots__ = ()

    def cancel(self) -> None:
        """End the interest."""
        core = self._core
        if core.thread != get_ident():
            wrong_thread()
        try:
            del core.live_timers[self._number]
        except KeyError:
            return  # it was called, and nothing is left to end
        self.__class__ = EndedTimer  # type: ignore[assignment]

    @property
    def active(self) -> bool:
        """Whether the callback may still be called."""
        return self._number in self._core.timers.live

    @property
    def callback(self) -> Callable[[], object] | None:
        """The function that is called, None once there is none."""
        entry = self._core.timers.live.get(self._number)
        callback: Callable[[], object] | None
        callback = unwrapped(entry.callback if isinstance(entry, TimerEntry) else entry)
        return callback

    def _describe(self) -> str:
        entry = self._core.timers.live.get(self._number)
        interval = entry.interval if isinstance(entry, TimerEntry) else 0.0
        every = f" every {interval:g} s" if interval else ""
        return f"timer{every}"

    def __del__(self) -> None:
        try:
            core = self._core
        except AttributeError:
            return  # the constructor raised
        if self._number in core.live_timers:
            if core.thread == get_ident():
                del core.live_timers[self._number]
            elif not core.closed:
                number = self._number
                _tell(core, lambda: core.cancel_timer(number))


def unwrapped(callback: Any) -> Any:
    """Return the user's own function where a debugging aid stands in front of it."""
    return getattr(callback, "__ae_wraps__", callback)


def name_of(callback: object) -> str:
    """Return a callback's name for messages."""
    callback = unwrapped(callback)
    if callback is None:
        return "-"
    name = getattr(callback, "__qualname__", None)
    return f"{getattr(callback, '__module__', '?')}.{name}" if name else repr(callback)


class weak:
    """Return a callback that does not keep a bound method's object alive.

    ``self.watcher = ae.io(fd, "r", self.on_read)`` is a reference cycle: the object lives, and
    is called, until the garbage collector comes by. ``ae.weak(self.on_read)`` does not keep
    ``self``: when it goes, the watcher it holds goes with it, immediately.

    Args:
        method: A bound method.

    Raises:
        TypeError: If *method* is not a bound method, or its object cannot be weakly referenced.

    **When**: as the watcher's. Once the object is gone, a call does nothing and returns None.

    Example:
        >>> class Peer:
        ...     def hello(self):
        ...         return "hello"
        >>> peer = Peer()
        >>> hello = weak(peer.hello)
        >>> hello()
        'hello'
        >>> del peer
        >>> hello()

    Perl: ``Scalar::Util::weaken $self``
    """

    __slots__ = ("__weakref__", "_function", "_object")

    def __init__(self, method: MethodType | Callable[..., object]) -> None:
        try:
            self._object = ref(method.__self__)  # type: ignore[union-attr]
            self._function = method.__func__  # type: ignore[union-attr]
        except AttributeError:
            raise TypeError(f"expected a bound method, got {method!r}") from None

    def __call__(self, *args: Any) -> object:
        owner = self._object()
        if owner is None:
            return None
        return self._function(owner, *args)

    def __repr__(self) -> str:
        return f"weak({name_of(self._function)})"
