"""Qt 6, by PyQt6 or PySide6: the program's ``app.exec()`` hosts us.

An exception that escapes a slot aborts PyQt6, so nothing of ours lets one out.
"""

from __future__ import annotations

__all__ = ("QtBackend",)

import math
import sys
import time
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from weakref import ref

from .._base.descriptors import check_waitable
from .._base.errors import BackendUnavailable
from .._base.signal_errors import hearing_printed
from .._loop.backend import Backend

if TYPE_CHECKING:
    from collections.abc import Callable

BINDINGS = ("PyQt6", "PySide6")


def loaded_binding() -> str | None:
    """Return the name of the Qt binding that the program has imported."""
    for name in BINDINGS:
        if f"{name}.QtCore" in sys.modules:
            return name
    return None


def _binding() -> Any:
    name = loaded_binding()
    if name is not None:
        return import_module(f"{name}.QtCore")
    for name in BINDINGS:
        try:
            return import_module(f"{name}.QtCore")
        except ImportError:
            continue
    raise BackendUnavailable(_MISSING)


_MISSING = "backend 'qt' needs PyQt6 or PySide6, and neither is installed"

# Which of them is decided at the first watcher: the program may import one until then.
if loaded_binding() is None and not any(map(find_spec, BINDINGS)):
    raise BackendUnavailable(_MISSING)


# The application that we have made, for as long as the process lives. The program's own ends when
# the program lets it go, so nothing here refers to that.
_made: list[Any] = []


class QtBackend(Backend):
    """The Qt application of this process.

    Makes a ``QCoreApplication`` if the program has none.
    """

    name = "qt"
    nests = True

    def __init__(self, on_deadline: Callable[[], None]) -> None:
        super().__init__(on_deadline)
        core = self._qt = _binding()
        app = core.QCoreApplication.instance()
        if app is None:
            app = core.QCoreApplication(["ae_core"])
            _made[:] = [app]
        # making a notifier is slow, so one that is stopped is kept for the next on its number
        self._notifiers: dict[tuple[int, bool], Any] = {}
        self._calls: dict[tuple[int, bool], Callable[[], None]] = {}
        self._timer = core.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setTimerType(core.Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._on_timer)
        self._loops: list[Any] = []
        kind = core.QEvent.Type(core.QEvent.registerEventType())
        event_class = core.QEvent

        backend = ref(self)  # Qt would keep us alive, and the core

        class Receiver(core.QObject):  # type: ignore[misc,name-defined]
            """Runs what was posted to it, in the thread that made it."""

            def __init__(self, app: Any) -> None:
                super().__init__(app)  # Qt keeps it, and deletes it with the application
                self.queue: list[Callable[[], None]] = []

            def event(self, event: Any) -> bool:
                if event.type() != kind:
                    return bool(super().event(event))
                if len(self.queue) > 1:
                    # Qt 6.8 delivers in a loop inside the first call what was posted before it
                    # only if something is posted now
                    core.QCoreApplication.postEvent(self, event_class(kind))
                for _ in range(len(self.queue)):
                    ours = backend()
                    if ours is not None and self.queue:  # a loop inside a call may have made it
                        ours._guard(self.queue.pop(0))
                return True

            def post(self, callback: Callable[[], None]) -> None:
                self.queue.append(callback)
                core.QCoreApplication.postEvent(self, event_class(kind))

        self._receiver = Receiver(app)

        def destroyed(*_: object) -> None:
            ours = backend()
            if ours is not None and ours.on_ended is not None and not sys.is_finalizing():
                ours.on_ended(False)

        self._receiver.destroyed.connect(destroyed)

        def quitting() -> None:
            ours = backend()
            if ours is not None and ours.on_quit is not None:
                ours._guard(ours.on_quit)

        self._quitting = quitting
        app.aboutToQuit.connect(quitting)

    def _guard(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except (KeyboardInterrupt, SystemExit) as error:
            # the program runs the loop: leave it as its own exit() would
            code = error.code if isinstance(error, SystemExit) else 130
            self._qt.QCoreApplication.exit(code if isinstance(code, int) else int(bool(code)))

    # ------------------------------------------------------------------ waiting

    def io_start(self, fd: int, write: bool, callback: Callable[[], None]) -> tuple[int, bool]:
        check_waitable(fd)
        token = (fd, write)
        notifier = self._notifiers.get(token)
        if notifier is None:
            kinds = self._qt.QSocketNotifier.Type
            notifier = self._qt.QSocketNotifier(fd, kinds.Write if write else kinds.Read)
            notifier.activated.connect(lambda *_: self._activated(token))
            self._notifiers[token] = notifier
        self._calls[token] = callback
        notifier.setEnabled(True)
        return token

    def _activated(self, token: tuple[int, bool]) -> None:
        callback = self._calls.get(token)
        if callback is not None:
            self._guard(callback)

    def io_stop(self, token: tuple[int, bool]) -> None:
        if self._calls.pop(token, None) is not None and self.usable():
            self._notifiers[token].setEnabled(False)

    def arm(self, at: float | None) -> None:
        if at is None:
            self._timer.stop()
        else:
            delay = math.ceil((at - time.monotonic()) * 1000)
            self._timer.start(min(max(delay, 0), 0x7FFFFFFF))

    def _on_timer(self) -> None:
        self._guard(self.on_deadline)

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._receiver.post(callback)

    def call_threadsafe(self, callback: Callable[[], None]) -> None:
        if not self.usable():
            raise RuntimeError("the Qt application has ended")
        self._receiver.post(callback)  # postEvent is made for threads

    # ------------------------------------------------------------------ running

    def run_until(self, done: Callable[[], bool]) -> None:
        turned = False
        while not done():
            if not self.usable():
                return  # deleted by a callback
            loop = self._qt.QEventLoop()
            self._loops.append(loop)
            try:
                with hearing_printed(self.escaped):
                    code = loop.exec()
            finally:
                self._loops.remove(loop)
            # After exit() of the application every exec() ends immediately, until the program's own
            # begins. If it was told to exit while we waited, that ends the wait; if before, then
            # that does no harm.
            if code == -1:
                if turned:
                    return
                while not done() and self.usable():
                    self.poll(True)
                return
            turned = True

    def wake(self) -> None:
        for loop in self._loops:
            loop.quit()

    def poll(self, block: bool) -> None:
        flags = self._qt.QEventLoop.ProcessEventsFlag
        self._qt.QCoreApplication.processEvents(
            flags.WaitForMoreEvents if block else flags.AllEvents
        )

    def running(self) -> bool:
        # another exec() is on the stack; the core looks at its own waits first
        return int(self._qt.QThread.currentThread().loopLevel()) > 0

    def usable(self) -> bool:
        # asked of what Qt deletes with the application: another may be there by now
        try:
            self._receiver.parent()
        except RuntimeError:
            return False
        return True

    def close(self) -> None:
        if self.usable():
            self._timer.stop()
        for token in list(self._calls):
            self.io_stop(token)
        self._notifiers.clear()
        self._receiver.queue.clear()
        if self.usable():
            # Qt deletes it, in a turn of its own. Deleted by the garbage collector, or while an
            # event is delivered, it would still be in use, and Qt would crash.
            self._receiver.destroyed.disconnect()
            self._receiver.parent().aboutToQuit.disconnect(self._quitting)
            self._receiver.deleteLater()

    def after_fork(self) -> None:
        return None  # Qt does not survive a fork; the child makes a loop of its own

    def statistics(self) -> dict[str, object]:
        return {"binding": self._qt.__name__.partition(".")[0], "notifiers": len(self._notifiers)}
