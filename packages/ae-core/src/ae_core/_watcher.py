"""What the user holds: guards that end an interest when they are dropped or cancelled.

A guard owns nothing but a reference to its record; the loop owns the record and never refers to
the guard. So a callback that closes over its own guard keeps it alive, and setting that variable
to ``None`` cancels at once.
"""

from __future__ import annotations

__all__ = ("TimerWatcher", "Watcher", "weak")

from _thread import get_ident
from typing import TYPE_CHECKING, Any
from weakref import ref

from ._errors import WrongLoop
from ._timers import CALLBACK, CORE, INTERVAL, TimerRecord

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import MethodType, TracebackType
    from typing import Self


class Watcher:
    """An interest in one kind of event, as returned by ``io``, ``signal``, ``child`` and ``idle``.

    Hold it for as long as the callback shall be called: dropping the last reference cancels it,
    as does :meth:`cancel` and leaving a ``with`` block.
    """

    # `_seen` is set on views (see `_hook`): they describe a watcher without owning its record
    __slots__ = ("__weakref__", "_record")

    _record: Any

    def cancel(self) -> None:
        """End the interest. The callback is not called again, not even for what is ready now.

        Idempotent, and allowed everywhere, also inside any callback.

        Raises:
            RuntimeError: In another thread than the one that made the watcher.
        """
        record = self._record
        if record.active:
            _check_thread(record.core.thread)
            record.cancel()

    @property
    def active(self) -> bool:
        """Whether the callback may still be called."""
        active: bool = self._record.active
        return active

    @property
    def kind(self) -> str:
        """``"io"``, ``"timer"``, ``"signal"``, ``"child"`` or ``"idle"``."""
        kind: str = self._record.kind
        return kind

    @property
    def callback(self) -> Callable[..., object] | None:
        """The function that is called, None once there is none."""
        record = self._record
        return record.callback if record.active else None

    def __enter__(self) -> Self:
        if not self.active and _core_of(self._record).closed:
            raise WrongLoop(
                f"this watcher belongs to a {_core_of(self._record).backend.name} loop that has ended"
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cancel()

    def __eq__(self, other: object) -> bool:
        # the exception hook gets a view of the watcher, not the guard itself
        return isinstance(other, Watcher) and self._record is other._record

    def __hash__(self) -> int:
        return id(self._record)

    def __repr__(self) -> str:
        state = "active" if self.active else "inactive"
        return f"<{type(self).__name__} {self._describe()} {state}>"

    def _describe(self) -> str:
        record = self._record
        detail = record.describe() if hasattr(record, "describe") else ""
        return f"{record.kind}{detail} {_name_of(record.callback)}"

    def __del__(self) -> None:
        # not cancel(): a guard may be collected in any thread
        try:
            record = self._record
        except AttributeError:
            return  # the constructor raised
        if record.active:
            _drop(record)


class TimerWatcher(Watcher):
    """A timer, as returned by ``timer``. Its record is a plain list (see ``_timers``)."""

    __slots__ = ()

    _record: TimerRecord

    def cancel(self) -> None:
        """End the interest. The callback is not called again. Idempotent."""
        record = self._record
        if record[2] is not None:
            core = record[5]
            if core.thread != get_ident():
                _check_thread(core.thread)
            # TimerQueue.cancel(), written out: 70 ns instead of 110
            timers = core.timers
            record[2] = None
            timers.dead = dead = timers.dead + 1
            if dead > timers.limit:
                timers.tidy()

    @property
    def active(self) -> bool:
        """Whether the callback may still be called."""
        return self._record[CALLBACK] is not None

    @property
    def kind(self) -> str:
        """Always ``"timer"``."""
        return "timer"

    @property
    def callback(self) -> Callable[[], object] | None:
        """The function that is called, None once there is none."""
        callback: Callable[[], object] | None = self._record[CALLBACK]
        return callback

    def _describe(self) -> str:
        interval = self._record[INTERVAL]
        every = f" every {interval:g} s" if interval else ""
        return f"timer{every} {_name_of(self._record[CALLBACK])}"

    def __del__(self) -> None:
        try:
            record = self._record
        except AttributeError:
            return  # the constructor raised
        if record[2] is not None:
            core = record[5]
            if core.thread == get_ident():
                core.timers.cancel(record)
            elif not core.closed:
                core.backend.call_threadsafe(_Late(record, core))


class _Late:
    """Cancels a timer in its own thread, after its guard was collected in another one."""

    __slots__ = ("core", "record")

    def __init__(self, record: TimerRecord, core: Any) -> None:
        self.record = record
        self.core = core

    def __call__(self) -> None:
        if self.record[CALLBACK] is not None:
            self.core.timers.cancel(self.record)


def _drop(record: Any) -> None:
    core = record.core
    if core.thread == get_ident():
        record.cancel()
    elif not core.closed:
        core.backend.call_threadsafe(record.cancel)


def _core_of(record: Any) -> Any:
    return record[CORE] if isinstance(record, list) else record.core


def _check_thread(owner: int) -> None:
    if owner != get_ident():
        raise RuntimeError(
            "a watcher can only be cancelled in the thread that made it; "
            "use call_threadsafe(watcher.cancel) of that thread's loop"
        )


def _name_of(callback: object) -> str:
    if callback is None:
        return "-"
    name = getattr(callback, "__qualname__", None)
    return f"{getattr(callback, '__module__', '?')}.{name}" if name else repr(callback)


class weak:
    """Return a callback that does not keep a bound method's object alive.

    ``self.watcher = ae.io(fd, "r", self.on_read)`` is a reference cycle: the object lives, and
    is called, until the garbage collector comes by. ``ae.weak(self.on_read)`` does not keep
    ``self``: when it goes, the watcher it holds goes with it, at once.

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
        return f"weak({_name_of(self._function)})"
