"""The callbacks of a condition variable, and how they are called when it is ready.

Each is called once, in the order they were added, inside the ``send`` that makes it ready; what
one of them raises does not keep the others from being called.
"""

from __future__ import annotations

__all__ = ("DEEPEST", "Notifier", "callback_failed")

import os

from .._base import thread_identity
from .._detection.current import existing_loop
from .._loop.exception_hook import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Iterator
    from typing import Any, Final

    from .._loop.state import LoopState
else:
    from _collections import deque

# Theory of operation
# -------------------
# A callback may send a condition variable whose callback sends the next, and so on. Each send calls
# back before it returns: that is four frames or more for each link of the chain, and Python has
# room for a thousand. So from a depth of `DEEPEST` on a send leaves its callbacks to the send at
# this depth, which makes the calls in a loop.
#
# A callback may also run the loop inside itself, and a signal handler may raise between any two
# calls. So each callback is taken out of `_callbacks` just before it is called, and where there are
# several, the rest is queued in the loop (`CallQueue.owe`), whose next turn makes it.
#
# Thousands of awaiters may be cancelled one by one. A list has to be searched for each of them: so
# the first that is removed from a long list makes it a `_Many`, which is not searched, until it is
# short again.

DEEPEST: Final = 50

# The length above which a list becomes a `_Many`, and below which that is a list again.
LONG: Final = 32
SHORT: Final = 16

# By stack: how many sends are calling back, and what is left to the deepest of them.
_depths: dict[int, int] = {}
_left: dict[int, deque[Notifier]] = {}

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_depths.clear)
    os.register_at_fork(after_in_child=_left.clear)


class _Many:
    """Many callbacks, in the order they were added; removing one takes the same time anywhere."""

    __slots__ = ("_calls",)

    def __init__(self, callbacks: list[Callable[[Any], object]]) -> None:
        # by itself, or by an object of its own if it is there twice or cannot be hashed
        self._calls: dict[object, Callable[[Any], object]] = {}
        for callback in callbacks:
            self.append(callback)

    def append(self, callback: Callable[[Any], object]) -> None:
        try:
            key: object = object() if callback in self._calls else callback
        except TypeError:  # the program's own: only what we have added is removed
            key = object()
        self._calls[key] = callback

    def remove(self, waiter: Callable[[Any], object]) -> None:
        """Remove *waiter*, if it is still there."""
        self._calls.pop(waiter, None)

    def __iter__(self) -> Iterator[Callable[[Any], object]]:
        return iter(self._calls.values())

    def __len__(self) -> int:
        return len(self._calls)


class Notifier:
    """Callbacks that are called once, in the thread that the object belongs to."""

    __slots__ = ("_callbacks", "_thread")

    # both are set by the constructor of the derived class
    _callbacks: list[Callable[[Any], object]] | _Many | deque[Callable[[Any], object]] | None
    _thread: int

    def _add_waker(self, callback: Callable[[Any], object]) -> None:
        """Add a callback, while nothing is ready."""
        if self._callbacks is None:
            self._callbacks = [callback]
        else:
            self._callbacks.append(callback)

    def _forget_wake(self, waiter: Callable[[Any], object]) -> None:
        """Remove a callback, if it is still there.

        While several are being called it is called all the same, and has to do nothing then.
        """
        callbacks: Any = self._callbacks
        if not callbacks:
            return
        if callbacks.__class__ is list:
            if waiter in callbacks:
                if len(callbacks) > LONG:
                    self._callbacks = callbacks = _Many(callbacks)
                callbacks.remove(waiter)
        elif isinstance(callbacks, _Many):
            callbacks.remove(waiter)
            if len(callbacks) < SHORT:
                self._callbacks = list(callbacks)

    def _wrong_thread(self, what: str) -> None:
        raise RuntimeError(
            f"{what}() in another thread than the one that made the {type(self).__name__}: "
            f"use call_threadsafe(lambda: cv.{what}(...))"
        )

    def _run_callbacks(self) -> None:
        """Call the callbacks, or deep in a chain leave them to a send further up.

        A signal handler's exception may leave it. The caller then calls
        :meth:`_run_others_later`: it may also have come before the first line here.
        """
        stack_ident = thread_identity.stack_ident
        stack = self._thread if stack_ident is None else stack_ident()
        depth = _depths.get(stack, 0)
        _depths[stack] = depth + 1
        try:
            if depth < DEEPEST - 1:
                self._call_back()
            else:
                self._call_back_in_turn(stack)
        finally:
            if depth or stack_ident is None:
                _depths[stack] = depth
            else:
                del _depths[stack]

    def _call_back_in_turn(self, stack: int) -> None:
        """Call the callbacks, and those that other sends leave to this call meanwhile."""
        chain = _left.get(stack)
        if chain is not None:
            chain.append(self)
            return
        chain = _left[stack] = deque([self])
        interrupt: BaseException | None = None
        try:
            while chain:  # it grows meanwhile
                notifier = chain.popleft()
                try:
                    notifier._call_back()
                except BaseException as leaves:
                    interrupt = leaves  # when the others have been called
        finally:
            del _left[stack]
            core = _live_loop()
            if chain and core is not None:  # an interrupt came between
                core.calls.owed.extend([notifier._call_back for notifier in chain])
                core.calls.expect()
        if interrupt is not None:
            raise interrupt

    def _call_back(self) -> None:
        """Call each callback. An interrupt out of one leaves when the others have been called."""
        callbacks: Any = self._callbacks
        core = None
        if len(callbacks) > 1:
            if callbacks.__class__ is not deque:
                callbacks = self._callbacks = deque(callbacks)
            core = _live_loop()
            if core is not None:
                core.calls.owe(self._call_back)  # a loop inside one of them goes on with the others
        interrupt: BaseException | None = None
        while callbacks:
            callback = callbacks[0]
            del callbacks[0]  # taken out first: each is called once, whatever it does
            try:
                callback(self)
            except BaseException as error:
                try:
                    self._broken_off(callback, error)
                except BaseException as leaves:
                    interrupt = leaves  # when the others have been called
        if core is not None:
            core.calls.owe_no_more(self._call_back)
        if interrupt is not None:
            raise interrupt

    def _broken_off(self, callback: Any, error: BaseException) -> None:
        """Deal with what *callback* raised; one of ours raises nothing, and is called again."""
        core = _live_loop() if getattr(callback, "repeatable", False) else None
        if core is None:
            callback_failed(error)
        else:
            core.calls.postponed.append((lambda: callback(self), None))
            core.runner.escaped(error)

    def _run_others_later(self) -> None:
        """Have the callbacks called that a signal handler's exception left."""
        core = _live_loop() if self._callbacks else None
        if core is not None:
            core.calls.postponed.append((self._run_callbacks, None))
            core.resume()


def _live_loop() -> LoopState | None:
    """Return this thread's loop state, if its loop has not ended."""
    core = existing_loop()
    return None if core is None or core.closed else core


def callback_failed(error: BaseException) -> None:
    """Deal with what a callback of a condition variable raised."""
    core = existing_loop()
    if core is not None:
        core.runner.failed(error, None)
    elif isinstance(error, (KeyboardInterrupt, SystemExit)):
        raise error
    else:
        report(error, None, None)
