"""End watchers: called once when the loop that serves the thread ends."""

from __future__ import annotations

__all__ = ("EndRecord",)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context
    from typing import Final

    from .._loop.state import LoopState


class EndRecord:
    """The interest of one watcher in the end of its loop."""

    __slots__ = ("active", "callback", "context", "core")

    kind: Final = "end"
    #: A loop that is waited for does not go on for this.
    passive: Final = True

    def __init__(
        self,
        core: LoopState,
        callback: Callable[[], object],
        context: Context | None,
        at_quit: bool,
    ) -> None:
        self.core = core
        self.callback = callback
        self.context = context
        self.active = True
        core.wait_for_end(self, at_quit)

    def fire(self) -> None:
        """Make the call; the watcher is inactive by then."""
        self.cancel()
        self.core.runner.call(self.callback, self.context, self)

    def cancel(self) -> None:
        if self.active:
            self.active = False
            self.core.forget_end(self)

    def describe(self) -> str:
        return ""
