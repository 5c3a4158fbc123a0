"""Calls that are still to be made: postponed ones, those from threads, the rest of an event's.

The loop makes them, through :meth:`CallQueue.run_postponed`, or a turn inside a callback.
"""

from __future__ import annotations

__all__ = ("CallQueue", "Loop")

from .._base.signal_errors import repeatable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable
    from contextvars import Context, copy_context
    from typing import Any, Final, Protocol, TypeAlias

    from .backend import Backend
    from .runner import CallbackRunner

    Call: TypeAlias = "tuple[Callable[[], object], Context | None]"

    class Loop(Protocol):
        """What the queue asks of the loop state that it belongs to."""

        backend: Backend
        closed: bool
        raw_threadsafe: Any  # the backend's own call_threadsafe
        nests: bool
        runner: CallbackRunner

        def timer(self, after: float, callback: Callable[[], object]) -> int: ...
        def cancel_timer(self, number: int) -> None: ...
        def has_timer(self, number: int) -> bool: ...

else:  # the C modules themselves: their wrappers cost 2 ms
    from _collections import deque
    from _contextvars import copy_context

    class Loop: ...


# Theory of operation
# -------------------
# One event of the loop may owe many calls. A callback may run a loop inside itself (a modal
# dialog, nest_asyncio), and a signal handler may raise between any two calls of ours. So what is
# still to be called is never in a local variable: it is in `owed`, `threadsafe` and `postponed`,
# each is taken out just before it is called, and the next turn, of any kind, goes on. Where others
# may run the loop inside a callback (`nests`), it is asked before each call to make the rest.

# How many postponed callbacks one turn runs. Callbacks that are postponed meanwhile belong to
# the same turn (upstream's rule), but an endless chain of them must not starve I/O.
POSTPONED_PER_TURN: Final = 10_000


class CallQueue:
    """The calls that are still to be made for one loop state."""

    __slots__ = ("expected", "loop", "owed", "postponed", "rest", "threadsafe")

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.owed: deque[Callable[[], object]] = deque()  # the rest of an event's calls
        self.postponed: deque[Call] = deque()
        self.threadsafe: deque[Call] = deque()  # from threads
        self.expected = False  # the loop was asked to call run_postponed()
        self.rest = 0  # the timer that does what was too much for one turn; 0: none

    def clear(self) -> None:
        """Forget all of them."""
        self.owed.clear()
        self.postponed.clear()
        self.threadsafe.clear()

    def resume(self) -> None:
        """Have the loop call us if anything is left, whatever it knows of it."""
        if self.owed or self.postponed or self.threadsafe:
            self.loop.backend.call_soon(self.run_postponed)
            self.expected = True

    def expect(self) -> None:
        """Have the loop call :meth:`run_postponed` once."""
        if not self.expected:
            self.loop.backend.call_soon(self.run_postponed)
            self.expected = True

    # ------------------------------------------------------------------ the rest of an event

    def owe(self, call: Callable[[], object]) -> None:
        """Have *call* made by what runs first: a loop inside a callback, or the next turn."""
        self.owed.append(call)
        if self.loop.nests:
            self.expect()

    def owe_no_more(self, call: Callable[[], object]) -> None:
        """Take :meth:`owe` back, if it was not made."""
        if call in self.owed:
            self.owed.remove(call)

    def serve(self) -> None:
        """Make the calls that are owed, also those of an outer turn.

        An interrupt out of one leaves when the others have been made.
        """
        owed = self.owed
        interrupt: BaseException | None = None
        try:
            while owed:
                if self.loop.nests and len(owed) > 1:
                    self.expect()  # a loop inside the call goes on with the others
                fire = owed[0]
                del owed[0]
                try:
                    fire()
                except (KeyboardInterrupt, SystemExit) as error:
                    interrupt = interrupt or error
        finally:
            if owed:
                self.expect()
        if interrupt is not None:
            raise interrupt

    # ------------------------------------------------------------------ postponed calls

    def postpone(self, callback: Callable[[], object]) -> None:
        """Call *callback* in the next turn, in the caller's context variables."""
        context = copy_context()
        self.postponed.append((callback, context if context else None))
        if not self.expected:  # expect(), written out
            self.loop.backend.call_soon(self.run_postponed)
            self.expected = True

    @repeatable
    def run_postponed(self) -> None:
        """Called by the backend: make the calls that are owed, and those that were postponed."""
        loop = self.loop
        nests = loop.nests
        if nests:
            self.expected = False  # so that the loop is asked again
        postponed = self.postponed
        item: Any = None
        try:
            if self.owed:
                self.serve()
            if self.threadsafe:
                self.run_threadsafe()
            for _ in range(POSTPONED_PER_TURN):
                if not postponed:
                    break
                if nests and len(postponed) > 1:
                    self.expect()  # a loop inside the call goes on with the others
                item = postponed[0]
                postponed.popleft()
                loop.runner.call(item[0], item[1], None)
                item = None
        except BaseException as error:
            self._put_back(postponed, item, error)
            loop.runner.escaped(error)
        finally:
            if not nests:
                self.expected = False
            # for what came from a thread the loop calls anyway
            if (postponed or self.owed) and not self.expected:
                # a timer, not call_soon: on every loop other events are handled in between
                if not loop.has_timer(self.rest):
                    self.rest = loop.timer(0.0, self.run_postponed)
                self.expected = True
            elif self.rest and not postponed and not self.owed:
                loop.cancel_timer(self.rest)
                self.rest = 0

    # ------------------------------------------------------------------ calls from threads

    def call_threadsafe(self, callback: Callable[[], object]) -> None:
        """Call *callback* in the loop's thread; from any thread.

        Raises:
            TypeError: If *callback* cannot be called.
            RuntimeError: If the loop has ended.
        """
        if not callable(callback):
            raise TypeError(f"expected a callable, got {callback!r}")
        loop = self.loop
        if loop.closed:
            raise RuntimeError(f"the {loop.backend.name} loop has ended")
        context = copy_context()
        item = (callback, context if context else None)
        self.threadsafe.append(item)
        try:
            loop.raw_threadsafe(self.run_threadsafe)
        except BaseException:
            if item in self.threadsafe:
                self.threadsafe.remove(item)
            raise

    def run_threadsafe(self) -> None:
        """Called by the backend: make the calls that came from threads so far."""
        threadsafe = self.threadsafe
        loop = self.loop
        item: Any = None
        try:
            for _ in range(len(threadsafe)):
                if not threadsafe:
                    break  # a loop inside a call has made the others
                if loop.nests and len(threadsafe) > 1:
                    self.expect()
                item = threadsafe[0]
                threadsafe.popleft()
                loop.runner.call(item[0], item[1], None)
                item = None
        except BaseException as error:
            self._put_back(threadsafe, item, error)
            loop.runner.escaped(error)

    def _put_back(self, queue: deque[Call], item: Call | None, error: BaseException) -> None:
        """Put *item* back if *error* came before it was called."""
        called = self.loop.runner.has_called(error)
        if item is not None and not called and (not queue or queue[0] is not item):
            queue.appendleft(item)
