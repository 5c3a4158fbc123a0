"""An order recorder: what happened, in which order, as a list of strings.

A failed comparison of such a list shows what happened, where counters only say that something
is wrong.
"""

from __future__ import annotations

__all__ = ("Trace",)

from typing import TYPE_CHECKING, Any

from .._async.condvar import CondVar

if TYPE_CHECKING:
    from collections.abc import Callable


class Trace(list[Any]):
    """A list that can be called: ``trace("fired")`` appends.

    Equal to the list of what it was called with, in order: one argument itself, several as a
    tuple of them.

    Example:
        >>> trace = Trace()
        >>> trace("returned")
        >>> trace("child", 3)
        >>> trace
        ['returned', ('child', 3)]
    """

    __slots__ = ("_waiting",)

    _waiting: list[tuple[int, CondVar[None]]]

    def __init__(self) -> None:
        super().__init__()
        self._waiting = []

    def __call__(self, *what: Any) -> None:
        """Append *what* to the list."""
        self.append(what[0] if len(what) == 1 else what)
        for entry in self._waiting.copy():
            if len(self) >= entry[0]:
                self._waiting.remove(entry)
                entry[1].send()

    def recorder(self, *what: Any) -> Callable[[], None]:
        """Return a callback without arguments that appends *what*."""
        return lambda: self(*what)

    def reaches(self, length: int) -> CondVar[None]:
        """Return a condition variable that is ready once *length* things have happened.

        Raises:
            TypeError, ValueError: If *length* is not a whole number above zero.
        """
        if isinstance(length, bool) or not isinstance(length, int):
            raise TypeError(f"expected a number of events, got {length!r}")
        if length < 1:
            raise ValueError(f"expected at least one event, got {length!r}")
        condvar = CondVar[None]()
        if len(self) >= length:
            condvar.send()
        else:
            self._waiting.append((length, condvar))
        return condvar

    def run_until(self, length: int, timeout: float = 30.0) -> None:
        """Run this thread's loop until *length* things have happened.

        Raises:
            TimeoutError: After *timeout* seconds.
        """
        condvar = self.reaches(length)
        try:
            condvar.recv(timeout)
        except TimeoutError:
            raise TimeoutError(
                f"waited {timeout:g} s for {length} events, got {list(self)!r}"
            ) from None
        finally:
            self._waiting = [entry for entry in self._waiting if entry[1] is not condvar]
