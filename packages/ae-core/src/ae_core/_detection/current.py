"""Which loop serves this thread: chosen at the first watcher, never at import.

explicit (``use()``, ``AE_BACKEND``) > a loop that runs in this thread > one that is loaded and
live > the built-in loop. A loop's library is never imported to ask for it.
"""

from __future__ import annotations

__all__ = (
    "asyncio_runs",
    "backend",
    "bind",
    "current_loop",
    "detect",
    "existing_loop",
    "main_loop",
    "trio_runs",
    "use",
    "waiting",
)

import _signal  # type: ignore[import-not-found]
import gc
import os
import sys
from os import getpid

from .._base import environ
from .._base.errors import BlockingNotAllowed, WrongLoop
from .._base.thread_identity import get_ident, in_main_thread, local
from .._loop.backend import Backend
from .._loop.exception_hook import report
from .._loop.interrupts import after_fork
from .._loop.state import LoopState
from .table import BACKENDS, load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_modules = sys.modules
_SIGCHLD = getattr(_signal, "SIGCHLD", _signal.SIGINT)  # not on Windows; SIGINT: never ignored


class _Slot:
    """What a thread has: its core. Closes it when the thread ends."""

    core: LoopState | None = None
    asked: tuple[str, dict[str, Any]] | None = None  # by use()
    aside = False  # what is bound next may run inside another loop

    def __init__(self) -> None:
        self.pid = getpid()
        # of loops that are open and may run again, while another one of this thread runs
        self.resting: list[LoopState] = []

    def set_aside(self) -> tuple[Any, ...]:
        """Begin anew; return what there was, for :meth:`take_back`."""
        before = (self.core, self.asked, self.aside, self.resting)
        self.asked = None
        self.aside = True
        self.resting = []
        return before

    def take_back(self, before: tuple[Any, ...]) -> LoopState | None:
        """Have again what was set aside; return the core, which the caller puts back."""
        core: LoopState | None
        core, self.asked, self.aside, self.resting = before
        return core

    def forget_choice(self) -> None:
        """Leave the next loop to detection."""
        self.asked = None

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if is_finalizing():
            return
        for core in (self.core, *self.resting):
            if core is None:
                continue
            if self.pid != getpid():
                _inherited.append(core)  # of another thread of the parent, which a fork ends here
            else:
                core.close()
                thread_state.__dict__.pop("slot", None)  # set aside: nothing else drops it


# `slot`, once it was asked for, and `core`, the same as slot.core, one attribute nearer; both are
# missing until then. Not a class derived from `local`: reading it would take twice as long.
thread_state: Any = local()
_main_core: LoopState | None = None  # the newest live core of the main thread


# ---------------------------------------------------------------------- the binding


def thread_slot() -> _Slot:
    """Return what this thread has."""
    found: _Slot | None = getattr(thread_state, "slot", None)
    if found is None:
        found = thread_state.slot = _Slot()
    return found


def existing_loop() -> LoopState | None:
    """Return this thread's core if there is one, without detecting."""
    return getattr(thread_state, "core", None)


def current_loop(blocking: bool = False) -> LoopState:
    """Return this thread's core, detecting if there is none yet.

    Raises:
        WrongLoop: If another loop than the one bound runs in this thread.
        BlockingNotAllowed: The same, if the caller is about to block.
    """
    core: LoopState | None = getattr(thread_state, "core", None)
    if core is not None:
        if core.is_own_loop:
            size = len(_modules)
            if core.known == size:
                return core  # no other loop was imported
            if core.hostless != size:
                _look_around(core)
            # 200 ns instead of 900 for a program that has imported asyncio without running it
            if core.hostless == size and not asyncio_runs() and not trio_runs():
                return core
        if core.backend.usable():
            foreign = _foreign(core)
            if foreign is None:
                if not core.is_own_loop:
                    _look_around(core)
                return core
            _leave_for(foreign, core, blocking)
        elif core.backend.ended():
            core.close()  # its watchers have ended
        elif not core.closed:
            thread_slot().resting.append(core)
    return _wake() or _bind(blocking)


#: What is imported where a loop may run that hosts the whole process.
_HOSTS = (
    "twisted.internet.reactor",
    "PyQt6.QtCore",
    "PySide6.QtCore",
    "gi.repository.GLib",
    "tkinter",
)


