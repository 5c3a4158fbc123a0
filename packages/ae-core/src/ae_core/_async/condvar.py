"""Condition variables: a result that is not there yet.

One object serves three styles: callbacks (``on_ready``), blocking scripts (``recv``) and
coroutines (``await``). How callbacks are called is in ``notifier``, how a coroutine waits on a
foreign loop in ``awaiting``, how a thread blocks in ``_loop.blocking``.
"""

from __future__ import annotations

__all__ = ("CondVar",)

import sys

from .._base.seconds import check_seconds, inf
from .._base.thread_identity import get_ident
from .._detection.current import current_loop
from .._loop.blocking import block
from .awaiting import cancelled_error, suspend
from .notifier import Notifier, callback_failed
from .unseen import Unseen

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    import concurrent.futures
    from collections.abc import Callable, Generator
    from types import TracebackType
    from typing import Any, Final, Generic, Literal, TypeVar

    T = TypeVar("T")
else:
    GenericAlias = type(list[int])  # what `types` calls so, which takes a third of a millisecond

    class Generic:
        """Stands in for ``typing.Generic``: importing typing costs more than all of ae_core."""

        __slots__ = ()
        __class_getitem__ = classmethod(GenericAlias)

    T = "T"


_modules = sys.modules

# The states. Small integers, because they are compared at every turn of a blocking wait.
_PENDING: Final = 0
_VALUE: Final = 1
_ERROR: Final = 2
_CANCELLED: Final = 3
_STATES: Final = ("pending", "value", "error", "cancelled")

#: Instead of a number of awaiters: no operation, so they are not counted.
_MEETING_POINT: Final = -1

_UNITS: Final = ("bytes", "characters")


#: Set by ``_wiring``: imports ``bridges``, which stands above this file.
load_bridges: Any = None


#: Set by ``sites`` while it is noted where operations are made; and the function that tells it.
note_site: Callable[[CondVar[Any]], object] | None = None
site_of: Callable[[CondVar[Any]], str | None] | None = None


