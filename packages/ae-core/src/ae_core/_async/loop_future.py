"""A future for other threads: a loop completes it, and until then any of them may cancel it."""

from __future__ import annotations

__all__ = ("LoopFuture", "follow")

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, TypeVar

from .awaiting import await_for

if TYPE_CHECKING:
    from .._loop.state import LoopState
    from .condvar import CondVar

T = TypeVar("T")
_LOOP: Final = "loop"  # not the future itself: it must not refer to itself, see `_Answer`

# Theory of operation
# -------------------
# A thread may cancel the future at the moment at which the loop makes its call or completes it.
# The first one wins: `setdefault` of a dict is one step, which no other thread and no signal
# handler divides. The state RUNNING of `Future` would not do: there is no way back from it, and
# what a call returns may take its time, and be cancelled meanwhile.


class LoopFuture(Future[T]):
    """A future whose outcome is set in a loop; ``cancel()`` is refused once the loop has it."""

    def __init__(self) -> None:
        super().__init__()
        self._claims: dict[None, object] = {}  # who came first

    def claim(self) -> bool:
        """In the loop: return whether it is not cancelled; from now on it cannot be."""
        return self._claims.setdefault(None, _LOOP) is _LOOP

    def release(self) -> None:
        """In the loop: let it be cancelled again."""
        self._claims.clear()

    def cancel(self) -> bool:
        claim = object()
        first = self._claims.setdefault(None, claim)
        if first is _LOOP:
            return False
        cancelled = super().cancel()
        if first is claim:
            self.set_running_or_notify_cancel()  # tells concurrent.futures.wait()
        return cancelled


def follow(future: LoopFuture[Any], condvar: CondVar[Any], core: LoopState) -> None:
    """Give *future* the outcome of *condvar*; cancelling it gives that up."""
    leaving: list[Any] = []  # emptied at the end: it refers to the future

    def send(value: Any) -> None:
        if future.claim():
            future.set_result(value)

    def throw(error: BaseException) -> None:
        if future.claim():
            future.set_exception(error)

    def ended(_: object) -> None:
        leave = leaving.pop() if leaving else None
        if leave is None or not future.cancelled():
            return
        try:
            core.call_threadsafe(leave)
        except RuntimeError:
            return  # the loop has ended, and the operation with it

    leaving.append(await_for(condvar, send, throw, future.cancel))
    Future.add_done_callback(future, ended)