def _look_around(core: LoopState) -> None:
    """Note how many modules there are, if none of them is another loop that may run here.

    As long as there are no more, it need not be asked whether one runs.
    """
    size = len(_modules)
    asks = core.is_own_loop and not core.aside
    hostless = -1 if asks and any(name in _modules for name in _HOSTS) else size
    rivals = "asyncio" in _modules or "trio" in _modules
    core.note_modules(-1 if rivals else hostless, hostless)


def _wake() -> LoopState | None:
    """Return the core of the loop that runs now, if this thread was bound to it before."""
    place = thread_slot()
    for core in place.resting.copy():
        if core.closed or core.backend.ended():
            place.resting.remove(core)
            core.close()
        elif core.backend.usable():
            place.resting.remove(core)
            _take_up(core)
            return core
    return None


def _take_up(core: LoopState) -> None:
    """Make *core* this thread's."""
    global _main_core
    thread_slot().core = core
    thread_state.core = core
    if in_main_thread():
        _main_core = core


def main_core() -> LoopState | None:
    """Return the core of the main thread."""
    return _main_core


def put_back(core: LoopState | None, main: LoopState | None) -> None:
    """Make *core* this thread's, or leave it without one.

    In the main thread *main* is its newest from now on; another thread has no say in that.
    """
    global _main_core
    thread_slot().core = core
    if core is not None:
        thread_state.core = core
    elif existing_loop() is not None:
        del thread_state.core
    if in_main_thread():
        _main_core = main


# Found once the module is there, and then kept: asyncio's function, trio's thread-local object.
_running_loop: Callable[[], Any] | None = None
_run_context: Any = None


#: Loops that another loop, the one that serves the thread, runs inside its callbacks.
guests: Any = ()


def asyncio_runs(guest: bool = False) -> bool:
    """Return whether an asyncio loop runs in this thread; a guest counts if *guest* is true."""
    global _running_loop
    if _running_loop is None:
        _running_loop = getattr(_modules.get("asyncio.events"), "_get_running_loop", None)
        if _running_loop is None:
            return False
    running = _running_loop()
    return running is not None and (guest or running not in guests)


def add_guest(loop: object) -> None:
    """Make known that *loop* runs inside callbacks of the loop that serves the thread.

    For authors of loops whose waiting is done by ``ae_core``: while *loop* is asyncio's running
    loop, watchers and the rules for ``recv()`` follow the loop below it. Kept weakly.
    """
    global guests
    from weakref import WeakSet

    if not guests:
        guests = WeakSet()
    guests.add(loop)


def trio_runs() -> bool:
    """Return whether trio runs in this thread, other than as the guest of another loop."""
    global _run_context
    if _run_context is None:
        _run_context = getattr(_modules.get("trio._core._run"), "GLOBAL_RUN_CONTEXT", None)
    runner = getattr(_run_context, "runner", None)
    # a guest's host is the loop that runs: ours, or one that is found by itself
    return runner is not None and not getattr(runner, "is_guest", False)


def _trio_ends() -> bool:
    """Return whether the main task of the run of trio has ended, which calls us at its end."""
    return getattr(_run_context.runner, "main_task_outcome", None) is not None


def _foreign(core: LoopState) -> str | None:
    """Return the name of a loop that runs in this thread and is not that of *core*."""
    ours = core.backend.name
    if ours != "asyncio" and asyncio_runs():
        return "asyncio"
    if ours != "trio" and trio_runs() and not (core.aside and _trio_ends()):
        return "trio"
    if core.is_own_loop and core.hostless == -1:
        from .needs import running_host

        return running_host()
    return None


# Cores whose loop has ended in the middle of something: closed when the next one is bound.
_ended: list[LoopState] = []


def _unbind(core: LoopState, idle: bool) -> None:
    """Called by the backend: its loop has ended, with none of our callbacks under way if *idle*."""
    if core.closed or core in _ended or core.thread != get_ident():
        return
    if existing_loop() is core:
        del thread_state.core
        thread_slot().core = None
    if core in thread_slot().resting:
        thread_slot().resting.remove(core)
    core.call_ends()
    if idle:
        core.close()
        return
    _ended.append(core)
    for other in list(core.operations):
        if getattr(other, "kind", "") in ("signal", "child"):
            other.cancel()  # what is process-wide is given back now


