"""Ctrl-C while ``recv()`` or ``run()`` blocks.

Python's own handler raises ``KeyboardInterrupt`` between any two instructions, which may be in
the middle of our bookkeeping. So while we block, the first SIGINT is only noted and ends the
wait in good order; a second one raises at once, for a callback that never returns.
"""

from __future__ import annotations

__all__ = ("catching_sigint",)

import _signal  # type: ignore[import-not-found]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from ._core import Core
    from ._signals import SignalRecord


class catching_sigint:
    """While active, the first SIGINT makes *core*'s ``recv()`` raise ``KeyboardInterrupt``.

    Does nothing off the main thread, or if the program has a SIGINT handler of its own.
    """

    __slots__ = ("_core", "_installed", "_record")

    def __init__(self, core: Core) -> None:
        self._core = core
        self._installed = False
        self._record: SignalRecord | None = None

    def __enter__(self) -> None:
        # the C module: the wrappers of `signal` make enum members, 3 us a call
        if _signal.getsignal(_signal.SIGINT) is not _signal.default_int_handler:
            return
        if self._core.backend.waits_in_c:
            # nobody would run a handler: have the wait itself ended, as for a signal watcher
            from ._signals import SignalRecord

            try:
                self._record = SignalRecord(self._core, _signal.SIGINT, self._note, None)
            except RuntimeError:
                return  # not the main thread: Ctrl-C does not come here
            return
        try:
            _signal.signal(_signal.SIGINT, self._on_sigint)
        except ValueError:
            return  # not the main thread: Ctrl-C does not come here
        self._installed = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._record is not None:
            self._record.cancel()
        if self._installed and _signal.getsignal(_signal.SIGINT) == self._on_sigint:
            _signal.signal(_signal.SIGINT, _signal.default_int_handler)

    def _note(self) -> None:
        from ._signals import watchers_of

        if watchers_of(_signal.SIGINT) > 1:
            return  # the program watches for it meanwhile: then it is an event like any other
        if self._core.interrupt is None:
            self._core.interrupt = KeyboardInterrupt()
        self._core.backend.wake()

    def _on_sigint(self, number: int, frame: FrameType | None) -> None:
        core = self._core
        if core.interrupt is not None:
            raise KeyboardInterrupt
        core.interrupt = KeyboardInterrupt()
        core.backend.call_threadsafe(core.backend.wake)