class CondVar(Notifier, Generic[T]):
    """A value, or an error, that will be there later.

    Args:
        callback: Called once with the condition variable when it becomes ready; the same as
            a first :meth:`on_ready`.
        cancel: Called without arguments, once, when it has become :attr:`cancelled`; never after
            ``send`` or ``throw``. It makes the condition variable an *operation*.
        untaken: Called with a value that was sent, and that no awaiter took because all of them
            were cancelled meanwhile; the condition variable is :attr:`cancelled` then. Also makes
            it an operation.
        describe: Returns what ``repr()`` calls it: ``"read 'line' from example.org:25"``. Kept,
            with what it refers to, for as long as the condition variable.

    ``send`` or ``throw`` makes it ready; ``recv`` runs the loop until it is, ``await`` suspends
    a coroutine until it is. Any number may wait.

    Without *cancel* and *untaken* it is a meeting point: a waiter that gives up, by timeout or
    cancellation, leaves it as it is. An *operation* is cancelled when the last of all that are
    interested in it is cancelled. Interested are: coroutines that ``await`` it (of asyncio, trio,
    Twisted or :func:`~ae_core.spawn`), a ``recv()`` in progress, an :meth:`on_ready` callback, and
    a :func:`~ae_core.shield` of it. Cancelled is an awaiter whose task is cancelled, or whose
    coroutine is closed, and a ``recv()`` that is left by an exception which interrupts it
    (``KeyboardInterrupt``, ``gevent.Timeout``), but not by its own ``TimeoutError``.

    A value is *taken* when ``await`` or ``recv`` returns it, or when an :meth:`on_ready` callback
    is told of it. What *cancel* and *untaken* raise goes to ``exception_hook``.

    An error that was never read (by ``recv``, ``await`` or :attr:`error`) is logged when the
    condition variable is collected.

    Perl: ``AnyEvent->condvar``, ``AE::cv``
    """

    __slots__ = (
        "__weakref__",
        "_awaiters",
        "_cancel",
        "_count",
        "_describe",
        "_group_callback",
        "_state",
        "_traceback",
        "_unseen",
        "_untaken",
        "_value",
    )

    # How many coroutines, and recv() in progress, will take the value of an operation. The other
    # three are missing where there is no operation: making one that is none costs nothing more.
    _awaiters: int
    _count: int
    _cancel: Callable[[], object] | None
    _untaken: Callable[[T], object] | None
    _describe: Callable[[], str] | None
    _state: int
    _value: Any
    _group_callback: Callable[[CondVar[T]], object]
    _traceback: TracebackType | None
    _unseen: Unseen | None

    if TYPE_CHECKING:

        def __init__(
            self,
            callback: Callable[[CondVar[T]], object] | None = None,
            *,
            cancel: Callable[[], object] | None = None,
            untaken: Callable[[T], object] | None = None,
            describe: Callable[[], str] | None = None,
        ) -> None: ...

    else:  # the defaults of arguments that are keyword-only cost 35 of 250 ns

        def __init__(self, callback=None, cancel=None, untaken=None, describe=None):
            if callback is None:
                self._callbacks = None
            else:
                if not callable(callback):
                    _check_callable(callback)
                self._callbacks = [callback]
            self._state = _PENDING
            self._thread = get_ident()
            self._awaiters = _MEETING_POINT
            if cancel is not None or untaken is not None or describe is not None:
                self._set_options(cancel, untaken, describe)

    def _set_options(self, cancel: Any, untaken: Any, describe: Any) -> None:
        for function in (cancel, untaken, describe):
            if function is not None and not callable(function):
                _check_callable(function)
        if cancel is not None or untaken is not None:
            # a callback is told of every value
            self._be_operation(cancel, untaken if self._callbacks is None else None)
        self._describe = describe

    def _be_operation(self, cancel: Any = None, untaken: Any = None) -> None:
        """Make it an operation: cancelled when nothing is interested in it any more."""
        self._awaiters = 0
        self._cancel = cancel
        self._untaken = untaken
        if note_site is not None:
            note_site(self)

    def _be_meeting_point(self) -> None:
        """Make it a meeting point: the cancellation of waiters leaves it as it is."""
        self._awaiters = _MEETING_POINT

    # ------------------------------------------------------------------ completion

    def send(self, value: T | None = None) -> None:
        """Make it ready with *value*.

        The callbacks run inside this call, before it returns. (In a chain of more than fifty sends,
        each in a callback of the one before, those further down return first; the fiftieth does
        not before all have been called.) A later ``send`` replaces the
        value without a call; it never replaces an error or a cancellation.

        Raises:
            RuntimeError: In another thread than the one that made the condition variable.

        Perl: ``$cv->send``
        """
        if self._thread != get_ident():
            self._wrong_thread("send")
        state = self._state
        if state == _PENDING:
            self._value = value
            self._state = _VALUE
            self._cancel = None
            if self._callbacks is not None:
                try:
                    self._run_callbacks()
                except BaseException:
                    self._run_others_later()
                    raise
        elif state == _VALUE:
            self._value = value

    def __call__(self, *args: Any) -> None:
        """Do :meth:`send`, so that a condition variable may stand where a callback is expected.

        No argument sends None, one argument itself, several a tuple of them.
        """
        if not args:
            self.send(None)
        elif len(args) == 1:
            self.send(args[0])
        else:
            self.send(args)  # type: ignore[arg-type]

    def throw(self, error: BaseException) -> None:
        """Make it ready with an error, which every ``recv`` and ``await`` raises.

        Sticky: a later ``send`` does not hide it, and the first error stays. After a ``send``,
        the error takes the value's place.

        If the error is never read it is logged, unless its class says that the program itself
        ended the operation (``ended_by_program = True``).

        Raises:
            TypeError: If *error* is not an exception instance.
            RuntimeError: In another thread than the one that made the condition variable.

        Perl: ``$cv->croak``
        """
        if not isinstance(error, BaseException):
            raise TypeError(f"expected an exception instance, got {error!r}")
        if self._thread != get_ident():
            self._wrong_thread("throw")
        state = self._state
        if state in (_PENDING, _VALUE):
            self._value = error
            self._traceback = error.__traceback__
            self._state = _ERROR
            self._cancel = self._untaken = None
            if getattr(error, "ended_by_program", False):
                self._unseen = None
            else:
                site = None if site_of is None else site_of(self)
                made = f", made by {site}," if site else ""
                self._unseen = Unseen(error, f"{self._name()}{made}")
            if self._callbacks is not None:
                try:
                    self._run_callbacks()
                except BaseException:
                    self._run_others_later()
                    raise

    def cancel(self) -> None:
        """Cancel the operation behind it: its result is not needed any more.

        Does nothing when it is ready. Otherwise it becomes ready and :attr:`cancelled`, the
        callbacks run, ``recv`` and ``await`` raise :class:`CancelledError`, and the operation,
        if there is one, releases what it holds.

        Raises:
            RuntimeError: In another thread than the one that made the condition variable.
        """
        if self._thread != get_ident():
            self._wrong_thread("cancel")
        if self._state == _PENDING:
            self._state = _CANCELLED
            try:
                self._end_operation()
            finally:
                if self._callbacks is not None:
                    try:
                        self._run_callbacks()
                    except BaseException:
                        self._run_others_later()
                        raise

    def _end_operation(self) -> None:
        """Release what the operation holds; called by :meth:`cancel`, once.

        Before the callbacks run, because these may raise what leaves the program.
        """
        if self._awaiters >= 0:
            cancel, self._cancel = self._cancel, None
            self._untaken = None
            if cancel is not None:
                try:
                    cancel()
                except BaseException as error:
                    callback_failed(error)

    # ------------------------------------------------------------------ state

    @property
    def ready(self) -> bool:
        """Whether there is a value, an error or a cancellation."""
        return self._state != _PENDING

    @property
    def cancelled(self) -> bool:
        """Whether it became ready by :meth:`cancel`."""
        return self._state == _CANCELLED

    @property
    def error(self) -> BaseException | None:
        """The error given to :meth:`throw`, or None.

        Asking counts as reading it: it is then not logged when the condition variable is
        collected. This is how one failure of a connection can end a hundred operations, of
        which the user watches one, without a hundred lines in the log.
        """
        if self._state != _ERROR:
            return None
        self._seen()
        error: BaseException = self._value
        return error

    def on_ready(self, callback: Callable[[CondVar[T]], object]) -> None:
        """Call *callback* once with the condition variable when it is ready.

        Callbacks add up and are called in the order they were added. If it is ready already,
        the callback is called immediately, inside this call. What a callback raises goes to
        ``exception_hook``; the others are called all the same.

        Raises:
            TypeError: If *callback* cannot be called.

        Perl: ``$cv->cb``
        """
        _check_callable(callback)
        self._untaken = None  # what it is told of is taken
        if self._state == _PENDING:
            if self._callbacks is None:  # _add_waker(), written out
                self._callbacks = [callback]
            else:
                self._callbacks.append(callback)
        else:
            try:
                callback(self)
            except BaseException as error:
                callback_failed(error)

    def recv(self, timeout: float | None = None) -> T:
        """Return the value, running the loop until there is one.

        Args:
            timeout: How long to wait, in seconds; None waits for ever, and 0 or less for one
                turn of the loop.

        A ready condition variable answers immediately, everywhere. May be called any number of
        times.

        Raises:
            TimeoutError: The time is up. The operation goes on.
            TypeError, ValueError: *timeout* is not a number.
            CancelledError: It was cancelled; where asyncio runs also asyncio's.
            BlockingNotAllowed: A foreign loop runs in this thread: use ``await cv``.
            RecursiveWait: Another ``recv`` of this thread is waiting.
            Deadlock: Nothing is left that could ever make it ready.
            BaseException: Whatever was given to :meth:`throw`.

        Perl: ``$cv->recv``
        """
        if self._state == _PENDING:
            if self._thread != get_ident():
                self._wrong_thread("recv")
            if timeout is not None:
                timeout = _check_timeout(timeout)
            block(current_loop(blocking=True), self, timeout)
        if self._state == _VALUE:
            # fast path: _result(), written out: 240 of 5,020 instructions, with send()
            self._untaken = None
            value: T = self._value
            return value
        try:
            return self._result()
        finally:
            del self  # the error's traceback refers to this frame, and we to the error

    def _result(self) -> T:
        state = self._state
        if state == _VALUE:
            self._untaken = None
            value: T = self._value
            return value
        if state == _ERROR:
            self._seen()
            # the same object may be raised many times: its traceback must not grow
            error: BaseException = self._value
            traceback = self._traceback
            try:
                raise error.with_traceback(traceback)
            finally:
                del self, error, traceback  # no cycle: error -> traceback -> this frame -> error
        what = type(self).__name__ if self._awaiters < 0 else self._name()
        raise cancelled_error(f"the {what.removeprefix('a ')} was cancelled")

    def _seen(self) -> None:
        if self._unseen is not None:
            self._unseen.looked_at()
            self._unseen = None

    def __await__(self) -> Generator[Any, Any, T]:
        # a ready one is a checkpoint on trio only
        if self._state == _PENDING or "trio._core._run" in _modules:
            yield from suspend(self)
        if self._state == _VALUE:
            # fast path: _result(), written out: 390 of 2,480 instructions
            self._untaken = None
            value: T = self._value
            return value
        try:
            return self._result()
        finally:
            del self  # as in recv()

    # ------------------------------------------------------------------ for other libraries

    def as_future(self) -> asyncio.Future[T]:
        """Return a future of the asyncio loop that runs here, with the same outcome.

        It awaits this condition variable: cancelling it is what the cancellation of an awaiter is.

        Raises:
            RuntimeError: No loop of asyncio runs in this thread.
        """
        future: asyncio.Future[T] = load_bridges().as_future(self)
        return future

    def as_deferred(self) -> Any:
        """Return a Deferred of Twisted with the same outcome; as :meth:`as_future`.

        Its callbacks run in the loop, as those of :meth:`on_ready`. Cancelling this condition
        variable fails it with Twisted's ``CancelledError``.

        Raises:
            ImportError: Twisted is not installed.
        """
        return load_bridges().as_deferred(self)

    def as_concurrent_future(self) -> concurrent.futures.Future[T]:
        """Return a future for other threads, with the same outcome; as :meth:`as_future`.

        Other threads may wait for it and cancel it. Waiting in this thread waits for ever.
        """
        future: concurrent.futures.Future[T] = load_bridges().as_concurrent_future(self)
        return future

    # ------------------------------------------------------------------ groups

    def begin(self, callback: Callable[[CondVar[T]], object] | None = None) -> None:
        """Count one more thing to wait for, until its :meth:`end`.

        Args:
            callback: Called with the condition variable, instead of :meth:`send`, when the last
                ``end`` has come. The last one given wins, None keeps the earlier one.

        Perl: ``$cv->begin``
        """
        if callback is not None:
            _check_callable(callback)
            self._group_callback = callback
        self._count = getattr(self, "_count", 0) + 1

    def end(self) -> None:
        """Count one thing less; when none is left, call the group callback, or ``send()``.

        The group callback need not send, and is called again if the count returns to zero. What
        it raises goes to ``exception_hook``.

        Raises:
            RuntimeError: Without a matching :meth:`begin`.

        Perl: ``$cv->end``
        """
        count = getattr(self, "_count", 0)
        if count <= 0:
            raise RuntimeError("end() without a matching begin()")
        self._count = count - 1
        if count == 1:
            callback = getattr(self, "_group_callback", None)
            if callback is None:
                self.send()
                return
            try:
                callback(self)
            except BaseException as error:
                callback_failed(error)

    def group(self) -> Group[T]:
        """Return a context manager that calls :meth:`begin` and, at its exit, :meth:`end`."""
        return Group(self)

    # ------------------------------------------------------------------ for the core

    # An awaiter calls `_enter` before it adds its waker, and `_leave` after it has removed it; one
    # that goes on calls `_result` instead, by which the value is taken.

    def _enter(self) -> None:
        """Count one more awaiter that will take the value: a coroutine, or a ``recv()``."""
        if self._awaiters >= 0:
            self._awaiters += 1

    def _leave(self, cancelled: bool = True) -> None:
        """Count one awaiter less; an operation in which nothing else is interested is cancelled."""
        if self._awaiters < 0 or self._thread != get_ident():
            return  # a coroutine of another thread is collected in this one
        self._awaiters -= 1
        if not cancelled:
            return
        if self._state == _PENDING:
            if not self._callbacks:
                self.cancel()
        elif self._state == _VALUE and not self._awaiters and self._untaken is not None:
            untaken, self._untaken = self._untaken, None
            value, self._value = self._value, None
            self._state = _CANCELLED
            try:
                untaken(value)
            except BaseException as error:
                callback_failed(error)

    def _take_over(self) -> tuple[T, Callable[[T], object] | None]:
        """Return the value, and the function that gets it back if it is passed on and not taken."""
        untaken = self._untaken if self._awaiters == 1 else None
        return self._result(), untaken

    def _pass_on(self, operation: CondVar[T]) -> None:
        """Give the outcome to *operation*, which gives the value back if it is not taken there."""
        if self._state == _CANCELLED:
            operation.cancel()
        elif self._state == _ERROR:
            self._seen()
            operation.throw(self._value)
        else:
            value, untaken = self._take_over()
            operation._untaken = operation._untaken and untaken
            operation.send(value)

    def _name(self) -> str:
        """Return what ``repr()`` and the log call it."""
        describe = getattr(self, "_describe", None)
        return f"a {type(self).__name__}" if describe is None else describe()

    def __repr__(self) -> str:
        state = _STATES[self._state]
        if self._awaiters < 0:
            detail = f" {self._value!r}" if self._state in (_VALUE, _ERROR) else ""
            return f"<{type(self).__name__} {state}{detail} at {id(self):#x}>"
        if self._state == _ERROR:
            state = repr(self._value)
        elif self._state == _VALUE and isinstance(self._value, (bytes, bytearray, str)):
            state = f"{len(self._value)} {_UNITS[type(self._value) is str]}"  # may be a secret
        return f"<{self._name()}, {state}>"


class Group(Generic[T]):
    """The context manager of :meth:`CondVar.group`."""

    __slots__ = ("_condvar",)

    def __init__(self, condvar: CondVar[T]) -> None:
        self._condvar = condvar

    def __enter__(self) -> CondVar[T]:
        self._condvar.begin()
        return self._condvar

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False]:
        self._condvar.end()
        return False


def _check_callable(callback: object) -> None:
    if not callable(callback):
        raise TypeError(f"expected a callable, got {callback!r}")


def _check_timeout(timeout: float) -> float:
    """Return for how long to wait: below zero there is no time left, infinity is for ever."""
    if timeout == inf:
        return 1e9
    return min(max(check_seconds(timeout, "timeout"), 0.0), 1e9)
