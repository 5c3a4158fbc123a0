"""The checks of strict mode, as a layer between the watcher functions and their watchers.

See ``strict`` for what they find. Imported only where strict mode is on; then all that is needed
is imported immediately, so that it also works when no descriptor is left.
"""

from __future__ import annotations

__all__ = ("disable", "enable", "is_enabled", "outermost")

import inspect
import os
import stat
import sys
import warnings
from opcode import opmap
from typing import TYPE_CHECKING, Any, Final
from weakref import ref

from .. import _api, _layers
from .._async.sites import note_sites
from .._base import environ
from .._base.describe import caller
from .._base.descriptors import check_open
from .._base.errors import StrictWarning
from .._detection.current import current_loop
from .._loop.runner import CallbackRunner
from . import _watchdog

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

    from .._loop.watchers import Watcher

_POP_TOP: Final = opmap["POP_TOP"]
_CACHE: Final = opmap.get("CACHE", 0)
_DEFAULT_SLOW: Final = 0.5


class _Layer:
    """Strict mode as ``_layers`` sees it."""

    def wrap(
        self,
        kind: str,
        args: dict[str, Any],
        callback: Callable[..., object],
        create: Callable[[Callable[..., object]], Watcher],
    ) -> Watcher:
        _check_callback(callback, 2 if kind == "child" else 0)
        frame = caller()
        site = f"{frame.f_globals.get('__name__')}:{frame.f_lineno}"
        if kind == "io":
            fd = _api._fileno(args["fd"])
            identity = _check_descriptor(args["fd"], fd)
            if identity is not None:
                _watchdog.check_fd(fd, identity, site)
            watcher = create(_watchdog.guarded(callback, site))
            if identity is not None:
                _watchdog.register_fd(current_loop(), fd, identity, site, watcher)
        elif kind == "timer":
            watcher = create(_watchdog.guarded(callback, site))
        else:
            watcher = create(callback)  # called by CallbackRunner.call, which is watched
        _expect_to_be_kept(watcher, kind, frame)
        return watcher


_layer = _Layer()
_enabled = False


def enable() -> None:
    """See ``strict.enable``."""
    global _enabled
    _watchdog.start(_slow_limit())
    if not _enabled:
        _enabled = True
        _prepare_process()
        _watchdog._plain_call = CallbackRunner.call
        CallbackRunner.call = _watchdog.timed_call  # type: ignore[assignment, method-assign]
        _layers.install_layer(_layer)
        note_sites("strict", True)


def disable() -> None:
    """See ``strict.disable``."""
    global _enabled
    if _enabled:
        _enabled = False
        _layers.remove_layer(_layer)
        CallbackRunner.call = _watchdog._plain_call  # type: ignore[method-assign]
        _watchdog.stop()
        note_sites("strict", False)


def is_enabled() -> bool:
    """See ``strict.enabled``."""
    return _enabled


def outermost() -> None:
    """Come last again after another layer was installed: we must see what the user gets."""
    if _enabled:
        _layers.remove_layer(_layer)
        _layers.install_layer(_layer)


def _slow_limit() -> float:
    text = environ.get("AE_STRICT_SLOW", "").strip()
    if not text:
        return _DEFAULT_SLOW
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds < 1e9:
        from ..logs import _complain

        _complain(f"AE_STRICT_SLOW ({text}): not understood: {text!r} at position 1")
        return _DEFAULT_SLOW
    return seconds


_prepared = False


def _prepare_process() -> None:
    global _prepared
    if not _prepared and hasattr(os, "register_at_fork"):
        _prepared = True
        os.register_at_fork(after_in_child=_watchdog.forget)


# Arguments


def _check_callback(callback: object, arguments: int) -> None:
    if not callable(callback):
        raise TypeError(f"expected a callable, got {callback!r}")
    try:
        # What is really called, not what functools.wraps() says about it
        signature = inspect.signature(callback, follow_wrapped=False)
    except (TypeError, ValueError):
        return  # written in C, and says nothing
    try:
        signature.bind(*range(arguments))
    except TypeError:
        wanted = "(pid, status)" if arguments else "no arguments"
        raise TypeError(
            f"expected a callable that takes {wanted}, got {callback!r} with {signature}"
        ) from None


def _check_descriptor(fd: object, number: int) -> tuple[int, int] | None:
    """Return what file *fd*, descriptor *number*, is; None where that cannot be told."""
    if not 0 <= number <= _api.HIGHEST_FD:
        raise ValueError(f"expected an open descriptor, got {fd!r}")
    if sys.platform == "win32":
        try:
            check_open(number)
        except OSError:
            raise ValueError(f"expected an open socket, got {fd!r}") from None
        return None  # nothing tells two sockets of one number apart
    try:
        status = os.fstat(number)
    except OSError as error:
        raise ValueError(f"expected an open descriptor, got {fd!r}: {error.strerror}") from None
    if stat.S_ISREG(status.st_mode):
        raise ValueError(
            f"expected a socket, pipe or terminal, got {fd!r}: a regular file is always ready"
        )
    return status.st_dev, status.st_ino


# Watchers thrown away
#
# `ae.timer(1, f)` as a statement makes a watcher and drops it immediately. In the frame that called
# us, the instruction behind the call is then POP_TOP, and the watcher dies while that is being
# executed. (Line numbers say nothing: `w = ae.timer(1, f)` in a loop drops its predecessor in the
# very same line, and that is what was meant.)


_pending: set[ref[Watcher]] = set()


def _expect_to_be_kept(watcher: Watcher, kind: str, frame: FrameType) -> None:
    code = frame.f_code
    after = _after_call(code, frame.f_lasti)
    if after is None:
        return

    discard, frame_here = _pending.discard, sys._getframe  # globals are gone at the very end

    def dropped(_: object) -> None:
        discard(reference)
        here: FrameType | None = frame_here()  # there may be no other one at that time
        while here is not None and here.f_code is not code:
            here = here.f_back
        if here is not None and here.f_lasti == after:
            warnings.warn_explicit(
                f"the {kind} watcher is dropped, and so cancelled, by the expression that made "
                "it: keep it in a variable for as long as it shall live",
                StrictWarning,
                code.co_filename,
                here.f_lineno,
                here.f_globals.get("__name__", "<unknown>"),
                here.f_globals.setdefault("__warningregistry__", {}),
            )

    reference = ref(watcher, dropped)
    _pending.add(reference)


def _after_call(code: CodeType, call: int) -> int | None:
    """Return where the POP_TOP behind the instruction at *call* is, None if there is none."""
    bytecode = code.co_code
    at = call + 2
    while at < len(bytecode) and bytecode[at] == _CACHE:
        at += 2
    return at if at < len(bytecode) and bytecode[at] == _POP_TOP else None
