"""Watchers that run while Python waits at its prompt for a line.

::

    >>> import ae_core as ae, ae_core.prompt
    >>> ae_core.prompt.install()
    >>> clock = ae.timer(0, lambda: print("tick"), interval=1)

In IPython: ``%load_ext ae_core.prompt``, then ``%gui ae``.
"""

from __future__ import annotations

__all__ = ("install", "load_ipython_extension", "uninstall")

import ctypes
import signal
import sys
import threading
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from ._api import io
from ._async.condvar import CondVar
from ._detection.hooks import post_detect
from ._operations import report_error

if TYPE_CHECKING:
    from types import FrameType

# Theory of operation
# -------------------
# PyOS_InputHook is called, in the main thread, when the prompt begins to wait (without readline),
# or again and again while it does (with readline). It returns when there is something to read.
#
# The prompt of Python 3.13 and later calls it before each key, and has often read further keys
# already, which the terminal does not show as something to read.
#
# An exception has nowhere to go from there, so Ctrl-C cannot simply be raised: the prompt has to
# be interrupted in its own wait. So the hook returns, and the signal is sent once more, a moment
# later, from a thread. readline calls the hook between its being interrupted and its asking for
# signals, where one line of Python would take the signal away from it: for that moment the hook is
# a C function that does nothing.

_HOOK: Final = ctypes.CFUNCTYPE(ctypes.c_int)
#: How many seconds until the prompt waits itself, and until it has shown a new line.
_AGAIN: Final = 0.02
_NEW_LINE: Final = 0.05

_installed: Any = None  # what C holds must live here
_before: int | None = None
_claim: Any = None  # to have the hook again when there is a loop


def install() -> None:
    """Run this thread's loop while the interpreter waits for a line.

    The loop is the one that ae_core detects, or was told by :func:`ae_core.use`. Installing it
    again changes nothing. The hook of another library (Tk's, say) is put aside. trio has no loop
    that could run here.

    Raises:
        RuntimeError: In another thread than the main one, or where there is no such hook.
    """
    global _installed, _before, _claim
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("the prompt is the main thread's: call install() there")
    if _installed is not None:
        return
    slot = _slot()
    _before = slot.value
    _installed = _HOOK(_wait_for_line)
    _take_slot()
    # PyQt takes the hook when an application is made, be it by our own backend
    _claim = post_detect(_take_slot)


def uninstall() -> None:
    """Put the hook back that was there before :func:`install`."""
    global _installed, _claim
    if _installed is not None:
        _slot().value = _before
        _installed = _claim = None


def load_ipython_extension(shell: Any) -> None:
    """Offer ``%gui ae`` in IPython; called by ``%load_ext ae_core.prompt``."""
    hooks = import_module("IPython.terminal.pt_inputhooks")  # it is loaded: it has called us
    hooks.register("ae", _wait_for_ipython)


def _slot() -> Any:
    try:
        return ctypes.c_void_p.in_dll(ctypes.pythonapi, "PyOS_InputHook")
    except ValueError:
        raise RuntimeError("this interpreter has no PyOS_InputHook") from None


def _take_slot() -> None:
    _slot().value = ctypes.cast(_installed, ctypes.c_void_p).value


def _wait_for_line() -> int:
    """Run the loop until there is something to read."""
    if "_pyrepl.reader" in sys.modules and _has_read_ahead():  # pragma: no cover (Python 3.13)
        return 0
    try:
        _run_until_readable(sys.__stdin__.fileno() if sys.__stdin__ is not None else 0)
    except KeyboardInterrupt:
        slot = _slot()
        if "readline" in sys.modules:
            slot.value = ctypes.cast(ctypes.pythonapi.Py_IsInitialized, ctypes.c_void_p).value
        again = threading.Thread(target=_interrupt, args=(threading.get_ident(), slot), daemon=True)
        again.start()
    except BaseException as error:
        uninstall()  # or it would fail again immediately, for ever
        report_error(error)
    return 0


def _has_read_ahead() -> bool:  # pragma: no cover (Python 3.13)
    """Return whether Python's own line editor, if that calls, has keys that it has not taken."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__") == "_pyrepl.reader":
            return bool(frame.f_locals["self"].console.wait(0))
        frame = frame.f_back
    return False


def _interrupt(thread: int, slot: Any) -> None:
    """Interrupt the prompt, now that it waits itself."""
    time.sleep(_AGAIN)
    signal.pthread_kill(thread, signal.SIGINT)
    time.sleep(_NEW_LINE)
    if _installed is not None:
        _take_slot()


def _run_until_readable(fd: int) -> None:
    readable: CondVar[None] = CondVar()
    watcher = io(fd, "r", readable.send)
    try:
        readable.recv()
    finally:
        watcher.cancel()


def _wait_for_ipython(context: Any) -> None:
    """Run the loop until IPython's prompt has something to do.

    It is called from within IPython's own asyncio loop, which stands still meanwhile and is hidden:
    it is not the loop of the program's watchers.
    """
    import asyncio

    running = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        _run_until_readable(context.fileno())
    finally:
        asyncio._set_running_loop(running)