def _bind(blocking: bool = False) -> LoopState:
    for core in _ended.copy():
        if core.thread == get_ident():
            _ended.remove(core)
            core.close()
    asked = thread_slot().asked
    if asked is not None:
        name, options = asked
        return bind(load(name), "asked for by use()", options)
    cls, reason = _choose()
    return bind(cls, reason, {}, chosen=reason.startswith("AE_BACKEND"))


#: Called when the next loop is bound: services of our own, which move there.
on_next_binding: list[Callable[[], object]] = []


def bind(
    cls: type[Backend], reason: str, options: dict[str, Any], *, chosen: bool = True
) -> LoopState:
    """Bind this thread to a new backend of *cls* and return its core.

    If it was *chosen* it is not left for another loop that runs here.
    """
    core = LoopState(report, chosen, thread_slot().aside)
    backend = cls(core.on_deadline, **options)
    backend.reason = reason
    core.attach(backend)
    backend.on_ended = lambda idle: _unbind(core, idle)
    backend.on_quit = lambda: core.call_ends(quits=True)
    backend.on_run_ended = _release_signals
    _look_around(core)
    foreign = _foreign(core)
    if foreign is not None:
        core.close()
        raise WrongLoop(
            f"the {foreign} loop runs in this thread, but {backend.name} was {reason}: "
            f"call ae_core.use({foreign!r}), or leave the choice to detection"
        )
    _take_up(core)
    while on_next_binding:
        on_next_binding.pop()()
    if in_main_thread() and _signal.getsignal(_SIGCHLD) == _signal.SIG_IGN:
        # inherited from a parent that ignores it: the kernel would throw statuses away
        _signal.signal(_SIGCHLD, _signal.SIG_DFL)
    _after_detection()
    return core


def _release_signals() -> None:
    """Finish what signal watchers could not finish while the loop ran."""
    signals = _modules.get("ae_core._sources.signals")
    if signals is not None:
        signals.release_wakeup()


def _choose() -> tuple[type[Backend], str]:
    wanted = environ.get("AE_BACKEND")
    if wanted:
        try:
            return load(wanted), f"AE_BACKEND={wanted}"
        except (ImportError, ValueError) as error:
            from .._base.log import log

            log("error", "AE_BACKEND=%s: %s; choosing by myself", wanted, error, context="ae_core")
    for spec in BACKENDS:
        why = spec.live()
        if why is not None:
            return load(spec.name), why
    return load("loop"), "nothing else runs or is loaded"


def cached_time() -> float | None:
    """Return the time at which the loop of this thread woke up; None if there is no live loop."""
    core = existing_loop()
    return None if core is None or core.closed else core.backend.now()


def leave(core: LoopState) -> None:
    """End the binding to a loop that nothing needs; services of our own move to the next."""
    from .needs import services_of

    services = services_of(core)
    if existing_loop() is core:
        put_back(None, None if main_core() is core else main_core())
    core.close()
    on_next_binding.extend(service.move for service in services)


def _leave_for(foreign: str, core: LoopState, blocking: bool) -> None:
    """Leave the loop of *core* for *foreign*, which runs in this thread.

    Raises:
        WrongLoop, BlockingNotAllowed: It is needed, or was chosen.
    """
    ours = core.backend.name
    text = (
        f"the {foreign} loop runs in this thread, but the thread is bound to the {ours} loop "
        f"({core.backend.reason})"
    )
    if core.runner.blocked:
        text += f", inside a recv() of which {foreign} was started: its watchers stand still"
    elif core.is_own_loop and not core.chosen:
        from .needs import alive

        needs = alive(core)
        if not needs:
            leave(core)
            return
        text += (
            f", where {len(needs)} {'is' if len(needs) == 1 else 'are'} alive: "
            f"{'; '.join(needs[:5])}{' ...' if needs[5:] else ''}: end that first, "
            f"call ae_core.release(), or ae_core.use({foreign!r}) before the first watcher"
        )
    else:
        text += f": call ae_core.release() first, or ae_core.use({foreign!r}) from the beginning"
    if blocking:
        raise BlockingNotAllowed(f"{text}; recv() would stop it: use 'await cv' there")
    raise WrongLoop(text)


# ---------------------------------------------------------------------- public


