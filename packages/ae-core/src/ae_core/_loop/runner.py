"""Running a callback in its context variables, and dealing with what it raises.

No loop and no clock here. Where an exception goes is decided here for all kinds of callbacks:
to the exception hook, or out of the ``recv()`` that blocks, or out of the code that runs the loop.
"""

from __future__ import annotations

__all__ = ("CallbackRunner", "Owner")

TYPE_CHECKING = False  # typing itself costs more to import than all of ae_core
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context
    from typing import Any, Protocol

    class Owner(Protocol):
        """What a runner asks of the loop state that it belongs to."""

        closed: bool

        def resume(self) -> None:
            """Have the loop call us for all that is still to be done."""

        def repeat(self, callback: Callable[[], object]) -> None:
            """Call *callback* in the next turn."""

        def wake(self) -> None:
            """Have the wait of this thread ask whether it is over."""

else:  # the C module itself: its wrapper costs 2 ms
    from _contextvars import Context

    class Owner: ...


# Theory of operation
# -------------------
# Every callback runs in the context variables of the place that registered it. Nearly always
# these are empty, and then the callback runs in `empty_context`, a Context that is used again as
# long as it stays empty (38 ns, against 28 for a copy plus its memory). A Context cannot be
# entered twice, and a callback may run a loop, so it is taken out while it is in use.
#
# KeyboardInterrupt and SystemExit leave recv() exactly once: if they come out of a callback while
# recv() blocks, they are kept in `interrupt`, the others are called, and recv() raises them. If
# nothing blocks, they leave through the code that runs the loop; the others are called in a later
# turn; or before, if they belong to the same event, which may not be reported again.


class CallbackRunner:
    """Runs the callbacks of one loop state."""

    __slots__ = ("blocked", "empty_context", "interrupt", "owner", "report")

    def __init__(self, owner: Owner, report: Callable[[BaseException, Any, Any], object]) -> None:
        """*report* gives an error, the owner and the source to the exception hook."""
        self.owner = owner
        self.report = report
        self.empty_context: Context | None = Context()
        self.blocked: set[object] = set()  # the recv() of this thread that wait
        self.interrupt: BaseException | None = None  # what recv() has to raise

    def call(self, callback: Callable[[], object], context: Context | None, record: Any) -> None:
        """Run *callback* of *record*, None for no watcher; errors go to :meth:`failed`."""
        try:
            if context is None:
                empty = self.empty_context
                if empty is None:
                    empty = Context()
                self.empty_context = None
                empty.run(callback)
                if not empty:
                    self.empty_context = empty
            else:
                context.copy().run(callback)
        except BaseException as error:
            self.failed(error, (record, callback))

    def failed(self, error: BaseException, source: tuple[Any, Any] | None) -> None:
        """Deal with what a callback raised: the hook, or out of ``recv()``.

        *source* is the record, a timer's number, with the callback; None if there is none.
        """
        if source is not None:
            if getattr(source[1], "repeatable", False):
                self.owner.repeat(source[1])
                self.escaped(error)
                return
            if source[0] is None:
                source = None
        if not isinstance(error, (KeyboardInterrupt, SystemExit)):
            try:
                self.report(error, self.owner, source)
                return
            except (KeyboardInterrupt, SystemExit) as leaves:
                error = leaves  # it came out of the hook
        if not self.blocked:
            raise error
        self.keep(error)
        self.owner.wake()

    def keep(self, interrupt: BaseException) -> None:
        """Have ``recv()`` raise *interrupt*, if it has none to raise."""
        if self.interrupt is None:
            self.interrupt = interrupt

    def escaped(self, error: BaseException) -> None:
        """Deal with what left a function of ours that the loop called; go on with the rest.

        A signal handler has raised it there, or it is an interrupt that leaves by the loop.
        """
        if self.owner.closed:
            raise error
        self.owner.resume()
        if self.blocked:
            self.keep(error)
            self.owner.wake()
        else:
            self.failed(error, None)

    def has_called(self, error: BaseException) -> bool:
        """Return whether *error* has come by :meth:`failed`, so that a call has been made."""
        traceback = error.__traceback__
        while traceback is not None:
            if traceback.tb_frame.f_code is CallbackRunner.failed.__code__:
                return True
            traceback = traceback.tb_next
        return False

    def take_interrupt(self) -> BaseException | None:
        """Return, and forget, what ``recv()`` has to raise."""
        interrupt, self.interrupt = self.interrupt, None
        return interrupt
