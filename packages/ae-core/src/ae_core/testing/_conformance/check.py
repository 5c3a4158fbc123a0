"""``check_backend``: does an event loop do what ``ae_core`` promises?

Every demand is run on the backend, blocking and as coroutines. Needs no test framework, so that
the author of a backend needs nothing but ``ae_core``.
"""

from __future__ import annotations

__all__ = ("ConformanceError", "Report", "Result", "check_backend")

import signal
import threading
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from ..._detection.table import load
from ..._loop.backend import Backend
from .._binding import binding

# imported for their entries in CASES
from . import cases_bridges as cases_bridges
from . import cases_cancel as cases_cancel
from . import cases_condvar as cases_condvar
from . import cases_groups as cases_groups
from . import cases_io as cases_io
from . import cases_lifetime as cases_lifetime
from . import cases_limits as cases_limits
from . import cases_nested as cases_nested
from . import cases_operations as cases_operations
from . import cases_process as cases_process
from . import cases_refusals as cases_refusals
from . import cases_timer as cases_timer
from . import cases_waiting as cases_waiting
from .scene import BLOCKING, CASES, COROUTINE, Case, CaseFailed, CaseSkipped, run_case

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_WAYS: Final = (BLOCKING, COROUTINE)


class Result:
    """What one demand came to in one way."""

    __slots__ = ("demand", "outcome", "text", "way")

    def __init__(self, demand: str, way: str, outcome: str, text: str) -> None:
        #: The demand in words.
        self.demand = demand
        #: ``"blocking"`` or ``"coroutine"``.
        self.way = way
        #: ``"ok"``, ``"failed"`` or ``"skipped"``.
        self.outcome = outcome
        #: Why it failed or was skipped.
        self.text = text

    def __repr__(self) -> str:
        reason = f"\n    {self.text.strip()}".replace("\n", "\n    ") if self.text else ""
        return f"{self.outcome:8}{self.demand} ({self.way}){reason}"


class Report:
    """What :func:`check_backend` found. ``str()`` lists what failed and counts the rest."""

    def __init__(self, name: str, results: list[Result]) -> None:
        #: The backend's name.
        self.name = name
        #: One for each demand and way.
        self.results = results

    @property
    def failed(self) -> list[Result]:
        """The demands that are not met."""
        return [result for result in self.results if result.outcome == "failed"]

    @property
    def skipped(self) -> list[Result]:
        """The demands that say nothing about this backend, system or thread."""
        return [result for result in self.results if result.outcome == "skipped"]

    def __str__(self) -> str:
        failed, skipped = self.failed, self.skipped
        count = len(self.results) - len(failed) - len(skipped)
        lines = [repr(result) for result in failed]
        lines.append(
            f"backend {self.name!r}: {count} ok, {len(failed)} failed, {len(skipped)} skipped"
        )
        return "\n".join(lines)


class ConformanceError(AssertionError):
    """A backend does not meet every demand; its text is the report."""

    def __init__(self, report: Report) -> None:
        super().__init__(str(report))
        #: The whole report.
        self.report = report


class _Hang(KeyboardInterrupt):
    """Raised by the alarm: a ``KeyboardInterrupt``, because that gets out of callbacks."""


def check_backend(
    backend: str | type[Backend],
    /,
    *,
    patience: float = 10.0,
    only: str | None = None,
    **options: Any,
) -> Report:
    """Run every demand on a backend.

    Args:
        backend: Its name, or its class.
        patience: Seconds after which a single wait counts as failed. On the main thread of a
            POSIX system an alarm also ends a demand that hangs.
        only: Run only the demands that contain this text.
        options: For the backend's constructor, each time one is made.

    Returns:
        The report, if all is well.

    Raises:
        ConformanceError: If a demand is not met. Its text is readable, its ``report`` complete.
        TypeError, ValueError, BackendUnavailable: If there is no such backend.

    The calling thread is bound anew for each demand, and afterwards to what it was bound to
    before. Signals are looked at only in the main thread.

    Example:
        >>> print(check_backend("loop", only="timer: it runs once"))
        backend 'loop': 2 ok, 0 failed, 0 skipped
    """
    if isinstance(backend, str):
        cls = load(backend)
    elif isinstance(backend, type) and issubclass(backend, Backend):
        cls = backend
    else:
        raise TypeError(f"expected the name or the class of a backend, got {backend!r}")
    results = []
    for entry in CASES:
        if only is None or only in repr(entry):
            results += [_check(entry, way, cls, options, patience) for way in _WAYS]
    if not results:
        raise ValueError(f"no demand contains {only!r}")
    report = Report(cls.name, results)
    if report.failed:
        raise ConformanceError(report)
    return report


def _check(
    entry: Case, way: str, cls: type[Backend], options: dict[str, Any], patience: float
) -> Result:
    text = ""
    try:
        if way == BLOCKING and cls.own_run:
            raise CaseSkipped(f"{cls.name} cannot be blocked")
        with _alarm(patience * 3), binding(cls, **options):
            run_case(entry, way, patience)
        outcome = "ok"
    except CaseSkipped as reason:
        outcome, text = "skipped", str(reason)
    except CaseFailed as failure:
        outcome, text = "failed", str(failure)
    except _Hang as hang:
        outcome, text = "failed", f"hangs here:\n{hang}"
    except (Exception, KeyboardInterrupt) as error:
        if type(error) is KeyboardInterrupt and entry.topic != "signal":
            raise
        outcome, text = "failed", _where(error)
    return Result(repr(entry), way, outcome, text)


def _where(error: BaseException) -> str:
    """Return what an unexpected error says, and the part of its traceback that is not ours."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.endswith(("check.py", "scene.py", "contextlib.py"))
    ]
    return "".join(traceback.format_exception_only(error)) + "".join(traceback.format_list(frames))


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise _Hang in the block after *seconds*, where that is possible."""
    if (
        not hasattr(signal, "setitimer")
        or threading.current_thread() is not threading.main_thread()
    ):
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise _Hang("".join(traceback.format_stack(frame)))

    before = signal.signal(signal.SIGALRM, ring)
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left, interval)
        signal.signal(signal.SIGALRM, before)