def detect() -> Backend:
    """Return this thread's backend, choosing it if that was not done yet.

    Its ``name`` and ``reason`` say what was chosen and why.

    Raises:
        WrongLoop: If another loop runs in this thread than the one it is bound to.

    Perl: ``AnyEvent::detect``
    """
    try:
        core: LoopState = thread_state.core
        if core.known != len(_modules):
            core = current_loop()  # another loop may run here
    except AttributeError:
        core = current_loop()
    return core.backend


def backend() -> str | None:
    """Return the name of this thread's backend, None if none was chosen yet.

    Perl: ``$AnyEvent::MODEL``
    """
    core = existing_loop()
    if core is None or core.closed or not core.backend.usable():
        return None
    return core.backend.name


def use(name: str, **options: Any) -> None:
    """Choose this thread's backend, before its first watcher.

    Args:
        name: ``"loop"``, ``"asyncio"``, ``"trio"`` ... or one that an installed package
            registered in the entry-point group ``ae_core.backends``.
        options: For the backend, such as ``loop_factory`` for ``asyncio``.

    A loop that was chosen is not left for another. So where another one runs in this thread
    (asyncio, trio, Twisted, GLib, Qt, Tk) and the built-in loop was chosen, watchers raise
    :class:`WrongLoop`.

    Raises:
        ValueError: If no such backend is known.
        BackendUnavailable: If its library is not installed.
        RuntimeError: If the thread has another backend already. The same one again is fine.

    Perl: ``PERL_ANYEVENT_MODEL``, ``use EV; use AnyEvent``
    """
    if not isinstance(name, str):
        raise TypeError(f"expected a backend's name, got {name!r}")
    core = existing_loop()
    if core is not None and not core.closed and core.backend.usable():
        if core.backend.name == name:
            return
        load(name)  # a bad name is the more important mistake
        raise RuntimeError(
            f"this thread uses the {core.backend.name} backend already "
            f"({core.backend.reason}); call use({name!r}) before the first watcher"
        )
    load(name)
    thread_slot().asked = (name, options)


_AIDS = ("AE_STRICT", "AE_VERBOSE", "AE_LOG", "AE_DEBUG_WRAP", "AE_DEBUG_SHELL")
_aids_done = False


#: The callbacks of ``post_detect``, each with a key of its own, in the order they were given.
waiting: list[tuple[object, Callable[[], object]]] = []


def nothing() -> None:
    """Do nothing."""


#: Set by ``_wiring``: starts the debugging aids that the environment asks for.
on_first_detection: Callable[[], None] = nothing


def _after_detection() -> None:
    """Strict mode, logging, wrapping, shell, then the hooks: in this order (CORE-96)."""
    global _aids_done
    if not _aids_done:
        _aids_done = True
        if any(map(environ.get, _AIDS)):
            on_first_detection()
    hooks = waiting.copy()
    waiting.clear()
    for _, callback in hooks:
        try:
            callback()
        except Exception as error:
            report(error, existing_loop(), None)


def main_loop() -> LoopState:
    """Return the newest live core of the main thread; from any thread.

    Raises:
        RuntimeError: There is none.
    """
    core = _main_core
    if core is None or core.closed:
        raise RuntimeError("the main thread has no event loop yet, or its loop has ended")
    return core


# ---------------------------------------------------------------------- fork


# What a forked child has of its parent's loops, and a reference to itself: see below.
_inherited: list[Any] = []


def _after_fork_in_child() -> None:
    """Start afresh in a child: the parent's watchers have ended here, and go on in the parent."""
    global _main_core
    core = existing_loop()
    if core is not None:
        after_fork(core)
        del thread_state.core
        thread_slot().core = None
    resting = thread_slot().resting
    cores = [
        each
        for each in (core, _main_core, *resting, *_ended, *_inherited)
        if isinstance(each, LoopState)
    ]
    resting.clear()
    _ended.clear()
    _main_core = None
    for each in dict.fromkeys(cores):
        if not each.closed:
            _inherited.extend(each.leave_to_parent())
    if cores and _inherited[0] is not _inherited:
        # A coroutine of the parent's runs its `finally` when it goes, at the latest when the
        # interpreter ends. So it never goes: a list that contains itself is only found by the
        # garbage collector, and that never looks at what is frozen.
        _inherited.insert(0, _inherited)
    if cores:
        gc.freeze()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
